"""The watch as the controller keeps it: in a thread of its own, whatever goes wrong around it."""

import sqlite3
import time
from contextlib import closing

import pytest

from bar.sqlite_file import StoreMissingError
from control.flink.rest import FlinkRest
from control.home import Home
from control.machine.ports import free_ports
from control.machine.tls import TlsFiles
from control.monitor.history import History
from control.monitor.metrics import Metric
from control.monitor.watch import watching
from control.waiting import wait_until

TIMEOUT_S = 20
EVERY_S = 0.05


@pytest.fixture
def flink(home: Home) -> FlinkRest:
    """A client of a cluster that is not there."""
    [port] = free_ports(1)
    return FlinkRest(port, home.run / "submit.lock", TlsFiles(home.tls))


def measured(home: Home) -> set[Metric]:
    try:
        with closing(History.read_only(home)) as history:
            return {one.metric for one in history.latest(time.time_ns() // 1_000_000)}
    except (StoreMissingError, sqlite3.OperationalError):  # not there yet, or its tables are not
        return set()


def test_it_measures_what_there_is_and_ends_with_its_block(home: Home, flink: FlinkRest) -> None:
    with watching(home, flink, watch_every_s=EVERY_S):
        assert wait_until(lambda: {Metric.ANSWERS, Metric.FREE_BYTES} <= measured(home), TIMEOUT_S)
    with closing(History.read_only(home)) as history:
        ended_ms = history.newest_ms()
        assert not wait_until(lambda: history.newest_ms() != ended_ms, 6 * EVERY_S)


def test_it_goes_on_when_the_disk_takes_its_file_again(
    home: Home, flink: FlinkRest, caplog: pytest.LogCaptureFixture
) -> None:
    home.monitor_db.mkdir()  # nothing can be written there
    with watching(home, flink, watch_every_s=EVERY_S):
        assert wait_until(lambda: "had to leave one look out" in caplog.text, TIMEOUT_S)
        home.monitor_db.rmdir()
        assert wait_until(lambda: Metric.FREE_BYTES in measured(home), TIMEOUT_S)
