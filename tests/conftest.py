"""Fixtures that tests of several subjects share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from barmill.platform import ports
from barmill.platform.home import Home
from barmill.secrets import settings
from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from tests.support.openbao import OpenBao, running_openbao

# Before these versions, Python leaves a TLS socket open if the peer resets the connection between connect() and the
# handshake (github.com/python/cpython/issues/113280), as Flink may do when it starts or ends. Only the ssl module has a
# reference to this socket, so our code cannot close it; Python closes it when the error has been handled.
_CLOSES_RESET_TLS = sys.version_info >= (3, 12, 2) or (3, 11, 8) <= sys.version_info < (3, 12)
# Without a remote address: a connection that its peer has already ended.
_RESET_TLS = r"ignore:unclosed <ssl.SSLSocket fd=\d+, family=2, type=1, proto=6, laddr=[^=]+>$:ResourceWarning"


def pytest_configure(config: pytest.Config) -> None:
    """Let no test depend on its Python, on other workers, or on the speed of the machine."""
    if not _CLOSES_RESET_TLS:  # any other unclosed socket still fails a test
        config.addinivalue_line("filterwarnings", _RESET_TLS)
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # a free port may be bound some seconds after it was chosen
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        ports._OWN_RANGE = ports._OWN_RANGE[number::count]
    # Without --hypothesis-seed, every run generates the same inputs.
    same = config.getoption("--hypothesis-seed", None) is None
    hypothesis_settings.register_profile("tests", deadline=None, derandomize=same)
    hypothesis_settings.load_profile("tests")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home of this test alone."""
    return Home(tmp_path / "home").create()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of `shared_flink`, where its logs and checkpoints are."""
    return Home(tmp_path_factory.mktemp("shared") / "home").create()


@pytest.fixture(scope="session")
def shared_flink(shared_home: Home) -> Iterator[FlinkRest]:
    """A real cluster for all tests that do not break it."""
    with private_cluster(shared_home, slots=12) as flink:
        yield flink


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """A real OpenBao for all tests; each takes a separate transit key or secret."""
    with running_openbao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
