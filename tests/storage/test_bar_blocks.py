"""Blocks of bars: bars read the same wherever they are stored."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.bar import BAR_SCHEMA
from barmill.model.frames import Frame, parse_frame
from barmill.storage import bar_blocks, bar_codec, bar_upkeep
from barmill.storage.bar_blocks import BEGIN_MS
from barmill.storage.bar_damage import is_damage, salvage
from barmill.storage.bar_store import BarStore
from barmill.storage.bar_upkeep import MoveSizes, move_oldest, remove_oldest
from barmill.storage.latest import closes, latest_prices, newest_bars
from barmill.storage.reader import BarQuery, BarReader
from tests.support.damage import flip_bit_of_bars
from tests.support.rollup import BARS, MINUTE_MS, NAME, bars_each_second, progress
from tests.support.ticks import START_MS

_SIZES = MoveSizes(keep=3, least=2, block=5)


def publish(path: Path, bars: pl.DataFrame) -> None:
    with BarStore.open(path, durable=False) as store:
        store.publish(replace(progress(final=True), frames="1s,1m"), bars.with_columns(state=pl.lit("closed")))


def move(path: Path, sizes: MoveSizes = _SIZES, frames: tuple[str, ...] = ("1s", "1m")) -> int:
    moved = 0
    with BarStore.open(path, durable=False) as store:
        for name in BarReader(store.db).instruments():
            for frame in frames:
                from_ms: int | None = BEGIN_MS
                while from_ms is not None:
                    count, from_ms = move_oldest(store.db, name, frame, from_ms, 0, sizes)
                    moved += count
    return moved


def table(path: Path, name: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {name}").fetchall()


def changed_since(reader: BarReader, frame: Frame, change: int, open_from_ms: int | None) -> object:
    since = replace(reader.cursor(NAME, frame), change=change, open_from_ms=open_from_ms)
    found = reader.changed_since(NAME, frame, since, 0)
    return found and (found.bars, found.complete_from_ms)


def views(path: Path) -> dict[str, object]:
    """Return what all reading functions give out."""
    with closing(BarReader.open(path)) as reader:
        at_ms = MINUTE_MS + 60_000
        frames = [parse_frame(text) for text in ("1s", "5s", "1m")]
        queries = [
            BarQuery(NAME, frame, from_ms, to_ms, as_of_ms, fill, newest)
            for frame in frames
            for from_ms, to_ms in ((None, None), (MINUTE_MS + 7_000, MINUTE_MS + 23_000))
            for as_of_ms, fill, newest in ((None, False, None), (2**60, False, 4), (None, True, 17), (None, False, 4))
        ]
        names = reader.instruments()
        stored = [parse_frame(text) for text in ("1s", "1m")]
        prices = latest_prices(
            reader.db, [NAME, "Z"], stored, at_ms, (at_ms - 40_000, at_ms - 25_000), {"a": 30_000, "b": 45_000}
        )
        return {
            "bars": pl.concat(reader.all_bars()),
            "read": [reader.read(query) for query in queries],
            "changed": [
                changed_since(reader, frame, change, open_from_ms)
                for frame in frames
                for change in (0, 1)
                for open_from_ms in (None, MINUTE_MS + 9_000)
            ],
            "names": (names, [sorted(reader.frames(name)) for name in names]),
            "totals": (reader.totals(), reader.ticks_in("1s"), reader.ticks_in("1m")),
            "activity": [reader.activity(names, "1s", from_ms) for from_ms in (0, MINUTE_MS + 9_000, 2**60)],
            "prices": prices,
            "closes": [
                closes(reader.db, [*names, "Z"], stored[0], from_ms, n) for from_ms in (0, at_ms) for n in (2, 9)
            ],
            "newest": [newest_bars(reader.db, names, frame, 9) for frame in stored],
            "history": [reader.history(NAME, frame, MINUTE_MS + 5_000) for frame in ("1s", "5s")],
            "pieces": reader.pieces(NAME, parse_frame("5s")),
        }


def assert_same(found: object, expected: object) -> None:
    if isinstance(found, pl.DataFrame):
        assert isinstance(expected, pl.DataFrame)
        assert found.equals(expected), (found, expected)
    elif isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(found, dict) and isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in found:
            assert_same(found[name], expected[name])
    else:
        assert found == expected


def test_bars_read_the_same_from_blocks(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    publish(path, bars_each_second(4, price=9.0, first=5).with_columns(ticks=2))  # revised
    other = bars_each_second(20).with_columns(instrument=pl.lit("B/USD"))
    publish(path, other)
    before = views(path)
    assert move(path) == BARS + 20 - 2 * _SIZES.keep
    assert len(table(path, "bar_blocks")) >= 8
    assert_same(views(path), before)
    assert move(path) == 0


def test_all_bars_come_in_order_in_chunks_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    publish(path, bars_each_second(20).with_columns(instrument=pl.lit("B/USD")))
    with closing(BarReader.open(path)) as reader:
        [expected] = reader.all_bars()
    move(path)
    with BarStore.open(path, durable=False) as store:
        for block in [*bar_blocks.blocks_within(store.db, NAME, "1s", MINUTE_MS + 11_000, MINUTE_MS + 16_000)]:
            bar_blocks.thaw(store.db, block)  # rows between blocks
        for chunk_bars in (1, 2, 3, 7, 13, 40, 1_000):
            chunks = [*bar_blocks.all_stored_bars(store.db, chunk_bars)]
            assert pl.concat(chunks).equals(expected)
            assert max(chunk.height for chunk in chunks) <= 2 * (chunk_bars + _SIZES.block)


def test_an_earlier_price_decodes_no_block_of_a_longer_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bars.sqlite"
    bars = bars_each_second(600)
    publish(path, bars.with_columns(last_tick_ms=pl.col("end_ms") - 1))
    move(path)
    decoded, decode = list[str](), bar_blocks.Block.decode

    def note(block: bar_blocks.Block, data: bytes) -> bar_codec.Content:
        decoded.append(block.frame)
        return decode(block, data)

    monkeypatch.setattr(bar_blocks.Block, "decode", note)
    at_ms = MINUTE_MS + 600_000
    with closing(BarReader.open(path)) as reader:
        frames = [parse_frame(text) for text in ("1s", "1m")]
        prices = latest_prices(reader.db, [NAME], frames, at_ms, (at_ms, at_ms), {"earlier": 300_000})
    assert prices["earlier"].to_list() == [bars.filter(frame="1s", start_ms=MINUTE_MS + 299_000)["close"].item()]
    assert decoded == ["1s"]


def test_a_late_change_turns_only_its_block_back_into_rows(tmp_path: Path) -> None:
    path, plain = tmp_path / "bars.sqlite", tmp_path / "plain.sqlite"
    for file in (path, plain):
        publish(file, bars_each_second())
    move(path)
    blocks = len(table(path, "bar_blocks"))
    unchanged, changed = bars_each_second(12, first=3), bars_each_second(1, price=7.0, first=9).with_columns(ticks=3)
    for file in (path, plain):
        publish(file, unchanged)
    assert len(table(path, "bar_blocks")) == blocks
    for file in (path, plain):
        publish(file, changed)
    assert len(table(path, "bar_blocks")) == blocks - 1
    with closing(BarReader.open(path)) as reader:
        assert reader.history(NAME, "1s", MINUTE_MS + 9_000)["ticks"].to_list() == [1, 3]
        assert reader.bars(NAME, "1s").filter(pl.col("state") == "revised")["start_ms"].to_list() == [MINUTE_MS + 9_000]
    move(path)
    assert len(table(path, "bar_blocks")) == blocks
    values = [name for name in BAR_SCHEMA if name != "changed_ms"]
    with closing(BarReader.open(path)) as reader, closing(BarReader.open(plain)) as other:
        assert pl.concat(reader.all_bars()).select(values).equals(pl.concat(other.all_bars()).select(values))


def test_a_repeated_publication_decodes_no_whole_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    move(path)
    blocks = table(path, "bar_blocks")
    monkeypatch.delattr(bar_codec, "bars_of")
    publish(path, bars_each_second(12, first=3))
    assert table(path, "bar_blocks") == blocks


def test_a_bar_that_was_missing_within_a_block_is_added(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    missing = pl.col("start_ms") == MINUTE_MS + 7_000
    publish(path, bars_each_second().filter(~missing))
    move(path)
    publish(path, bars_each_second().filter(missing))
    move(path)
    with closing(BarReader.open(path)) as reader:
        assert reader.bars(NAME, "1s")["start_ms"].to_list() == [MINUTE_MS + at * 1_000 for at in range(BARS)]


def test_retention_removes_bars_from_blocks(tmp_path: Path) -> None:
    path, plain = tmp_path / "bars.sqlite", tmp_path / "plain.sqlite"
    for file in (path, plain):
        publish(file, bars_each_second(200))
    move(path)
    for file in (path, plain):
        with BarStore.open(file, durable=False) as store:
            while remove_oldest(store.db, NAME, parse_frame("1s"), parse_frame("1m"), MINUTE_MS + 125_000, 50):
                pass
    assert_same(views(path)["totals"], views(plain)["totals"])
    with closing(BarReader.open(path)) as reader, closing(BarReader.open(plain)) as other:
        assert reader.bars(NAME, "1s")["start_ms"][0] == MINUTE_MS + 120_000
        assert reader.bars(NAME, "1s").drop("changed_ms").equals(other.bars(NAME, "1s").drop("changed_ms"))
        assert reader.removals() == other.removals()


def test_a_damaged_block_is_reported_as_damage_and_left_out_by_repair(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    move(path)
    flip_bit_of_bars(path)
    with closing(BarReader.open(path)) as reader, pytest.raises(sqlite3.DatabaseError, match="is damaged") as raised:
        reader.bars(NAME, "1s")
    assert is_damage(raised.value)
    counts = salvage(path, tmp_path / "new.sqlite")
    assert counts["bar_blocks"] == len(table(path, "bar_blocks")) - 1
    with closing(BarReader.open(tmp_path / "new.sqlite")) as reader:
        assert reader.bars(NAME, "1s")["start_ms"][0] == MINUTE_MS + 5_000


@pytest.mark.parametrize("name", ["first_start_ms", "last_start_ms", "bars", "ticks", "change"])
def test_a_column_of_a_block_that_disagrees_with_its_bars_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    move(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        [first_ms] = connection.execute("SELECT min(first_start_ms) FROM bar_blocks WHERE frame = '1s'").fetchone()
        connection.execute(
            f"UPDATE bar_blocks SET {name} = {name} + 1 WHERE frame = '1s' AND first_start_ms = ?", (first_ms,)
        )
    with closing(BarReader.open(path)) as reader:
        reads: list[Callable[[], object]] = [
            lambda: reader.bars(NAME, "1s"),
            lambda: [*reader.all_bars()],
            lambda: changed_since(reader, parse_frame("1s"), 0, None),
            lambda: reader.activity([NAME], "1s", first_ms + 2),
        ]
        for read in reads:
            with pytest.raises(sqlite3.DatabaseError, match=f"is damaged: {name} is") as raised:
                read()
            assert is_damage(raised.value)
    counts = salvage(path, tmp_path / "new.sqlite")
    assert counts["bar_blocks"] == len(table(path, "bar_blocks")) - 1


def test_repair_without_the_newest_rows_keeps_what_is_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    move(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM bars")
    salvage(path, tmp_path / "new.sqlite")
    with closing(BarReader.open(tmp_path / "new.sqlite")) as reader:
        assert reader.instruments() == [NAME]
        assert reader.bars(NAME, "1s").height == BARS - _SIZES.keep


def test_a_store_of_the_version_before_opens_and_moves_its_bars(tmp_path: Path) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    before = views(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE bar_blocks")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'store_history_in_blocks'")
    assert_same(views(path), before)
    assert move(path) > 0
    assert_same(views(path), before)


def test_a_move_that_another_writer_overtakes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bars.sqlite"
    publish(path, bars_each_second())
    insert = bar_blocks.insert_block

    def publish_meanwhile(*arguments: object) -> None:
        publish(path, bars_each_second(1, price=7.0, first=2).with_columns(ticks=3))
        insert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bar_upkeep, "insert_block", publish_meanwhile)
    with BarStore.open(path, durable=False) as store, pytest.raises(sqlite3.OperationalError) as raised:
        move_oldest(store.db, NAME, "1s", BEGIN_MS, 0, _SIZES)
    assert raised.value.sqlite_errorcode == sqlite3.SQLITE_BUSY_SNAPSHOT
    monkeypatch.undo()
    before = views(path)
    move(path)
    assert_same(views(path), before)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(0, 30), st.integers(1, 12), st.integers(1, 4)),
            st.tuples(st.just("move"), st.integers(1, 4), st.integers(1, 4), st.integers(4, 9)),
        ),
        min_size=2,
        max_size=10,
    )
)
def test_any_order_of_publications_and_moves_reads_like_rows(events: list[tuple[str, int, int, int]]) -> None:
    with TemporaryDirectory() as folder:
        path, plain = Path(folder) / "bars.sqlite", Path(folder) / "plain.sqlite"
        clock = pytest.MonkeyPatch()
        with clock.context() as patch:
            for number, (kind, one, two, three) in enumerate([("publish", 0, 20, 1), *events]):
                patch.setattr("time.time_ns", lambda number=number: (START_MS + number) * 1_000_000)
                if kind == "publish":
                    for file in (path, plain):
                        publish(file, bars_each_second(two, first=one, price=float(three)).with_columns(ticks=three))
                else:
                    move(path, MoveSizes(one, two, three))
            assert_same(views(path), views(plain))
