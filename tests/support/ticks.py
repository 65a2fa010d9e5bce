"""Small tick tables for tests, written the way a person reads them."""

from typing import Any

import polars as pl

from barmill.model.fold import finish, fold_ticks, roll_up
from barmill.model.frames import parse_frames, partial_length_ms
from barmill.model.tick import TICK_SCHEMA
from barmill.platform.clock import NS_PER_MS

START_MS = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC: the start of a second, inside a minute


def ticks(*rows: tuple[Any, ...], first_sequence: int = 1) -> pl.DataFrame:
    """Make ticks from rows of (ms after START_MS, instrument, price, volume, id), the last two optional.

    An id that is a number rises per instrument; one that is a text orders nothing.
    """
    table = pl.DataFrame(
        [(START_MS * NS_PER_MS + int(row[0] * NS_PER_MS), row[1], row[2], row[2], *_optional(row)) for row in rows],
        TICK_SCHEMA,
        orient="row",
    )
    return table.with_columns(sequence=pl.int_range(first_sequence, first_sequence + pl.len(), dtype=pl.Int64))


def _optional(row: tuple[Any, ...]) -> tuple[object, ...]:
    tick_id = row[4] if len(row) > 4 else None
    number, text = (None, tick_id) if isinstance(tick_id, str) else (tick_id, None)
    return (row[3] if len(row) > 3 else None, number, None, text)


def bars_of(table: pl.DataFrame, frames: str = "1s,1m,1h") -> pl.DataFrame:
    """Fold ticks into finished bars, sorted."""
    wanted = parse_frames(frames)
    folded = fold_ticks(table, partial_length_ms(wanted))
    return finish(roll_up(folded, wanted)).sort("instrument", "frame", "start_ms")
