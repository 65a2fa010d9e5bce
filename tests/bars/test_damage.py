"""Damaged blocks and pages: the rest is read, what is lost is counted and told of, and the store is made again."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from bar.damage import forget_damage, noticing_damage, store_problem
from bar.reader import BarReader
from bar.salvage import salvage
from bar.store import BarStore
from bar.verification import verify
from feed.damage import damage_problem, damaged_blocks, mark_seen
from feed.duplicates import RecentIds
from feed.ticklog import TickLog
from feed.unread import ALL_IS_READ
from feed.upkeep import compact, drop_older
from tests.bars.test_shard import Market
from tests.bars.ticks import START_MS

_HOUR_MS = 3_600_000


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


def damage_block(market: Market, sequence: int, how: str = "flipped", *, checksum: bool = True) -> None:
    query = "SELECT data FROM blocks WHERE first_sequence = ?"
    data = bytearray(market.log.db.conn.execute(query, (sequence,)).fetchone()[0])
    match how:
        case "flipped":
            data[len(data) // 2] ^= 0xFF
        case "cut":
            del data[len(data) // 2 :]
        case "zeroed":
            data[8:] = bytes(len(data) - 8)
        case "empty":
            data.clear()
    with market.log.db.conn:
        update = "UPDATE blocks SET data = ?, crc = CASE WHEN ? THEN crc END WHERE first_sequence = ?"
        market.log.db.conn.execute(update, (bytes(data), checksum, sequence))


def three_blocks(market: Market) -> None:
    for at_ms in (100, 60_100, 120_100):
        market.append((at_ms, "A", 1.0, 1, at_ms), (at_ms + 200, "A", 2.0, 1, at_ms + 1))


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


def test_a_flipped_bit_is_found_by_the_checksum(market: Market) -> None:
    three_blocks(market)
    damage_block(market, 3)
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


def damage_pages(path: Path, share: float, seed: int) -> None:
    """Overwrite a share of the pages that are no table's first one."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        roots = {1, *(page for (page,) in connection.execute("SELECT rootpage FROM sqlite_master"))}
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (count,) = connection.execute("PRAGMA page_count").fetchone()
    chance = random.Random(seed)
    with path.open("r+b") as file:
        for page in range(1, count + 1):
            if page not in roots and chance.random() < share:
                file.seek((page - 1) * size)
                file.write(chance.randbytes(size))


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
        with noticing_damage(market.spec.bars_db), closing(BarReader.open(market.spec.bars_db)) as reader:
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
    for one, other in zip(before, after, strict=True):
        assert one.drop("changed_ms").equals(other.drop("changed_ms"))
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
