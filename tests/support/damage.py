"""Helpers of test_damage.py that other tests use too."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl

from barmill.storage.tick_damage import decode_block, encode_block
from tests.support.rollup import NAME
from tests.support.shard import Market


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
        case "altered":  # another price, which decodes
            ticks = decode_block(bytes(data))
            data[:] = encode_block(ticks.with_columns(pl.col("price_open", "price_close") + 1))
    with market.log.db.conn:
        update = "UPDATE blocks SET data = ?, crc = CASE WHEN ? THEN crc END WHERE first_sequence = ?"
        market.log.db.conn.execute(update, (bytes(data), checksum, sequence))


def three_blocks(market: Market) -> None:
    for at_ms in (100, 60_100, 120_100):
        market.append((at_ms, "A", 1.0, 1, at_ms), (at_ms + 200, "A", 2.0, 1, at_ms + 1))


def damage_leaf(path: Path, table: str, number: int) -> None:
    """Overwrite a page of the file that holds rows of a table: the page of so many, counted from the first."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        page = file.read(size)
        assert page[0] == 5  # the root of a table that has leaves
        cells = [int.from_bytes(page[at : at + 2], "big") for at in range(12, 12 + 2 * number + 2, 2)]
        file.seek((int.from_bytes(page[cells[number] : cells[number] + 4], "big") - 1) * size)
        file.write(bytes(size))


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


def flip_bit_of_bars(path: Path, instrument: str = NAME, frame: str = "1s") -> None:
    """Flip one bit in the payload of the first block of bars of a series."""
    where = "WHERE instrument = ? AND frame = ? ORDER BY first_start_ms LIMIT 1"
    with closing(sqlite3.connect(path)) as connection, connection:
        row = connection.execute(f"SELECT rowid, data FROM bar_blocks {where}", (instrument, frame)).fetchone()
        data = bytearray(row[1])
        data[len(data) // 2] ^= 1
        connection.execute("UPDATE bar_blocks SET data = ? WHERE rowid = ?", (bytes(data), row[0]))
