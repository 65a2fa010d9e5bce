"""Positions of jobs at earlier times: exact for an hour; after it, it stays known which job was ahead."""

from contextlib import closing
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.frames import parse_frame
from barmill.platform.sqlite_file import Database, immediate
from barmill.storage.bar_store import BarStore
from barmill.storage.cover_records import AS_OF_SQL
from barmill.storage.reader import BarQuery
from tests.support.histories import History, opened
from tests.support.history_views import clock_of
from tests.support.store import PROGRESS

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
START_MS = 1_700_000_000_000

KEYS = ("bars", "fives", "odd")
steps = st.lists(
    st.tuples(
        st.sampled_from([1, 250, 1_000, 20_000, 59_000, MINUTE_MS]),
        st.sampled_from(KEYS),
        st.sampled_from([0, 1, 2, 7, 40]),
    ),
    min_size=1,
    max_size=60,
)
Reached = dict[str, int]


def reached(db: Database, at_ms: int) -> Reached:
    """Return by job the sequence that a reader finds as of a time."""
    return {str(row[0]): int(row[6]) for row in db.conn.execute(AS_OF_SQL, (at_ms,))}


def write(store: BarStore, job: str, sequence: int, at_ms: int) -> None:
    with immediate(store.db):
        store.write_progress(replace(PROGRESS, job=job, next_sequence=sequence), at_ms)


def order_of(found: Reached, some: str, other: str) -> tuple[bool, bool] | None:
    return (found[some] > found[other], found[other] > found[some]) if {some, other} <= found.keys() else None


@settings(max_examples=60, deadline=None)
@given(steps)
def test_which_job_was_ahead_stays_known_when_positions_are_thinned_out(steps: list[tuple[int, str, int]]) -> None:
    with TemporaryDirectory() as folder, closing(BarStore.open(Path(folder) / "bars.sqlite", durable=False)) as store:
        now, at_ms, history = dict.fromkeys(KEYS, 1), START_MS, list[tuple[int, Reached]]()
        for after_ms, job, read in steps:
            at_ms, now[job] = at_ms + after_ms, now[job] + read
            write(store, job, now[job], at_ms)
            history.append((at_ms, {**(history[-1][1] if history else {}), job: now[job]}))
        for asked_ms, true in history:
            assert reached(store.db, asked_ms) == true
        write(store, "later", 1, at_ms + 2 * HOUR_MS)
        for some, other in combinations(KEYS, 2):
            orders = [(asked_ms, order_of(true, some, other)) for asked_ms, true in history]
            for asked_ms, order in orders:
                changes = sum(
                    before != after
                    for (_, before), (when_ms, after) in pairwise(orders)
                    if when_ms // MINUTE_MS == asked_ms // MINUTE_MS
                )
                found = reached(store.db, asked_ms)
                assert found.keys() - {"later"} == dict(history)[asked_ms].keys()
                if changes <= 2:
                    assert order_of(found, some, other) == order


def test_two_jobs_that_report_often_leave_few_old_positions(tmp_path: Path) -> None:
    with closing(BarStore.open(tmp_path / "bars.sqlite", durable=False)) as store:
        with immediate(store.db):
            for number in range(4 * 3_600):
                for job in ("bars", "fives"):
                    progress = replace(PROGRESS, job=job, next_sequence=number + 2)
                    store.write_progress(progress, START_MS + number * 1_000 + 500 * (job == "fives"))
        [rows] = store.db.conn.execute("SELECT count(*) FROM positions").fetchone()
        assert 2 * 3_600 <= rows <= 2 * (3_600 + 60) + 3 * 60 * 6


def two_running(history: History, from_ms: int, to_ms: int, *names: str) -> None:
    for at_ms in range(from_ms, to_ms, 500):
        history.arrive([(at_ms, "A", 1.0 + at_ms / 1e6, 1.0)])
        for name in names:
            history.poll(name)


def test_a_job_that_stopped_long_ago_hides_no_bar_of_that_time(tmp_path: Path) -> None:
    """It has an exact last position, and those of the job that ran on are thinned out."""
    with opened(tmp_path) as history, clock_of(history):
        for name, frame in (("seconds", "1s"), ("fives", "5s")):
            history.create(name, frame)
            history.start(name)
        two_running(history, 0, 20_000, "seconds", "fives")
        two_running(history, 20_000, 59_500, "seconds")
        query = BarQuery("A", parse_frame("5s"), as_of_ms=history.clock_ms - 9_000)
        known = history.reader.read(query)
        assert known["ticks"].sum() > 90
        two_running(history, 2 * HOUR_MS, 2 * HOUR_MS + 1_000, "seconds")
        # The newest bar was forming: when exactly the next tick came is not known any more.
        assert history.reader.read(query).drop("state").equals(known.drop("state"))


def test_progress_without_advance_adds_no_position(tmp_path: Path) -> None:
    store = BarStore.open(tmp_path / "bars.sqlite", durable=False)
    for at_ms in range(START_MS, START_MS + 5_000, 1_000):
        with immediate(store.db):
            store.write_progress(PROGRESS, at_ms)
    assert store.db.conn.execute("SELECT count(*) FROM positions").fetchone() == (1,)
    store.close()


def test_a_read_as_of_a_time_does_not_go_through_all_positions(tmp_path: Path) -> None:
    store = BarStore.open(tmp_path / "bars.sqlite", durable=False)
    plan = [text for *_, text in store.db.conn.execute(f"EXPLAIN QUERY PLAN {AS_OF_SQL}", (0,))]
    assert [text for text in plan if text.startswith("SCAN")] == ["SCAN coverage"]
    store.close()


def two_jobs(history: History) -> None:
    """Let a job of 5s bars be behind one of 1s bars, and read on after one look at both."""
    for name, frame in (("seconds", "1s"), ("fives", "5s")):
        history.create(name, frame)
        history.start(name)
    history.arrive([(0, "A", 1.0, 1.0), (1_000, "A", 2.0, 1.0)])
    history.poll("seconds")
    history.poll("fives")
    history.arrive([(2_000, "A", 3.0, 1.0), (9_000, "A", 4.0, 1.0)])
    history.poll("seconds")


def test_a_store_without_positions_is_read_before_and_after_its_migration(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        two_jobs(history)
        query = BarQuery("A", parse_frame("5s"))
        expected = history.reader.read(query)
        db = history.store.db
        with db.atomic():
            db.execute("DELETE FROM _sqlite_migrations WHERE name = 'record_positions'")
            for table in ("positions", "positions_thinned"):
                db.execute(f"DROP TABLE {table}")
            db.execute("ALTER TABLE coverage DROP COLUMN recorded_from_ms")
        long_after_ms = 4_000_000_000_000
        assert history.reader.read(replace(query, as_of_ms=long_after_ms)).equals(expected)
        BarStore.open(tmp_path / "bars.sqlite", durable=False).close()
        assert history.reader.read(replace(query, as_of_ms=long_after_ms)).equals(expected)
        # Before the migration the positions are unknown, and estimated.
        [(recorded_ms,)] = {*db.conn.execute("SELECT recorded_from_ms FROM coverage")}
        assert history.reader.read(replace(query, as_of_ms=recorded_ms - 1)).equals(expected)
        assert db.conn.execute("SELECT count(*), min(at_ms) FROM positions").fetchone() == (2, recorded_ms)
        # Those of the migration stay when later ones are thinned out.
        with clock_of(history):
            history.clock_ms = recorded_ms + 20_000
            from_ms = history.clock_ms - START_MS
            two_running(history, from_ms, from_ms + 20_000, "seconds")
            then = replace(query, as_of_ms=history.clock_ms)
            closed = history.reader.read(then).filter(pl.col("end_ms") < history.clock_ms - 2_000)
            assert closed.height > 3
            later_ms = from_ms + 2 * HOUR_MS
            two_running(history, later_ms, later_ms + 1_000, "seconds")
            found = history.reader.read(then)
            assert found.filter(pl.col("start_ms").is_in(closed["start_ms"].to_list())).equals(closed)
