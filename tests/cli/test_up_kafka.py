"""`up --kafka` with everything real: a broker of the home's own, and ticks and bars that go through it."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import free_ports
from barmill.platform.process_table import read_pid_file
from tests.support.shipping import messages_by_partition
from tests.support.up import PROGRAMS, TIMEOUT_S, Barmill, kill, newest_tick_ms

KAFKA_PROGRAMS = PROGRAMS | {"kafka", "shipper", "materialiser"}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def barmill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Barmill]:
    """A running Barmill with Kafka."""
    [port] = free_ports(1)
    barmill = Barmill(Home(tmp_path_factory.mktemp("up") / "home"), port)
    try:
        done = barmill.call("up", "--kafka", "--detach", "--no-browser", "--port", str(port))
        assert done.returncode == 0, done.stderr + done.stdout
        assert "  Kafka" in done.stdout
        yield barmill
    finally:
        barmill.call("down")


def test_ticks_and_bars_go_through_the_broker_of_the_home(barmill: Barmill) -> None:
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)
    status = barmill.status()
    assert {process["name"] for process in status["processes"]} == KAFKA_PROGRAMS
    assert status["kafka_problem"] == ""
    settings = KafkaSettings.read(barmill.home)
    assert settings.own_broker
    assert set(messages_by_partition(settings)) == set(range(settings.partitions))
    job = json.loads(barmill.call("job", "show", "bars", "--json").stdout)
    assert (job["spec"]["source"], job["spec"]["sink"]) == ("kafka", "kafka")


def test_bars_go_on_after_the_broker_hung_and_after_it_was_killed(barmill: Barmill) -> None:
    noted = read_pid_file(barmill.home.run / "kafka.pid")
    assert noted
    os.kill(noted.pid, signal.SIGSTOP)
    try:
        assert wait_until(lambda: "wait in the local log" in barmill.status()["kafka_problem"], TIMEOUT_S, every_s=1)
        said = barmill.call("status").stdout
        assert "Kafka: Kafka does not respond; " in said
    finally:
        os.kill(noted.pid, signal.SIGCONT)
    assert wait_until(lambda: barmill.status()["kafka_problem"] == "", TIMEOUT_S, every_s=1)

    kill(barmill.home, "kafka")
    killed_ms = time.time_ns() // 1_000_000
    assert wait_until(lambda: newest_tick_ms(barmill.home) > killed_ms, TIMEOUT_S)
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)


def test_down_stops_the_broker_too_and_a_plain_up_goes_on_with_kafka(barmill: Barmill) -> None:
    done = barmill.call("down")
    assert (done.returncode, done.stdout) == (0, "Everything is stopped.\n")
    assert barmill.processes() == []
    again = barmill.up()
    assert again.returncode == 0, again.stderr + again.stdout
    assert wait_until(barmill.bars_move, TIMEOUT_S, every_s=1)
    assert {process["name"] for process in barmill.status()["processes"]} == KAFKA_PROGRAMS
