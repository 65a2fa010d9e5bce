"""Fixtures of the control plane's tests."""

from collections.abc import Iterator

import pytest

from control.keys import settings
from tests.openbao import OpenBao, running_openbao


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A real OpenBao for all tests; each takes a transit key or a secret of its own."""
    with running_openbao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
