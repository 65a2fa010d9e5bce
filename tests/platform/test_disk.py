"""A full disk, as the processes that write meet it: they pause, say so, and resume."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from barmill.platform.clock import wait_until
from barmill.platform.errors import AuditError
from barmill.platform.home import PYTHON_PATH, REPO_ROOT, Home
from barmill.platform.ports import choose_ports
from barmill.platform.sqlite_file import (
    if_ready,
    immediate,
    is_from_full_disk,
    is_full,
    open_for_reading,
    open_for_writing,
)
from control.jobs.views import job_views
from control.system.status import read_status
from tests.support.market_process import running_market
from tests.support.small_disk import fill, small_disk

TIMEOUT_S = 60


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 24) as mounted:
        if not mounted:
            pytest.skip("a small file system can be mounted only by root")
        yield tmp_path / "disk"


def test_errors_of_a_full_disk_are_known_also_as_causes(tmp_path: Path) -> None:
    full, denied = OSError(errno.ENOSPC, "full"), OSError(errno.EACCES, "denied")
    wrapped = AuditError("nothing was done")
    wrapped.__cause__ = full
    assert is_from_full_disk(full, tmp_path)
    assert is_from_full_disk(wrapped, tmp_path)
    assert not is_from_full_disk(denied, tmp_path)
    assert not is_from_full_disk(AuditError("something else"), tmp_path)


def test_a_connection_goes_on_after_a_transaction_for_which_there_was_no_room(disk: Path) -> None:
    db = open_for_writing(disk / "a.sqlite")
    db.conn.execute("CREATE TABLE t (x)")
    filler = fill(disk)
    assert is_full(disk)
    with pytest.raises(sqlite3.OperationalError) as failed, immediate(db):
        db.conn.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
    assert is_from_full_disk(failed.value, disk)
    assert not db.conn.in_transaction
    filler.unlink()
    with immediate(db):
        db.conn.execute("INSERT INTO t VALUES (1)")
    assert db.conn.execute("SELECT count(*) FROM t").fetchone() == (1,)
    db.close()


def test_a_store_that_a_reader_cannot_open_on_a_full_disk_reads_as_not_ready(disk: Path) -> None:
    with closing(open_for_writing(disk / "a.sqlite").conn) as connection:
        connection.execute("CREATE TABLE t (x)")
    filler = fill(disk)
    read = []
    for _ in range(2):
        with if_ready(), closing(open_for_reading(disk / "a.sqlite").conn) as connection:
            read.append(connection.execute("SELECT count(*) FROM t").fetchone())
        filler.unlink(missing_ok=True)
    assert read == [(0,)]


def test_controller_and_market_pause_while_the_disk_is_full(disk: Path) -> None:
    home = Home(disk / "home").create()
    choose_ports(home)
    with controller(home, disk.parent / "controller.log") as process, running_market(home) as market:
        assert wait_until(lambda: bool(job_views(home)), TIMEOUT_S)
        market.wait_for_ticks(1)
        filler = fill(disk)
        said = disk.parent / "controller.log"
        assert wait_until(lambda: "is full; the jobs are not changed" in said.read_text(), TIMEOUT_S)
        assert "is full, so nothing is stored" in read_status(home).disk_problem
        assert not read_status(home).healthy
        filler.unlink()
        market.wait_for_ticks(1)
        seen = job_views(home)[0].observed_ms
        assert wait_until(lambda: job_views(home)[0].observed_ms > seen, TIMEOUT_S)
        assert process.poll() is None
        assert market.process.poll() is None
        assert "Traceback" not in said.read_text()
        assert read_status(home).disk_problem == ""


@contextmanager
def controller(home: Home, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        controller = subprocess.Popen(
            [sys.executable, "-P", "-m", "control.controller", "--home", str(home.root)],
            env={**os.environ, "PYTHONPATH": PYTHON_PATH},
            cwd=REPO_ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield controller
    finally:
        controller.send_signal(signal.SIGTERM)
        controller.wait(TIMEOUT_S)
