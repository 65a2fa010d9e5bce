"""The watch as the controller runs it: in a separate thread, whatever fails around it."""

import time
from contextlib import closing

import pytest

from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.ports import free_ports
from barmill.platform.sqlite_file import if_ready
from barmill.platform.tls import TlsFiles
from control.flink.rest import FlinkRest
from control.monitoring.history import History
from control.monitoring.metrics import Metric
from control.monitoring.watch import background_monitoring

TIMEOUT_S = 20
EVERY_S = 0.05


@pytest.fixture
def flink(home: Home) -> FlinkRest:
    """A client of a cluster that is not there."""
    [port] = free_ports(1)
    return FlinkRest(port, home.run / "submit.lock", TlsFiles(home.tls))


def measured(home: Home) -> set[Metric]:
    with if_ready(), closing(History.read_only(home)) as history:
        return {reading.metric for reading in history.latest(time.time_ns() // 1_000_000)}
    return set()


def test_it_measures_what_there_is_and_ends_with_its_block(home: Home, flink: FlinkRest) -> None:
    with background_monitoring(home, flink, watch_every_s=EVERY_S):
        assert wait_until(lambda: {Metric.ANSWERS, Metric.FREE_BYTES} <= measured(home), TIMEOUT_S)
    with closing(History.read_only(home)) as history:
        ended_ms = history.newest_ms()
        assert not wait_until(lambda: history.newest_ms() != ended_ms, 6 * EVERY_S)


def test_it_goes_on_when_the_disk_takes_its_file_again(
    home: Home, flink: FlinkRest, caplog: pytest.LogCaptureFixture
) -> None:
    home.monitor_db.mkdir()  # nothing can be written there
    with background_monitoring(home, flink, watch_every_s=EVERY_S):
        assert wait_until(lambda: "skipped one round" in caplog.text, TIMEOUT_S)
        home.monitor_db.rmdir()
        assert wait_until(lambda: Metric.FREE_BYTES in measured(home), TIMEOUT_S)
