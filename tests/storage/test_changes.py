"""The sequence of changes: what a reader learns after a cursor, and when it has to start again."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.frames import Frame
from barmill.model.pieces import BEGIN_MS
from barmill.storage.bar_damage import salvage
from barmill.storage.bar_store import BarStore
from barmill.storage.bar_upkeep import remove_oldest
from barmill.storage.changes import Cursor
from barmill.storage.reader import BarReader
from tests.support.rollup import MINUTE_MS, NAME, progress, read, seconds, stored

SECOND, MINUTE = Frame(1_000), Frame(60_000)
FOR_EVER_MS = 2**60


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Cursor,
        st.binary(max_size=8).map(bytes.hex),
        st.integers(0, 10**18 - 1),
        st.none() | st.integers(-(10**17), 10**17),
        st.lists(st.tuples(st.sampled_from(["1s", "90s", "1w"]), st.integers(-(2**62), 2**62)), max_size=3).map(tuple),
    )
)
def test_a_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


def changed(reader: BarReader, frame: Frame, since: Cursor) -> pl.DataFrame:
    found = reader.changed_since(NAME, frame, since, -FOR_EVER_MS)
    assert found is not None
    return found.bars


def test_a_long_bar_that_closes_without_a_change_is_among_the_changes(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    with closing(stored(path, seconds((0, 1.0), (1, 2.0)), done=progress(MINUTE_MS + 2_000))) as reader:
        cursor = reader.cursor(NAME, MINUTE).after(read(reader, "1m"))
        assert read(reader, "1m")["state"].to_list() == ["forming"]
        with closing(BarStore.open(path)) as store:
            store.publish(progress(MINUTE_MS + 61_000))
        assert replace(reader.cursor(NAME, MINUTE), open_from_ms=MINUTE_MS) == cursor  # no bar was written
        bars = changed(reader, MINUTE, cursor)
        assert bars["state"].to_list() == ["closed"]
        assert changed(reader, MINUTE, reader.cursor(NAME, MINUTE).after(bars)).height == 0


def test_bars_that_retention_writes_are_changes(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    table = seconds((0, 1.0), (1, 2.0), (70, 3.0), (200, 4.0))
    with closing(stored(path, table)) as reader, closing(BarStore.open(path)) as store:
        cursor = reader.cursor(NAME, MINUTE)
        assert changed(reader, MINUTE, cursor).height == 0
        remove_oldest(store.db, NAME, SECOND, MINUTE, MINUTE_MS + 120_000, 100)
        pieces = reader.cursor(NAME, MINUTE).pieces
        written = changed(reader, MINUTE, replace(cursor, pieces=pieces))
        assert written["start_ms"].to_list() == [MINUTE_MS, MINUTE_MS + 60_000]


def test_bars_of_other_pieces_take_the_place_of_all_that_were_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    with closing(stored(path, seconds((0, 1.0), (70, 3.0), (200, 4.0)))) as reader:
        cursor = reader.cursor(NAME, MINUTE)
        assert cursor.pieces == (("1s", BEGIN_MS),)
        for now, complete_from_ms in (
            ((("1s", BEGIN_MS),), None),
            ((("1m", BEGIN_MS), ("1s", MINUTE_MS + 30_000)), 0),
            ((("1s", BEGIN_MS), ("1m", MINUTE_MS + 30_000)), MINUTE_MS),
            ((("1s", BEGIN_MS), ("1s", MINUTE_MS + 30_000)), None),
            ((), 0),
        ):
            found = reader.changed_since(NAME, MINUTE, replace(cursor, pieces=now), 0)
            assert found is not None
            assert found.complete_from_ms == complete_from_ms
            assert found.bars.height == (0 if complete_from_ms is None else 3)


def test_a_publication_without_bars_has_no_number(tmp_path: Path) -> None:
    with closing(stored(tmp_path / "bars.sqlite", seconds((0, 1.0)))) as reader:
        cursor = reader.cursor(NAME, MINUTE)
        with closing(BarStore.open(tmp_path / "bars.sqlite")) as store:
            store.publish(progress(), seconds().clear().with_columns(state=pl.lit("closed")))
        assert reader.cursor(NAME, MINUTE) == cursor


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A store of the version before this sequence."""
    path = tmp_path / "bars.sqlite"
    stored(path, seconds((0, 1.0), (60, 2.0))).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE bars DROP COLUMN change")
        db.execute("DROP TABLE change_sequence")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'number_changes'")
    return path


def test_the_sequence_of_an_older_store_begins_with_its_next_publication(older: Path) -> None:
    with closing(BarReader.open(older)) as reader:
        cursor = reader.cursor(NAME, MINUTE)
        assert (len(cursor.store), cursor.change) == (16, 0)
        assert not older.with_name(f"{older.name}-wal").stat().st_size  # the migration is in the file itself
        assert read(reader, "1m")["ticks"].to_list() == [1, 1]
        assert changed(reader, MINUTE, cursor).height == 0
        stored(older, seconds((61, 3.0))).close()
        assert changed(reader, MINUTE, cursor)["ticks"].to_list() == [2]
        assert reader.changed_since(NAME, MINUTE, Cursor(), 0) is None


def test_a_rebuilt_store_has_another_name_and_continues_the_sequence(tmp_path: Path) -> None:
    damaged, rebuilt = tmp_path / "bars.sqlite", tmp_path / "rebuilt.sqlite"
    for second in range(3):
        stored(damaged, seconds((second, 1.0))).close()
    salvage(damaged, rebuilt)
    with closing(BarReader.open(damaged)) as before, closing(BarReader.open(rebuilt)) as reader:
        assert before.cursor(NAME, MINUTE).change == reader.cursor(NAME, MINUTE).change == 3
        assert reader.changed_since(NAME, SECOND, before.cursor(NAME, SECOND), 0) is None
        assert changed(reader, SECOND, reader.cursor(NAME, SECOND)).height == 0
        stored(rebuilt, seconds((7, 1.0))).close()
        assert changed(reader, SECOND, replace(reader.cursor(NAME, SECOND), change=3))["start_ms"].to_list() == [
            MINUTE_MS + 7_000
        ]
