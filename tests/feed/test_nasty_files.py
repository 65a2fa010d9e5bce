"""Nasty files of every format and container become exactly what an independent reader makes of them.

BARMILL_HUNT_ROWS=500000 python -P -m pytest tests/feed/test_nasty_files.py looks at so many rows, not a few thousand.
"""

import os
import random
from contextlib import suppress
from pathlib import Path

import polars as pl

from feed.files.errors import ReplayFileError
from tests.feed.nasty_files import independent, nasty_file
from tests.feed.reading import take

ID = pl.coalesce(pl.col("id").cast(pl.String), "id_text").alias("id")
ROWS = int(os.environ.get("BARMILL_HUNT_ROWS", "2000"))
FIRST_SEED = int(os.environ.get("BARMILL_HUNT_SEED", "0"))
ROWS_A_FILE = 50 if ROWS < 100_000 else 2_000


def test_nasty_files_are_read_as_an_independent_reader_reads_them(tmp_path: Path) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + ROWS // ROWS_A_FILE):
        data, layout, plan = nasty_file(ROWS_A_FILE, seed)
        path = tmp_path / "t"
        path.write_bytes(data)
        taken, right = take(path, layout), independent(data, plan)
        ticks = taken.ticks.select("line", "time_ns", "instrument", "price_open", "price_close", "volume", ID).rows()
        assert ticks == right.ticks, (seed, plan)
        assert sorted(taken.rejects["line"]) == right.rejects, (seed, plan)
        assert taken.read == len(right.ticks) + len(right.rejects), (seed, plan)


DAMAGED = int(os.environ.get("BARMILL_HUNT_DAMAGED", "80"))


def damaged(data: bytes, luck: random.Random) -> bytes:
    """Cut bytes off, change some, or put some in."""
    broken = bytearray(data)
    for _ in range(luck.randrange(1, 4)):
        at = luck.randrange(len(broken) + 1)
        match luck.randrange(4):
            case 0:
                del broken[at:]
            case 1:
                broken[at : at + luck.randrange(1, 20)] = luck.randbytes(luck.randrange(20))
            case 2:
                broken[at : at + 1] = bytes([luck.randrange(256)])
            case 3:
                broken[at:at] = luck.choice((bytes(50), b"\xff" * 50, b"\n", b'"', b"{", b"]"))
    return bytes(broken)


def test_damaged_files_are_read_or_refused_and_never_fail(tmp_path: Path) -> None:
    read = 0
    for seed in range(FIRST_SEED, FIRST_SEED + DAMAGED):
        data, layout, _ = nasty_file(30, seed)
        path = tmp_path / "t"
        path.write_bytes(damaged(data, random.Random(seed)))
        with suppress(ReplayFileError):  # the one error that is a sentence for people
            taken = take(path, layout)
            assert taken.read == taken.ticks.height + taken.rejects.height, seed
            read += 1
    assert read > DAMAGED // 4
