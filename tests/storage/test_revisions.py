"""Looking through revisions and rejects of a store that a real shard has filled."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from barmill.model.frames import parse_frame
from barmill.model.tick import as_rejects
from barmill.platform.sqlite_file import Database, open_for_reading
from barmill.storage import changes, rejects
from barmill.storage.bar_store import BarStore
from barmill.storage.reader import BarQuery, BarReader
from barmill.storage.tick_log import TickLog
from tests.support.shard import Market
from tests.support.ticks import START_MS

FROM_MS, LONG = 0, 10**14


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """Bars of A and B; both of B were revised twice, one of A once, and two ticks of A came too late."""
    market = Market(tmp_path)
    market.arrive((100, "A", 1.0), (200, "B", 2.0), complete_to=90_000)
    market.arrive((80_000, "A", 1.5), (300, "A", 1.25), (400, "B", 2.5))
    market.arrive((350, "B", 2.25), (30_000, "A", 1.75), complete_to=95_000)
    market.arrive((85_000, "A", 1.5), (10, "A", 9.0), complete_to=96_000)
    yield market
    market.assert_true_to_the_log()
    market.log.close()
    market.store.close()


@pytest.fixture
def db(market: Market) -> Iterator[Database]:
    opened = open_for_reading(market.spec.bars_db)
    yield opened
    opened.conn.close()


def test_the_most_revised_instruments_come_first(db: Database) -> None:
    found = changes.revisions_by_instrument(db, FROM_MS, 5)
    assert found.rows() == [("B", 4, 2), ("A", 1, 1)]
    assert changes.revisions_by_instrument(db, FROM_MS, 1).height == 1
    assert changes.revisions_by_instrument(db, time.time_ns() // 1_000_000 + 1_000, 5).height == 0


def test_how_long_after_its_end_each_bar_changed(db: Database) -> None:
    found = changes.revision_delays(db, FROM_MS, 100)
    assert set(found["frame"]) == {"1s", "1m"}
    # The bars are of 2023 and were changed now.
    assert min(found["delay_ms"]) > 86_400_000
    assert changes.revision_delays(db, FROM_MS, 1).height == 1


def test_the_versions_superseded_last_come_first(db: Database) -> None:
    found = changes.latest_revisions(db, FROM_MS, 100)
    assert found["superseded_ms"].is_sorted(descending=True)
    assert set(found["instrument"]) == {"A", "B"}
    assert set(changes.latest_revisions(db, FROM_MS, 100, "B")["instrument"]) == {"B"}
    assert changes.latest_revisions(db, FROM_MS, 2).height == 2
    assert changes.latest_revisions(db, LONG, 100).height == 0


def test_a_bars_history_ends_with_what_it_says_now(market: Market) -> None:
    with closing(BarReader.open(market.spec.bars_db)) as reader:
        versions = reader.history("B", "1s", START_MS)
        assert versions["revision"].to_list() == [0, 1, 2]
        assert versions["ticks"].to_list() == [1, 2, 3]
        assert versions["state"].to_list() == ["closed", "revised", "revised"]
        assert versions[-1:].equals(reader.bars("B", "1s", START_MS, START_MS + 1))
        assert reader.history("B", "1s", 7).height == 0


def test_too_late_ticks_are_counted_and_shown_as_they_came(db: Database) -> None:
    assert rejects.counts(db, FROM_MS, LONG).rows() == [(0, "too_late", 2)]
    found = rejects.samples(db, rejects.RejectFilter(), 10)
    shown = found.select("source", "instrument", "reason", "late_ms").rows()
    assert sorted(shown) == [("market", "A", "too_late", 79_700), ("market", "A", "too_late", 84_990)]
    assert rejects.samples(db, rejects.RejectFilter(instrument="B"), 10).height == 0
    assert rejects.samples(db, rejects.RejectFilter(reason="future"), 10).height == 0


def test_ticks_in_the_bars_are_the_same_for_every_frame(market: Market) -> None:
    with closing(BarReader.open(market.spec.bars_db)) as reader:
        totals = {frame: ticks for frame, (_, ticks) in reader.totals().items()}
        assert {frame: reader.ticks_in(frame) for frame in totals} == totals == {"1s": 7, "1m": 7}


def test_rejects_of_the_log_are_found_by_reason_instrument_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_ms = 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: clock_ms * 1_000_000)
    with TickLog.open(tmp_path / "log" / "ticks.sqlite") as log:
        log.start_source("file", live=False)
        none = log.newest(1)
        for reason, instrument in (("bad_time", "A"), ("bad_time", "B"), ("duplicate", "A"), ("bad_time", "A")):
            refused = as_rejects(pl.DataFrame({"line": [clock_ms], "reason": [reason], "instrument": [instrument]}))
            log.append("file", none, refused, read=1, cursor="", complete_to_ms=None)
            clock_ms += 1_000
        found = rejects.samples(log.db, rejects.RejectFilter(), 3)
        assert found["line"].to_list() == [1_003_000, 1_002_000, 1_001_000]
        wanted = rejects.RejectFilter(1_000_500, "bad_time", "A")
        assert rejects.samples(log.db, wanted, 9)["line"].to_list() == [1_003_000]
        assert rejects.counts(log.db, 1_001_000, 2_000).rows() == [
            (1_000_000, "bad_time", 1),
            (1_002_000, "bad_time", 1),
            (1_002_000, "duplicate", 1),
        ]


def queries(db: Database) -> list[Callable[[], object]]:
    return [
        lambda: rejects.counts(db, 1, 60_000),
        lambda: rejects.samples(db, rejects.RejectFilter(1), 10),
        lambda: rejects.samples(db, rejects.RejectFilter(1, "too_late"), 10),
        lambda: rejects.samples(db, rejects.RejectFilter(1, None, "A"), 10),
        lambda: rejects.samples(db, rejects.RejectFilter(1, "too_late", "A"), 10),
        lambda: changes.revisions_by_instrument(db, 1, 10),
        lambda: changes.revision_delays(db, 1, 10),
        lambda: changes.latest_revisions(db, 1, 10),
        lambda: changes.latest_revisions(db, 1, 10, "A"),
        lambda: BarReader(db).activity(["A"], "1s", 1),
        lambda: BarReader(db).ticks_in("1m"),
        lambda: BarReader(db).history("A", "1s", 1),
    ]


def reads(db: Database) -> list[Callable[[], object]]:
    reader, ranges = BarReader(db), ((None, None), (1, LONG))
    asked = [
        BarQuery("A", parse_frame(frame), from_ms, to_ms, as_of_ms, fill, newest=3)
        for frame in ("1s", "5m")
        for from_ms, to_ms in ranges
        for as_of_ms in (None, LONG)
        for fill in (False, True)
    ]

    def changed(text: str) -> object:
        frame = parse_frame(text)
        return reader.changed_since("A", frame, replace(reader.cursor("A", frame), open_from_ms=LONG), 1)

    return [
        lambda: reader.offered_frames("A"),
        lambda: changed("1s"),
        lambda: changed("5m"),
        lambda: [reader.read(query) for query in asked],
    ]


@pytest.mark.parametrize(("made", "tables"), [(queries, {"bars", "rejects"}), (reads, {"bars", "bar_revisions"})])
def test_no_query_that_a_page_repeats_reads_a_whole_table(
    market: Market, made: Callable[[Database], list[Callable[[], object]]], tables: set[str]
) -> None:
    db = Database(sqlite3.connect(market.spec.bars_db))
    asked: list[str] = []
    db.conn.set_trace_callback(asked.append)
    for query in made(db):
        query()
    db.conn.set_trace_callback(None)
    assert len(asked) >= len(made(db))
    for statement in asked:
        plan = [row[3] for row in db.conn.execute(f"EXPLAIN QUERY PLAN {statement}")]
        scans = [step for step in plan if step.startswith("SCAN") and tables & set(step.split())]
        assert scans == [], (statement, plan)
    db.conn.close()


def test_older_files_get_their_indexes_when_they_are_next_written(tmp_path: Path) -> None:
    # The indexes of positions and of blocks are as old as their tables.
    made_later = "FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%' AND tbl_name NOT IN ('positions', 'bar_blocks')"
    for path, opened in (
        (tmp_path / "ticks.sqlite", TickLog.open),
        (tmp_path / "bars.sqlite", BarStore.open),
    ):
        opened(path).close()
        with closing(sqlite3.connect(path)) as older, older:
            indexes = [name for (name,) in older.execute(f"SELECT name {made_later}")]
            assert len(indexes) >= 3
            for name in indexes:
                older.execute(f"DROP INDEX {name}")
            older.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'index%'")
        opened(path).close()
        with closing(sqlite3.connect(path)) as newer:
            again = newer.execute(f"SELECT count(*) {made_later}").fetchone()
        assert again == (len(indexes),)
