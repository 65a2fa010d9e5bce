"""Homes of earlier versions: they open, continue from their savepoint, and hold what the log says.

Each archive beside this file was made by tests/upgrade/make_home.py in a checkout of that version.
"""

import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from barmill.storage.query import BarQuery
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from barmill.storage.verification import verify
from control.flink.rest import FlinkRest
from control.jobs.specs import BARS_PROGRAM
from tests.cluster.conftest import TIMEOUT_S, Steering
from tests.upgrade.make_home import JOB, KEY, SECRET, STOPPED_JOB

ARCHIVES = sorted(Path(__file__).parent.glob("home-*.tar.gz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path, shared_home: Home) -> Home:
    """A home of an earlier version, in a new place, with the checkpoints of the shared cluster."""
    with tarfile.open(request.param) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # new in Python 3.11.4
        packed.extractall(tmp_path)
    home = Home(tmp_path / "home")
    with closing(sqlite3.connect(home.control_db)) as db:
        [[path]] = db.execute("SELECT path FROM savepoints LIMIT 1")
        before = path.removeprefix("file:").split("/flink/savepoints/")[0]
        for table, column in (("savepoints", "path"), ("operations", "savepoint")):
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, str(home.root)))
        db.commit()
    (home.flink / "checkpoints").symlink_to(shared_home.flink / "checkpoints")
    return home.create()


@pytest.fixture
def steering(old: Home, shared_flink: FlinkRest) -> Iterator[Steering]:
    steering = Steering(old, shared_flink, BARS_PROGRAM)
    yield steering
    steering.end()


def test_a_job_resumes_from_the_savepoint_of_an_earlier_version(steering: Steering) -> None:
    home = steering.home
    [savepoint] = steering.repository.savepoints(JOB)
    with TickLog.read_only(home.ticks_db) as log:
        end = log.end_sequence()
    before = read_to(home)
    assert before < end
    steering.done(steering.service.start(JOB))
    assert steering.run(JOB).restored_from == savepoint.path
    assert steering.view(STOPPED_JOB).state == "STOPPED"
    assert wait_until(lambda: read_to(home) == end, TIMEOUT_S)
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.different, verdict.examples) == (0, [])
    assert verdict.bars > 200
    # 5s and 5m were made by another job, which stopped earlier: what came after that shows there, too.
    with closing(BarReader.open(home.bars_db)) as reader:
        for name in reader.instruments():
            newest = [reader.read(BarQuery(name, frame, newest=1)) for frame in reader.offered_frames(name)]
            assert len({bar["last_tick_ms"][0] for bar in newest}) == 1, newest


def test_a_key_of_an_earlier_version_opens(old: Home) -> None:
    with KeyStore.open(old, Actor("ada")) as keys:
        assert keys.reveal(KEY) == SECRET


def read_to(home: Home) -> int:
    with closing(BarReader.open(home.bars_db)) as reader:
        return max((shard.next_sequence for shard in reader.progress() if shard.job == JOB), default=0)
