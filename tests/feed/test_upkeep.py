"""Upkeep under clocks that jump: nothing unread is dropped, and nothing because a clock is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bar.clock import now_ms
from bar.store import BarStore, Progress
from control.feeds.store import Feeds
from control.home import Home
from control.jobs.book import JobBook
from control.people.roles import FIRST_START, Actor
from control.waiting import wait_until
from feed.feeding import Feeding
from feed.kafka.standing import Standing, write_standing
from feed.settings import FeedSettings
from feed.standing import read_standings
from feed.tick import REJECT_SCHEMA
from feed.ticklog import TickLog
from feed.unread import ALL_IS_READ, Unread, unread
from feed.upkeep import Upkeep, compact
from tests.bars.ticks import ticks

DAY_MS, START_MS = 86_400_000, 1_790_000_000_000
KEPT_DAYS = 7


@dataclass
class Machine:
    """A log whose wall clock a test sets, and whose upkeep is looked at every ten minutes of true time."""

    log: TickLog
    wall_ms: int = START_MS
    passed_s: float = 0.0
    unread: Unread = Unread()  # noqa: RUF009

    def __post_init__(self) -> None:
        self.log.start_source("one", live=True)
        self.start()

    def start(self) -> None:
        self.upkeep = Upkeep(
            self.log.db,
            keep_days=KEPT_DAYS,
            keep_bytes=10**9,
            unread=lambda: self.unread,
            passed_s=lambda: self.passed_s,
        )

    def arrive(self) -> None:
        at_ms = self.wall_ms
        batch = ticks((0, "A", 1.0)).drop("sequence").with_columns(time_ns=pl.lit(at_ms * 1_000_000))
        no_rejects = pl.DataFrame(schema=REJECT_SCHEMA)
        self.log.append("one", batch, no_rejects, read=1, cursor="", complete_to_ms=None)

    def pass_time(self, minutes: int) -> None:
        for _ in range(minutes // 10):
            self.passed_s += 600
            self.wall_ms += 600_000
            self.upkeep.do_what_is_due()

    @property
    def left(self) -> int:
        return int(self.log.db.conn.execute("SELECT coalesce(sum(rows), 0) FROM blocks").fetchone()[0])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine: Machine | None = None
    monkeypatch.setattr("feed.upkeep.COMPACT_BELOW_ROWS", 0)  # each block shall be dropped for itself
    monkeypatch.setattr("feed.upkeep.now_ms", lambda: machine.wall_ms if machine else START_MS)
    monkeypatch.setattr("feed.ticklog.time.time_ns", lambda: 1_000_000 * (machine.wall_ms if machine else START_MS))
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


def test_upkeep_goes_on_after_the_clock_was_set_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feed.upkeep.COMPACT_BELOW_ROWS", 20_000)
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
    machine.unread = Unread(by_running=4, by_any=3)
    machine.pass_time(60)
    machine.pass_time((KEPT_DAYS + 2) * 1_440)
    assert machine.left == 2
    machine.upkeep._keep_bytes = 0
    machine.pass_time(20)
    assert machine.left == 1
    machine.unread = Unread()
    machine.pass_time(10)
    assert machine.left == 1  # a job may go back to a checkpoint of a while ago
    machine.pass_time(10)
    assert machine.left == 0


@settings(max_examples=25, deadline=None)
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
        patch.setattr("feed.upkeep.now_ms", lambda: machine.wall_ms)
        patch.setattr("feed.upkeep.COMPACT_BELOW_ROWS", 0)
        patch.setattr("feed.ticklog.time.time_ns", lambda: 1_000_000 * machine.wall_ms)
        arrived, restarts = list[float](), 0
        for step, value in steps:
            if step == "arrive":
                machine.arrive()
                arrived.append(machine.passed_s)
            elif step == "pass":
                machine.pass_time(value)
            elif step == "jump":
                machine.wall_ms += value
            else:
                machine.start()
                restarts += 1
            # The trusted time may be a day ahead for each process, and twice as fast.
            kept_s = (KEPT_DAYS - 1 - restarts) * 86_400 / 2
            young = sum(machine.passed_s - at_s < kept_s for at_s in arrived)
            assert machine.left >= young


def test_small_blocks_of_any_clock_are_joined(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feed.upkeep.COMPACT_BELOW_ROWS", 20_000)
    machine.arrive()
    machine.wall_ms -= 30 * DAY_MS
    machine.arrive()
    assert compact(machine.log.db, machine.wall_ms + 1) == 2


PROGRESS = Progress("bars", 0, "1s,1m,1h", 300_000, 1, 7, 0, 0, 0, 0, None, False, 0)


def test_unread_is_what_jobs_and_the_shipper_have_not_read(home: Home) -> None:
    assert unread(home) == Unread(ALL_IS_READ, ALL_IS_READ)
    with JobBook.open(home, FIRST_START) as book:
        book.ensure_default_job()
    assert unread(home) == Unread(0, 0)
    store = BarStore.open(home.bars_db)
    shards = JobBook.open(home, FIRST_START).ledger.spec("bars", 1).shards
    for shard in range(shards):
        store.write_progress(Progress(**{**vars(PROGRESS), "shard": shard, "shards": shards}))
        store.db.conn.commit()
    assert unread(home) == Unread(7, 7)
    with JobBook.open(home, Actor.at_command_line()) as book:
        book.clone("bars", "idle")
    assert unread(home) == Unread(7, 0)
    (home.root / "kafka.json").write_text('{"bootstrap": "127.0.0.1:9"}')
    assert unread(home) == Unread(0, 0)
    write_standing(home, Standing(5, "", 0))
    assert unread(home) == Unread(5, 0)


def test_standings_are_written_after_the_clock_was_set_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier_ms = now_ms() - 30 * DAY_MS
    with TickLog.open(home.ticks_db) as log, Feeds.open(home) as feeds:
        feeding = Feeding(home, FeedSettings(), feeds, log)
        feeding.step()
        monkeypatch.setattr("feed.feeding.now_ms", lambda: earlier_ms)

        def written_again() -> bool:
            feeding.step()
            return read_standings(home).at_ms == earlier_ms

        try:
            assert wait_until(written_again, 20.0)
        finally:
            feeding.stop()
