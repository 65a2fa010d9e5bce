"""Crashes with Kafka in the loop: whatever is killed, no bar changes, and no committed version of a bar comes twice."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from barmill.kafka.shipper_status import kafka_problem
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import choose_ports
from barmill.platform.sqlite_file import if_ready
from barmill.storage.reader import BarReader
from barmill.storage.verification import verify
from control.kafka.broker import prepare
from control.processes.supervisor import Supervisor
from control.system.readiness import cluster_of, programs, set_child_environment
from tests.support.crash import (
    KILLS,
    TICKS_PER_S,
    flow_goes_on,
    kill_in_turn,
    logged,
    read_the_rest,
    states,
    write_recording,
)
from tests.support.kafka import assert_each_version_once, versions
from tests.support.kafka_broker import committed
from tests.support.small_disk import fill, small_disk

# More than the kills take on a slow machine; what is left after them is read as fast as it can be.
SECONDS = 600
TIMEOUT_S = 180
BROKER_DISK_MB = 512
KILLS_WITH_KAFKA = [*KILLS, ("kafka",), ("materialiser", "taskmanager"), ("shipper", "kafka"), ("jobmanager",)]


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, Supervisor]]:
    """Run everything but the pages, with a separate broker, over a recording at its original speed."""
    for name in ("BARMILL_HOME", "PYTHONPATH", "PYTHONUNBUFFERED", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")  # put back afterwards
    home = Home(tmp_path / "home").create()
    with small_disk(home.root / "kafka", BROKER_DISK_MB), running(home, tmp_path) as supervisor:
        yield home, supervisor


@contextmanager
def running(home: Home, tmp_path: Path) -> Iterator[Supervisor]:
    recording = write_recording(tmp_path / "ticks.parquet", TICKS_PER_S, SECONDS, too_late=1e-4)
    feed = FeedSettings(provider="replay", files=(recording,), speed=1.0)
    (home.root / feed.file_name).write_text(feed.model_dump_json())
    ports = choose_ports(home)
    kafka = prepare(home, ports, KafkaSettings())
    cluster_of(home, ports).write_files()
    set_child_environment(home)
    supervisor = Supervisor(home)
    try:
        supervisor.start(
            [program for program in programs(home, ports, feed, kafka) if program.name != "app"], ends_with_parent=True
        )
        yield supervisor
    finally:
        supervisor.stop()


def rejected(home: Home) -> int:
    with if_ready():
        return BarReader.open(home.bars_db).reject_count()
    return 0


def full_for_a_while(home: Home) -> None:
    """Have the broker's disk run full, and make room again; nothing happens where no small disk may be mounted."""
    if not (home.root / "kafka").is_mount():
        return
    assert flow_goes_on(home)
    filler = fill(home.root / "kafka")
    # Kafka ends where it cannot write, and ends again whenever it is started.
    assert wait_until(lambda: kafka_problem(home).endswith(" ticks wait in the local log."), TIMEOUT_S)
    before = logged(home)
    assert wait_until(lambda: logged(home) > before + 5 * TICKS_PER_S, TIMEOUT_S)  # the feed continues
    filler.unlink()
    assert flow_goes_on(home)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_kills_with_kafka_change_no_bar_and_tell_nothing_twice(live: tuple[Home, Supervisor]) -> None:
    home, supervisor = live
    kill_in_turn(home, supervisor, KILLS_WITH_KAFKA)
    full_for_a_while(home)
    count = TICKS_PER_S * SECONDS
    read_the_rest(home, supervisor, count)
    assert wait_until(lambda: "forming" not in states(home), TIMEOUT_S)
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.different, verdict.examples) == (0, [])
    assert verdict.in_bars + rejected(home) == count
    assert verdict.late == rejected(home) > 0

    kafka = KafkaSettings.read(home)
    refused = [json.loads(message.value() or b"{}").get("sequence") for message in committed(kafka, "rejects")]
    sequences = [sequence for sequence in refused if sequence is not None]
    assert len(sequences) == len(set(sequences)) == verdict.late
    found = versions(kafka)
    assert_each_version_once(found)
    newest = {key: (state, revision, ticks) for key, state, revision, ticks in found}
    stored = pl.concat(BarReader.open(home.bars_db).all_bars())
    table = stored.select("instrument", "frame", "start_ms", "state", "revision", "ticks")
    assert newest == {row[:3]: row[3:] for row in table.rows()}
    closed = sum(state != "forming" for _, state, _, _ in found)
    with sqlite3.connect(home.bars_db) as db:
        assert db.execute("SELECT count(*) FROM bar_revisions").fetchone() == (closed - stored.height,)
