"""Files: columns of any name, numbers of any form, containers of any kind, whole and damaged."""

import random
import tempfile
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import polars as pl

from barmill.ingest.files.layout import Layout
from barmill.ingest.files.streams import ReplayFileError
from tests.hunt.bars import Trade, bar_differences
from tests.hunt.result import Found, in_order
from tests.support.malformed_files import SHAPES, Plan, independent, nasty_file
from tests.support.reading import Taken, take

_ID = pl.coalesce(pl.col("id").cast(pl.String), "id_text").alias("id")
_ROWS_A_FILE = 500
_ROWS_A_DAMAGED_FILE = 30


def columns(rows: int, seed: int) -> Found:
    """Read files whose columns have other names, are joined, are absent, or collide with ours."""
    found = Found()
    for number in range(max(1, rows // _ROWS_A_FILE)):
        made = nasty_file(min(rows, _ROWS_A_FILE), seed * 1_000 + number, SHAPES[2:], 0.2)
        found += _read(*made, f"columns, file {number}")[0]
    return found


def numbers(rows: int, seed: int) -> Found:
    """Read files most of whose numbers are odd, and fold the ticks into bars."""
    found = Found()
    for number in range(max(1, rows // _ROWS_A_FILE)):
        about = f"numbers, file {number}"
        data, layout, plan = nasty_file(min(rows, _ROWS_A_FILE), seed * 1_000 + number, nasty_share=0.7)
        result, taken = _read(data, layout, plan, about)
        trades = [
            Trade(time_ns, name, _decimal(price), None if volume is None else _decimal(volume), line)
            for line, time_ns, name, price, _, volume, _ in independent(data, plan).ticks
        ]
        wrong = tuple(f"{about}: {difference}" for difference in bar_differences(trades, taken.ticks))
        found += result + Found(differences=wrong)
    return found


def containers(rows: int, seed: int) -> Found:
    """Read files in all containers and encodings; one in five rows is in a damaged file."""
    found = Found()
    for number in range(max(1, rows * 4 // 5 // _ROWS_A_FILE)):
        made = nasty_file(min(rows, _ROWS_A_FILE), seed * 1_000 + number)
        found += _read(*made, f"containers, file {number}")[0]
    for number in range(max(1, rows // 5 // _ROWS_A_DAMAGED_FILE)):
        data, layout, _ = nasty_file(_ROWS_A_DAMAGED_FILE, seed * 1_000 + number)
        found += _read_damaged(damaged(data, random.Random(number)), layout, f"containers, damaged file {number}")
    return found


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


def _read(data: bytes, layout: Layout, plan: Plan, about: str) -> tuple[Found, Taken]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(data)
        taken = take(path, layout)
    right = independent(data, plan)
    rows = len(right.ticks) + len(right.rejects)
    ticks = taken.ticks.select("line", "time_ns", "instrument", "price_open", "price_close", "volume", _ID).rows()
    about = f"{about} ({plan})"
    as_read = in_order(rows, f"{about}, ticks", right.ticks, ticks)
    refused = in_order(0, f"{about}, rejects", sorted(right.rejects), sorted(taken.rejects["line"]))
    return as_read + refused + _account(taken, about), taken


def _read_damaged(data: bytes, layout: Layout, about: str) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(data)
        with suppress(ReplayFileError):  # the one error that is a sentence for people
            return Found(_ROWS_A_DAMAGED_FILE) + _account(take(path, layout), about)
    return Found(_ROWS_A_DAMAGED_FILE)


def _account(taken: Taken, about: str) -> Found:
    kept = taken.ticks.height + taken.rejects.height
    return Found(lost=() if taken.read == kept else (f"{about}: {taken.read} rows were read, {kept} kept",))


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
