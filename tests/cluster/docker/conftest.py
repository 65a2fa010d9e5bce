"""A real Docker engine, or a word that there is none."""

from collections.abc import Iterator

import pytest

from barmill.platform.ports import free_ports
from tests.browser.conftest import chromium as chromium
from tests.support.project import Project, missing


@pytest.fixture(scope="module", params=["", "kafka"], ids=["sqlite", "kafka"])
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    """Everything of one profile, up and well."""
    if why_not := missing():
        pytest.skip(why_not)
    with Project(f"barmill-test-{request.param or 'sqlite'}", free_ports(1)[0], request.param).running() as project:
        yield project
