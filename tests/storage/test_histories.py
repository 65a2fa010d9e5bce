"""No frame that is not fed hides or falsifies anything, whatever becomes of the jobs."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barmill.model.frames import parse_frame
from barmill.model.progress import shard_of
from barmill.storage.bar_store import BarStore
from barmill.storage.bar_upkeep import MoveSizes
from barmill.storage.reader import BarQuery
from tests.support.histories import INSTRUMENTS, LATENESS_MS, History, opened
from tests.support.history_views import Views, clock_of
from tests.support.ticks import START_MS

_EXAMPLES = int(os.environ.get("HISTORIES", "4"))
# Of the frames, so many parts are looked at in turn after each event, and all at the end.
_PARTS = int(os.environ.get("HISTORY_PARTS", "12"))
_JOBS = {"bars": "1s,1m,1h", "fives": "5s,5m", "minutes": "1m,15m", "odd": "2m,3m,1h"}
_WAITS_MS = {"bars": LATENESS_MS, "fives": 60_000, "minutes": 5_000, "odd": LATENESS_MS}
_FRAMES = ["1s,1m,1h", "1m,1h", "1s", "5s,1m,5m", "15m"]

_names = st.sampled_from([*_JOBS])
_rows = st.lists(
    st.tuples(
        # How much later than the newest tick so far: mostly on, sometimes late, sometimes too late.
        st.sampled_from(
            [0, 1, 900, 3_000, 9_000, 30_000, 200_000, 4_000_000, -500, -4_000, -15_000, -LATENESS_MS, -60_000]
        ),
        st.sampled_from(INSTRUMENTS),
        st.integers(1, 9).map(float),
        st.sampled_from([1.0, 2.0, 3.0]),
    ),
    min_size=1,
    max_size=8,
)
_lagging = st.sets(_names, max_size=2)
_events = st.one_of(
    *[st.tuples(st.just("arrive"), _rows, _lagging)] * 5,
    st.tuples(st.just("poll"), _names, st.sampled_from([None, None, 0, 1])),
    st.tuples(st.just("create"), _names, st.integers(1, 2)),
    st.tuples(st.just("start"), _names, st.sampled_from([0, 0, 0, 1, 3, None])),
    st.tuples(st.just("stop"), _names),
    st.tuples(st.just("delete"), _names),
    st.tuples(st.just("edit"), _names, st.sampled_from(_FRAMES)),
    st.tuples(st.just("drop"), st.integers(1, 40)),
    st.tuples(st.just("move"), st.integers(1, 3), st.integers(1, 3), st.integers(3, 9)),
    st.tuples(st.just("set back"), st.sampled_from([50, 1_000, 90_000])),
    st.tuples(st.just("remove"), st.sampled_from([("1s", "1m"), ("1s", "1h"), ("1m", "1h"), ("5s", "5m")])),
)


def happen(history: History, event: tuple[object, ...], at_ms: int) -> int:
    """Let one event happen; return the newest time so far."""
    history.clock_ms += 100
    match event:
        case ("arrive", list() as rows, set() as lagging):
            arriving = []
            for after_ms, name, price, volume in rows:
                arriving.append((at_ms + after_ms, name, price, volume))
                at_ms = max(at_ms, at_ms + after_ms)
            history.arrive(arriving)
            for name in sorted(_JOBS.keys() - lagging):
                history.poll(name)
        case ("poll", str(name), behind):
            history.poll(name, behind)  # type: ignore[arg-type]
        case ("create", str(name), int(shards)):
            history.create(name, _JOBS[name], shards, _WAITS_MS[name])
            history.start(name)
        case ("start", str(name), back):
            history.start(name, back)  # type: ignore[arg-type]
        case ("stop", str(name)):
            history.stop(name)
        case ("delete", str(name)):
            history.delete(name)
        case ("edit", str(name), str(frames)):
            history.edit(name, frames)
        case ("drop", int(sequence)):
            history.drop(sequence)
        case ("remove", (str(frame), str(into))):
            history.remove(frame, into, 60_000)
        case ("set back", int(by_ms)):
            history.clock_ms -= by_ms
        case ("move", int(keep), int(least), int(block)):
            history.move(MoveSizes(keep, least, block))
        case _:
            raise AssertionError(event)
    return at_ms


@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from([("bars", "fives"), ("bars",), ()]), st.lists(_events, min_size=4, max_size=24))
def test_whatever_becomes_of_jobs_every_frame_is_what_the_ticks_make(
    first: Sequence[str], events: Sequence[tuple[object, ...]]
) -> None:
    with TemporaryDirectory() as folder, opened(Path(folder)) as history, clock_of(history):
        views = Views(history)
        for name in first:
            history.create(name, _JOBS[name], 1, _WAITS_MS[name])
            history.start(name)
        at_ms = happen(history, ("arrive", [(0, "A", 2.0, 1.0)], set()), 0)
        for step, event in enumerate(events):
            at_ms = happen(history, event, at_ms)
            history.check(step, _PARTS)
            views.look(step, _PARTS)
        history.check()
        views.look()


def usual_and_stopped(history: History) -> None:
    """Let a job of 5s and 5m run in addition to the usual one for a while, then only the usual one."""
    history.create("bars", "1s,1m,1h")
    history.create("fives", "5s,5m")
    history.start("bars")
    history.start("fives")
    for first in range(0, 90, 6):
        history.arrive(
            [(n * 60_000 + at, "A", 1.0 + n, 1.0) for n in range(first, first + 6) for at in (0, 7_000, 55_000)]
        )
        history.poll("bars")
        if first < 42:
            history.poll("fives")


def test_a_job_that_finds_all_it_has_not_read_dropped_is_not_trusted_there(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        for name, frames in (("bars", "1s,1m"), ("fives", "5s,5m")):
            history.create(name, frames)
            history.start(name)
        history.arrive([(0, "A", 1.0, 1.0)])
        history.poll("bars")
        history.arrive([(200_000, "A", 2.0, 1.0)])
        history.poll("fives")
        history.drop(99)
        history.poll("bars")
        assert history.reader.read(BarQuery("A", parse_frame("5m")))["ticks"].sum() == 2
        assert history.check() > 0  # nothing holds the lost tick in bars of 1s


def lost_between(history: History, frames: str, then: str) -> None:
    """Let two jobs, one after the other, miss a tick of A that was dropped; the second one sees other ticks only."""
    history.create("first", frames)
    history.start("first")
    history.arrive([(0, "A", 1.0, 1.0)])
    history.poll("first")
    history.arrive([(29_500, "A", 2.0, 1.0)])
    history.drop(99)
    history.create("second", then)
    history.start("second")
    history.arrive([(60_000, "D", 1.0, 1.0)])
    history.poll("second")


def test_a_frame_that_holds_no_bar_at_all_may_be_the_one_that_was_read_furthest(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        lost_between(history, "1m", "1s")
        assert history.reader.bars("A", "1m")["ticks"].to_list() == [1]
        assert history.check() > 0


def test_a_second_job_with_the_same_gap_does_not_vouch_for_the_first(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        history.arrive([(0, "A", 1.0, 1.0)])
        history.drop(99)
        for name, frames, at_ms in (("first", "1m", 9_000), ("second", "1m,15m", 500_000)):
            history.create(name, frames)
            history.start(name)
            history.arrive([(at_ms, "A", 2.0, 1.0), (at_ms + 100_000, "A", 3.0, 1.0)])
            history.poll(name)
        assert history.reader.bars("A", "1m")["ticks"][0] == 1  # and it lacks one
        assert history.check() > 0


@pytest.mark.parametrize("name", ["A", "D"])
def test_a_shard_that_was_behind_is_not_trusted_while_others_are(tmp_path: Path, name: str) -> None:
    with opened(tmp_path) as history:
        history.create("first", "1s,1m", shards=2)
        history.start("first")
        history.arrive([(0, "B", 1.0, 1.0)])
        history.poll("first")
        history.arrive([(70_000, "A", 1.0, 1.0), (70_000, "D", 1.0, 1.0), (71_000, "B", 1.0, 1.0)])
        history.poll("first", behind=shard_of(name, 2))
        history.drop(99)
        history.arrive([(80_000, "A", 2.0, 1.0), (80_000, "D", 2.0, 1.0)])
        history.poll("first")
        [found] = history.reader.bars(name, "1m")["ticks"]
        assert found == 1
        assert history.check() > 0
        for other in {"A", "D"} - {name}:
            assert not any(piece.doubtful for piece in history.reader.pieces(other, parse_frame("1m")))


def test_seams_that_speak_for_every_instrument_are_read_as_before(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        lost_between(history, "1m", "1s")
        [doubtful, *_] = [piece for piece in history.reader.pieces("A", parse_frame("1m")) if piece.doubtful]
        db = history.store.db
        with db.atomic():
            db.execute("INSERT INTO seams SELECT frame, '', -(1 << 62), to_ms FROM shard_seams")
            db.execute("DELETE FROM _sqlite_migrations WHERE name = 'tell_seams_of_shards_apart'")
            db.execute("DROP TABLE shard_seams")
        assert doubtful in history.reader.pieces("A", parse_frame("1m"))
        BarStore.open(tmp_path / "bars.sqlite", durable=False).close()
        assert doubtful in history.reader.pieces("A", parse_frame("1m"))


@pytest.mark.parametrize("old", [False, True])
def test_a_job_that_never_saw_an_instrument_does_not_hide_its_last_bars(tmp_path: Path, old: bool) -> None:
    with opened(tmp_path) as history:
        both, late = [(0, "A", 1.0, 1.0), (0, "D", 1.0, 1.0)], [(700_000, "A", 1.0, 1.0)]
        for name, frames, rows in (("bars", "1s,1m", both), ("fives", "5m", late)):
            history.create(name, frames)
            history.start(name)
            history.arrive(rows)
            history.poll(name)
            history.drop(99)
        query = BarQuery("D", parse_frame("5m"))
        if old:
            make_old(history)
            assert history.reader.read(query)["ticks"].to_list() == [1]
            BarStore.open(tmp_path / "bars.sqlite", durable=False).close()
        assert history.reader.read(query)["ticks"].to_list() == [1]


def test_a_job_that_waits_longer_finds_less_that_is_final(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        history.create("first", "1m")
        history.start("first")
        history.arrive([(0, "A", 1.0, 1.0), (100_000, "A", 2.0, 1.0)])
        history.poll("first")
        history.drop(99)
        history.create("second", "1m,15m")
        history.jobs["second"].spec = history.jobs["second"].spec.model_copy(update={"lateness_ms": 300_000})
        history.start("second")
        history.arrive([(5_000, "A", 3.0, 1.0)])
        history.poll("second")
        [first, _] = history.reader.bars("A", "1m")["ticks"]
        assert first == 1  # of two that it would have, had the second job read both
        [doubtful] = [piece for piece in history.reader.pieces("A", parse_frame("1m")) if piece.doubtful]
        assert doubtful.from_ms <= START_MS < doubtful.to_ms


def test_what_is_too_late_for_the_dropped_ticks_does_not_change_bars_that_were_final(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        history.create("first", "1m")
        history.start("first")
        history.arrive([(0, "A", 1.0, 1.0), (200_000, "A", 2.0, 1.0)])
        history.poll("first")
        history.drop(99)
        history.create("second", "1m,15m")
        history.start("second")
        history.arrive([(130_000, "A", 3.0, 1.0)])
        history.poll("first")
        history.poll("second")
        assert history.reader.bars("A", "1m").height == 3  # one of them of a tick that was too late
        history.check()


def test_short_bars_that_lack_ticks_are_not_trusted_as_long_ones_either(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        history.create("minutes", "1m,1h")
        history.create("seconds", "1s")
        history.start("minutes")
        history.start("seconds")
        history.arrive([(0, "A", 1.0, 1.0)])
        history.poll("minutes")
        history.drop(99)
        history.arrive([(20_000, "A", 1.0, 1.0), (70_000, "A", 1.0, 1.0), (500_000, "A", 2.0, 1.0)])
        history.poll("seconds")
        history.delete("seconds")
        history.create("both", "1s,1m")
        history.remove("1s", "1m", 60_000)
        assert history.reader.bars("A", "1m")["ticks"].to_list() == [1, 1]
        assert history.check() > 0


@pytest.mark.parametrize("then", ["stop", "delete"])
def test_a_stopped_frame_does_not_stand_still(tmp_path: Path, then: str) -> None:
    with opened(tmp_path) as history:
        usual_and_stopped(history)
        history.stop("fives") if then == "stop" else history.delete("fives")
        for frame in ("5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h"):
            newest = history.reader.read(BarQuery("A", parse_frame(frame), newest=1))
            assert newest["close"].to_list() == [90.0], frame
        assert history.check() == 0


def make_old(history: History) -> None:
    """Make the bar store what version 0.1 wrote."""
    db = history.store.db
    with db.atomic():
        db.execute(
            "DELETE FROM _sqlite_migrations"
            " WHERE name IN ('know_what_is_covered', 'tell_seams_of_shards_apart', 'record_positions')"
        )
        for table in ("coverage", "positions", "positions_thinned", "seams", "shard_seams"):
            db.execute(f"DROP TABLE {table}")
        for column in ("begun_sequence", "missing_to_ms"):
            db.execute(f"ALTER TABLE progress DROP COLUMN {column}")


def test_a_store_of_the_first_version_is_read_as_it_is_and_after_its_migration(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        usual_and_stopped(history)
        make_old(history)
        assert len(history.reader.progress()) == 2
        assert history.check() == 0
        BarStore.open(tmp_path / "bars.sqlite", durable=False).close()
        assert history.check() == 0


@pytest.mark.parametrize("old", [False, True])
def test_the_first_bars_of_a_job_that_came_when_ticks_were_gone_are_not_trusted(tmp_path: Path, old: bool) -> None:
    with opened(tmp_path) as history:
        history.create("bars", "1s,1m,1h")
        history.start("bars")
        for first in range(0, 700, 70):
            history.arrive([(second * 1_000, "A", 1.0 + second, 1.0) for second in range(first, first + 70, 7)])
        history.poll("bars")
        history.drop(history.ticks.height // 2)
        history.create("fives", "5m")
        history.start("fives")
        history.poll("fives")
        if old:
            make_old(history)
            BarStore.open(tmp_path / "bars.sqlite", durable=False).close()
        [partial, *_] = history.reader.bars("A", "5m").filter(pl.col("ticks") > 5)["ticks"]
        assert partial < 43  # what is stored, and must not be shown
        assert history.check() == 0


@pytest.mark.parametrize(("minutes_wait_ms", "fives_wait_ms"), [(5_000, 60_000), (60_000, 5_000), (60_000, 60_000)])
def test_a_closed_bar_as_of_a_time_is_the_one_that_was_shown_then(
    tmp_path: Path, minutes_wait_ms: int, fives_wait_ms: int
) -> None:
    with opened(tmp_path) as history, clock_of(history):
        views = Views(history)
        for name, frame, wait_ms in (("minutes", "1m", minutes_wait_ms), ("fives", "5s", fives_wait_ms)):
            history.create(name, frame, lateness_ms=wait_ms)
            history.start(name)
        history.arrive([(0, "D", 1.0, 1.0), (45_000, "D", 1.0, 1.0)])
        history.poll("minutes")
        history.poll("fives")
        history.arrive([(25_000, "D", 1.0, 1.0), (50_000, "D", 1.0, 1.0)])
        history.poll("minutes")
        if minutes_wait_ms != fives_wait_ms:
            history.poll("fives")
        views.look()
        history.arrive([(200_000, "D", 1.0, 1.0)])  # closes the minute that was forming then
        history.poll("minutes")
        views.look()
