"""Upkeep under clocks that jump: nothing unread is dropped, and nothing because a clock is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from barmill.audit.roles import FIRST_START, Actor
from barmill.ingest.connection.state import read_feed_states
from barmill.ingest.feed_runner import FeedRunner
from barmill.ingest.feeds.feed import Feeds
from barmill.kafka.shipper_status import ShipperStatus, write_shipper_status
from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.maintenance import ALL_IS_READ, LogMaintenance, UnreadFrom, compact
from barmill.storage.tick_log import TickLog
from control.ingest import unread_from
from control.jobs.service import JobService
from tests.support.ticks import ticks

DAY_MS, START_MS = 86_400_000, 1_790_000_000_000
KEPT_DAYS = 7


@dataclass
class Machine:
    """A log whose wall clock a test sets, and whose upkeep is looked at every ten minutes of true time."""

    log: TickLog
    wall_ms: int = START_MS
    monotonic_s: float = 0.0
    unread: UnreadFrom = UnreadFrom()  # noqa: RUF009

    def __post_init__(self) -> None:
        self.log.start_source("one", live=True)
        self.start()

    def start(self) -> None:
        self.upkeep = LogMaintenance(
            self.log.db,
            keep_days=KEPT_DAYS,
            keep_bytes=10**9,
            unread=lambda: self.unread,
            monotonic_s=lambda: self.monotonic_s,
        )

    def arrive(self) -> None:
        at_ms = self.wall_ms
        batch = ticks((0, "A", 1.0)).drop("sequence").with_columns(time_ns=pl.lit(at_ms * 1_000_000))
        no_rejects = pl.DataFrame(schema=REJECT_SCHEMA)
        self.log.append("one", batch, no_rejects, read=1, cursor="", complete_to_ms=None)

    def pass_time(self, minutes: int) -> None:
        for _ in range(minutes // 10):
            self.monotonic_s += 600
            self.wall_ms += 600_000
            self.upkeep.run_due_tasks()

    @property
    def left(self) -> int:
        return int(self.log.db.conn.execute("SELECT coalesce(sum(rows), 0) FROM blocks").fetchone()[0])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine: Machine | None = None
    monkeypatch.setattr("barmill.storage.maintenance.COMPACT_BELOW_ROWS", 0)  # each block shall be dropped for itself
    monkeypatch.setattr("barmill.storage.maintenance.now_ms", lambda: machine.wall_ms if machine else START_MS)
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000 * (machine.wall_ms if machine else START_MS))
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        machine = Machine(log)
        yield machine


def test_a_clock_that_runs_eight_days_ahead_drops_nothing(machine: Machine) -> None:
    for _ in range(3):
        machine.arrive()
        machine.pass_time(30)
    machine.wall_ms += 8 * DAY_MS
    machine.arrive()
    machine.pass_time(60)
    machine.start()
    machine.pass_time(60)
    machine.wall_ms -= 8 * DAY_MS
    machine.arrive()
    machine.pass_time(60)
    assert machine.left == 5


def test_what_is_older_than_the_retention_goes(machine: Machine) -> None:
    machine.arrive()
    machine.pass_time(60)
    machine.arrive()
    machine.pass_time(KEPT_DAYS * 1_440 - 30)
    assert machine.left == 1
    machine.pass_time(60)
    assert machine.left == 0


def test_ticks_of_a_clock_that_was_behind_are_as_young_as_those_before_them(machine: Machine) -> None:
    machine.arrive()
    machine.wall_ms -= 30 * DAY_MS
    machine.arrive()
    machine.wall_ms += 30 * DAY_MS
    machine.pass_time(60)
    assert machine.left == 2


def test_ticks_that_come_while_the_clock_is_behind_for_days_are_kept_as_long(machine: Machine) -> None:
    machine.arrive()
    machine.pass_time(20)
    machine.wall_ms -= 10 * DAY_MS
    machine.pass_time(8 * 1_440)
    machine.arrive()
    machine.wall_ms += 10 * DAY_MS
    machine.pass_time(KEPT_DAYS * 1_440 - 60)
    assert machine.left == 1
    machine.pass_time(120)
    assert machine.left == 0


def test_upkeep_goes_on_after_the_clock_was_set_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barmill.storage.maintenance.COMPACT_BELOW_ROWS", 20_000)
    machine.arrive()
    machine.arrive()
    machine.wall_ms -= 30 * DAY_MS
    machine.pass_time(20)
    machine.arrive()
    machine.pass_time(20)
    assert machine.log.db.table("blocks").count == 1


@pytest.mark.parametrize("wrong_ms", [0, 946_684_800_000])
def test_a_clock_that_starts_in_the_past_does_not_end_retention(machine: Machine, wrong_ms: int) -> None:
    machine.arrive()
    machine.pass_time(20)
    right_ms, machine.wall_ms = machine.wall_ms, wrong_ms
    machine.pass_time(20)
    machine.wall_ms = right_ms + 1_200_000
    machine.pass_time(60 * 24 * 5)
    assert machine.left == 1
    machine.pass_time(60 * 24 * 3)
    assert machine.left == 0


def test_a_time_without_a_process_counts_as_a_day_at_most(machine: Machine) -> None:
    machine.arrive()
    machine.pass_time(60)
    machine.wall_ms += 30 * DAY_MS
    for days in range(KEPT_DAYS):
        assert machine.left == 1, days
        machine.start()
        machine.pass_time(40)
    assert machine.left == 0


def test_what_is_unread_stays_however_old_or_large(machine: Machine) -> None:
    for _ in range(4):
        machine.arrive()
    machine.unread = UnreadFrom(by_running=4, by_any=3)
    machine.pass_time(60)
    machine.pass_time((KEPT_DAYS + 2) * 1_440)
    assert machine.left == 2
    machine.upkeep._keep_bytes = 0
    machine.pass_time(20)
    assert machine.left == 1
    machine.unread = UnreadFrom()
    machine.pass_time(10)
    assert machine.left == 1  # a job may go back to a checkpoint of a while ago
    machine.pass_time(10)
    assert machine.left == 0


@settings(max_examples=25, deadline=None)
@example([("arrive", 0), ("jump", 7 * DAY_MS), ("arrive", 0), ("pass", 20)])
@example([("pass", 10), ("jump", -6 * DAY_MS), ("arrive", 0), ("jump", 7 * DAY_MS), ("pass", 10)])
@given(
    st.lists(
        st.one_of(
            st.just(("arrive", 0)),
            st.tuples(st.just("pass"), st.integers(1, 30).map(lambda n: n * 10)),
            st.tuples(st.just("jump"), st.integers(-20, 20).map(lambda n: n * DAY_MS)),
            st.just(("restart", 0)),
        ),
        max_size=25,
    )
)
def test_no_history_of_clocks_drops_what_is_younger_than_the_retention(steps: list[tuple[str, int]]) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory() as folder,
        TickLog.open(Path(folder) / "ticks.sqlite", durable=False) as log,
    ):
        machine = Machine(log)
        patch.setattr("barmill.storage.maintenance.now_ms", lambda: machine.wall_ms)
        patch.setattr("barmill.storage.maintenance.COMPACT_BELOW_ROWS", 0)
        patch.setattr("time.time_ns", lambda: 1_000_000 * machine.wall_ms)
        arrived, restarts = list[float](), 0
        for step, value in steps:
            if step == "arrive":
                machine.arrive()
                arrived.append(machine.monotonic_s)
            elif step == "pass":
                machine.pass_time(value)
            elif step == "jump":
                machine.wall_ms += value
            else:
                machine.start()
                restarts += 1
            # The trusted time may be a day ahead for each process, and twice as fast.
            kept_s = (KEPT_DAYS - 1 - restarts) * 86_400 / 2
            young = sum(machine.monotonic_s - at_s < kept_s for at_s in arrived)
            assert machine.left >= young


def test_small_blocks_of_any_clock_are_joined(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barmill.storage.maintenance.COMPACT_BELOW_ROWS", 20_000)
    machine.arrive()
    machine.wall_ms -= 30 * DAY_MS
    machine.arrive()
    assert compact(machine.log.db, machine.wall_ms + 1) == 2


PROGRESS = Progress("bars", 0, "1s,1m,1h", 300_000, 1, 7, 0, 0, 0, 0, None, False, 0)


def test_unread_is_what_jobs_and_the_shipper_have_not_read(home: Home) -> None:
    assert unread_from(home) == UnreadFrom(ALL_IS_READ, ALL_IS_READ)
    with JobService.open(home, FIRST_START) as service:
        service.ensure_default_job()
    assert unread_from(home) == UnreadFrom(0, 0)
    store = BarStore.open(home.bars_db)
    shards = JobService.open(home, FIRST_START).repository.spec("bars", 1).shards
    for shard in range(shards):
        store.write_progress(Progress(**{**vars(PROGRESS), "shard": shard, "shards": shards}), at_ms=0)
        store.db.conn.commit()
    assert unread_from(home) == UnreadFrom(7, 7)
    with JobService.open(home, Actor.at_command_line()) as service:
        service.clone("bars", "idle")
    assert unread_from(home) == UnreadFrom(7, 0)
    (home.root / "kafka.json").write_text('{"bootstrap": "127.0.0.1:9"}')
    assert unread_from(home) == UnreadFrom(0, 0)
    write_shipper_status(home, ShipperStatus(5, "", 0))
    assert unread_from(home) == UnreadFrom(5, 0)


def test_standings_are_written_after_the_clock_was_set_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier_ms = now_ms() - 30 * DAY_MS
    with TickLog.open(home.ticks_db) as log, Feeds.open(home) as feeds:
        feeding = FeedRunner(home, FeedSettings(), feeds, log)
        feeding.step()
        monkeypatch.setattr("barmill.ingest.feed_runner.now_ms", lambda: earlier_ms)

        def written_again() -> bool:
            feeding.step()
            return read_feed_states(home).at_ms == earlier_ms

        try:
            assert wait_until(written_again, 20.0)
        finally:
            feeding.stop()
