"""Where many instruments stand at one moment."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from barmill.model.frames import parse_frame
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database
from barmill.storage.bar_store import BarStore
from barmill.storage.latest import closes, latest_prices, newest_bars
from barmill.storage.reader import BarReader
from tests.support.histories import opened
from tests.support.stores import Stores
from tests.support.ticks import START_MS

NOON_MS = 1_764_072_000_000  # 2025-11-25 12:00:00 UTC
AT_MS = NOON_MS + 10_500
S1, M1, H1 = (parse_frame(text) for text in ("1s", "1m", "1h"))
SPANS_MS = {"change_1m": 60_000, "change_1h": 3_600_000}
RATE_MS = (NOON_MS, NOON_MS + 10_000)


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    stores = Stores(home)
    stores.write(
        [
            (AT_MS - 3_700_000, "AAA", 7.0, None),  # more than an hour ago
            (AT_MS - 61_000, "AAA", 8.0, None),  # in the last second that had ended a minute ago
            (AT_MS - 60_100, "AAA", 9.0, None),  # this second had not
            (NOON_MS + 9_900, "AAA", 9.5, None),
            (NOON_MS + 10_100, "AAA", 10.0, None),  # in a second that is not over
            (NOON_MS + 5_000, "BBB", 2.0, None),
            (NOON_MS + 5_100, "BBB", 3.0, None),
        ],
        closed_to_ms=AT_MS,
    )
    stores.close()
    reader = BarReader.open(home.bars_db)
    yield reader.db
    reader.close()


def test_each_instrument_stands_at_its_last_price_and_where_it_was_before(db: Database) -> None:
    found = latest_prices(db, ["BBB", "AAA", "ZZZ"], (S1, M1, H1), AT_MS, RATE_MS, SPANS_MS)
    assert found.rows() == [
        ("BBB", 3.0, NOON_MS + 5_100, 2, None, None),
        ("AAA", 10.0, NOON_MS + 10_100, 1, 8.0, 7.0),
        ("ZZZ", None, None, 0, None, None),
    ]


def test_an_earlier_price_comes_from_longer_bars_where_the_short_ones_are_gone(home: Home, db: Database) -> None:
    with Database(home.bars_db).conn as connection:
        connection.execute("DELETE FROM bars WHERE frame = '1s' AND start_ms < ?", (NOON_MS,))
    found = latest_prices(db, ["AAA"], (S1, M1, H1), NOON_MS + 61_000, RATE_MS, SPANS_MS)
    assert found.rows() == [("AAA", 10.0, NOON_MS + 10_100, 1, 9.0, 7.0)]


def test_closes_are_those_of_the_newest_bars(db: Database) -> None:
    found = closes(db, ["AAA", "BBB", "ZZZ"], S1, AT_MS - 60_500, count=2)
    assert found.rows() == [("AAA", 9.5), ("AAA", 10.0), ("BBB", 3.0)]
    assert closes(db, ["AAA"], S1, AT_MS - 1_500, count=9)["close"].to_list() == [9.5, 10.0]


def test_the_newest_bars_of_all_are_those_of_each(home: Home, db: Database) -> None:
    found = newest_bars(db, ["BBB", "AAA"], S1, count=2)
    reader = BarReader.open(home.bars_db)
    assert found.equals(pl.concat([reader.newest("BBB", "1s", 2), reader.newest("AAA", "1s", 2)]))
    reader.close()


def test_no_query_reads_more_than_it_gives_out(tmp_path: Path) -> None:
    BarStore.open(tmp_path / "bars.sqlite").close()
    reader = BarReader.open(tmp_path / "bars.sqlite")
    asked = list[str]()
    reader.db.conn.set_trace_callback(asked.append)
    latest_prices(reader.db, ["AAA"], (S1, M1), AT_MS, RATE_MS, SPANS_MS)
    closes(reader.db, ["AAA"], S1, NOON_MS, 9)
    newest_bars(reader.db, ["AAA"], S1, 9)
    reader.db.conn.set_trace_callback(None)
    queries = [query for query in asked if query not in ("BEGIN", "COMMIT")]
    assert len(queries) >= 3
    for query in queries:
        steps = [row[3] for row in reader.db.conn.execute(f"EXPLAIN QUERY PLAN {query}")]
        on_bars = [step for step in steps if "bar" in step or step.startswith("SEARCH b ")]
        assert on_bars
        assert all("(instrument=? AND frame=?" in step for step in on_bars), steps
    reader.close()


def test_a_short_frame_that_is_not_made_any_more_hides_no_newer_price(tmp_path: Path) -> None:
    with opened(tmp_path) as history:
        history.create("fast", "1s")
        history.create("bars", "1m,1h")
        history.start("fast")
        history.start("bars")
        for minute in range(10):
            history.arrive([(minute * 60_000, "A", 1.0 + minute, 1.0)])
            history.poll("bars")
            if minute < 4:
                history.poll("fast")
        frames, at_ms = history.reader.current_frames_first("A"), START_MS + 10 * 60_000
        assert frames == [M1, H1, S1]
        found = latest_prices(
            history.reader.db, ["A"], frames, at_ms, (at_ms - 80_000, at_ms), {"m2": 120_000, "m8": 480_000}
        )
        assert found.rows() == [("A", 10.0, START_MS + 540_000, 1, 8.0, 2.0)]
        before = history.reader.current_frames()
        history.poll("fast")
        assert history.reader.current_frames() - before == {S1}
