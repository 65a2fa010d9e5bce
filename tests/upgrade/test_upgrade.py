"""Homes that earlier versions left behind: they open, go on from their savepoint, and hold what the log says.

Each archive beside this file was made by tests/upgrade/make_home.py in a checkout of that version.
"""

import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bar.query import BarQuery
from bar.reader import BarReader
from bar.verification import verify
from control.flink.rest import FlinkRest
from control.home import Home
from control.jobs.specs import BARS_PROGRAM
from control.keys.store import KeyStore
from control.people.roles import Actor
from control.waiting import wait_until
from feed.ticklog import TickLog
from tests.cluster.conftest import TIMEOUT_S, Steering
from tests.upgrade.make_home import JOB, KEY, SECRET, STOPPED_JOB

ARCHIVES = sorted(Path(__file__).parent.glob("home-*.tar.gz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path, shared_home: Home) -> Home:
    """A home of an earlier version, in a new place, with the checkpoints of the shared cluster."""
    with tarfile.open(request.param) as packed:
        packed.extractall(tmp_path, filter="data")
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
    one = Steering(old, shared_flink, BARS_PROGRAM)
    yield one
    one.end()


def test_a_job_resumes_from_the_savepoint_of_an_earlier_version(steering: Steering) -> None:
    home = steering.home
    [savepoint] = steering.ledger.savepoints(JOB)
    with TickLog.read_only(home.ticks_db) as log:
        end = log.end_sequence()
    before = read_to(home)
    assert before < end
    steering.done(steering.book.start(JOB))
    assert steering.run(JOB).restored_from == savepoint.path
    assert steering.view(STOPPED_JOB).state == "STOPPED"
    assert wait_until(lambda: read_to(home) == end, TIMEOUT_S)
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.different, verdict.examples) == (0, [])
    assert verdict.bars > 200
    # 5s and 5m were made by another job, which stopped earlier: what came after that shows there, too.
    with closing(BarReader.open(home.bars_db)) as reader:
        for name in reader.instruments():
            newest = [reader.read(BarQuery(name, frame, newest=1)) for frame in reader.offered(name)]
            assert len({bar["last_tick_ms"][0] for bar in newest}) == 1, newest


def test_a_key_of_an_earlier_version_opens(old: Home) -> None:
    with KeyStore.open(old, Actor("ada")) as keys:
        assert keys.reveal(KEY) == SECRET


def read_to(home: Home) -> int:
    with closing(BarReader.open(home.bars_db)) as reader:
        return max((one.next_sequence for one in reader.progress() if one.job == JOB), default=0)
