"""Fixtures that tests of several subjects share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from control.flink.cluster import private_cluster
from control.flink.rest import FlinkRest
from control.home import Home


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
