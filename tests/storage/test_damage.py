"""Damaged blocks and pages: the rest is read, losses are counted and reported, and the store is rebuilt."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from barmill.ingest.identity import RecentIds
from barmill.storage.bar_damage import forget_damage, mark_damage, salvage, store_problem
from barmill.storage.bar_store import BarStore
from barmill.storage.maintenance import ALL_IS_READ, compact, drop_older
from barmill.storage.reader import BarReader
from barmill.storage.tick_damage import damage_problem, damaged_blocks, mark_seen
from barmill.storage.tick_log import TickLog
from barmill.storage.tick_salvage import salvage_log
from barmill.storage.verification import verify
from tests.support.damage import damage_block, damage_leaf, damage_pages, three_blocks
from tests.support.shard import Market
from tests.support.ticks import START_MS

_HOUR_MS = 3_600_000


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


# Blocks of earlier versions have no checksum.
@pytest.mark.parametrize(
    ("sequence", "how", "checksum"),
    [(1, "cut", False), (3, "zeroed", False), (5, "empty", False), (1, "cut", True), (5, "zeroed", True)],
)
def test_a_damaged_block_is_passed_over_and_told_of(market: Market, sequence: int, how: str, *, checksum: bool) -> None:
    three_blocks(market)
    damage_block(market, sequence, how, checksum=checksum)
    while not market.caught_up():
        market.poll()
    market.arrive((180_100, "A", 9.0))
    assert sum(ticks for _, _, ticks, _ in market.bars()) == 5
    (lost,) = damaged_blocks(market.log.db)
    assert (lost.first_sequence, lost.rows, lost.source) == (sequence, 2, "market")
    assert "2 ticks of market from 2023-11-14" in damage_problem(market.spec.ticks_db)
    verdict = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert (verdict.damaged, verdict.examples, verdict.good) == (2, [], False)
    assert mark_seen(market.log.db) == (1, 2)
    assert damage_problem(market.spec.ticks_db) == ""
    assert verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None).good


@pytest.mark.parametrize("how", ["flipped", "altered"])
def test_other_bytes_are_found_by_the_checksum(market: Market, how: str) -> None:
    three_blocks(market)
    damage_block(market, 3, how)
    assert [first for first, _ in market.log.blocks()] == [1, 5]


def damage_page_of_block(market: Market, sequence: int) -> None:
    """Overwrite a page of the file that holds a part of a large block."""
    conn, path = market.log.db.conn, market.spec.ticks_db
    data = conn.execute("SELECT data FROM blocks WHERE first_sequence = ?", (sequence,)).fetchone()[0]
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (size,) = conn.execute("PRAGMA page_size").fetchone()
    market.log.close()
    with path.open("r+b") as file:
        content = file.read()
        file.seek(content.index(data[len(data) // 2 :][:32]) // size * size)
        file.write(random.Random(1).randbytes(size))
    market.log = TickLog.open(path)


def test_damaged_pages_of_a_block_stop_neither_job_nor_retention(market: Market) -> None:
    chance = random.Random(1)
    for minute in range(3):
        market.append(*((minute * 60_000 + n * 20, "A", chance.random(), chance.random()) for n in range(2_000)))
    damage_page_of_block(market, 2_001)
    while not market.caught_up():
        market.poll()
    assert sum(ticks for _, _, ticks, _ in market.bars()) == 4_000
    assert [first for first, _ in market.log.blocks()] == [1, 4_001]
    (lost,) = damaged_blocks(market.log.db)
    assert (lost.first_sequence, lost.rows) == (2_001, 2_000)
    assert "2,000 ticks of market" in damage_problem(market.spec.ticks_db)
    assert verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None).damaged == 2_000
    assert drop_older(market.log.db, ALL_IS_READ) == 4_000


def test_a_log_whose_own_pages_are_damaged_is_made_again(market: Market, tmp_path: Path) -> None:
    for number in range(60):
        market.append(*((number * 1_000 + n * 10, "A", 1.0 + n) for n in range(20)))
    market.poll()
    identity, end = market.log.id(), market.log.end_sequence()
    market.log.close()
    damage_leaf(market.spec.ticks_db, "blocks", 3)
    damage_leaf(market.spec.ticks_db, "blocks", 8)
    with TickLog.open(market.spec.ticks_db) as log, pytest.raises(sqlite3.DatabaseError, match="malformed"):
        list(log.blocks())
    salvage_log(market.spec.ticks_db, tmp_path / "new.sqlite")
    market.spec = market.spec.model_copy(update={"ticks_db": tmp_path / "new.sqlite"})
    market.log = TickLog.open(tmp_path / "new.sqlite")
    assert (market.log.id(), market.log.end_sequence()) == (identity, end)
    lost = damaged_blocks(market.log.db)
    assert len(lost) == 2
    held = sum(ticks.height for _, ticks in market.log.blocks())
    assert held + sum(block.rows for block in lost) == 1_200
    assert 0 < sum(block.rows for block in lost) < 400
    for block in lost:  # the times that a person is to get again hold all that is lost
        first_ns, last_ns = (
            START_MS * 1_000_000 + (sequence // 20 * 1_000 + sequence % 20 * 10) * 1_000_000
            for sequence in (block.first_sequence - 1, block.first_sequence + block.rows - 2)
        )
        assert block.min_time_ns <= first_ns <= last_ns <= block.max_time_ns
    market.restart()
    market.arrive((70_000, "A", 1.0))
    assert market.caught_up()
    verdict = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert verdict.examples == []
    # A job that reads it from its start has all that is left.
    again = market.spec.model_copy(update={"name": "again", "bars_db": tmp_path / "again.sqlite"})
    market.spec, market.store = again, BarStore.open(again.bars_db)
    market.shard, market.source = market.begin()
    while not market.caught_up():
        market.poll()
    assert market.taken.cursor.read == held + 1


def test_bars_made_before_the_damage_are_not_called_wrong(market: Market) -> None:
    three_blocks(market)
    while not market.caught_up():
        market.poll()
    damage_block(market, 3)
    verdict = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert (verdict.damaged, verdict.examples) == (2, [])
    assert verdict.unverifiable > 0


def test_feed_and_upkeep_pass_over_damaged_blocks(market: Market) -> None:
    three_blocks(market)
    damage_block(market, 5)
    assert compact(market.log.db, START_MS * 2) == 0
    damage_block(market, 3)
    ids = RecentIds(_HOUR_MS * 1_000_000)
    ids.remember(market.log.recent(0))
    assert len(damaged_blocks(market.log.db)) == 2
    assert market.log.newest(100).height == 2


def test_a_log_from_before_there_were_checksums_opens(tmp_path: Path, market: Market) -> None:
    three_blocks(market)
    market.log.close()
    with closing(sqlite3.connect(market.spec.ticks_db)) as connection, connection:
        connection.execute("DROP TABLE damaged_blocks")
        connection.execute("ALTER TABLE blocks DROP COLUMN crc")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'find_damage'")
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        assert sum(ticks.height for _, ticks in log.blocks()) == 6


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_store_is_made_again_from_itself_and_the_log(market: Market, tmp_path: Path, seed: int) -> None:
    for minute in range(20):
        rows = [(minute * 60_000 + n * 500, name, 1.0 + n) for n in range(100) for name in ("A", "B")]
        market.arrive(*rows)
    before = [BarReader.open(market.spec.bars_db).bars(name, frame) for name in ("A", "B") for frame in ("1s", "1m")]
    market.store.close()
    damage_pages(market.spec.bars_db, 0.1, seed)
    found: list[str] = []
    try:
        with mark_damage(market.spec.bars_db), closing(BarReader.open(market.spec.bars_db)) as reader:
            for name in ("A", "B"):
                reader.bars(name, "1s")
                reader.bars(name, "1m")
    except sqlite3.DatabaseError as error:
        found.append(str(error))
    assert found
    assert "./barmill repair" in store_problem(market.spec.bars_db)
    new = tmp_path / "new.sqlite"
    kept = salvage(market.spec.bars_db, new)
    assert kept["bars"] > 0
    forget_damage(market.spec.bars_db)
    assert store_problem(market.spec.bars_db) == ""
    market.spec = market.spec.model_copy(update={"bars_db": new})
    market.store = BarStore.open(new)
    market.restart()
    while not market.caught_up():
        market.poll()
    after = [BarReader.open(new).bars(name, frame) for name in ("A", "B") for frame in ("1s", "1m")]
    for table, other in zip(before, after, strict=True):
        assert table.drop("changed_ms").equals(other.drop("changed_ms"))
    market.assert_true_to_the_log()


def test_a_file_that_is_no_store_at_all_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "bars.sqlite").write_bytes(b"no database" * 1_000)
    assert set(salvage(tmp_path / "bars.sqlite", tmp_path / "new.sqlite").values()) == {0}
    assert BarReader.open(tmp_path / "new.sqlite").instruments() == []


def test_what_is_salvaged_has_the_columns_of_this_version(market: Market, tmp_path: Path) -> None:
    market.arrive((100, "A", 1.0))
    with closing(sqlite3.connect(market.spec.bars_db)) as connection, connection:
        connection.execute("DROP TABLE read_again")
    kept = salvage(market.spec.bars_db, tmp_path / "new.sqlite")
    assert (kept["bars"], kept["read_again"]) == (2, 0)
    assert pl.concat([BarReader.open(tmp_path / "new.sqlite").bars("A", frame) for frame in ("1s", "1m")]).height == 2
