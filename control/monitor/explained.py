"""Gaps among bars together with why they are there, as charts show them."""

import polars as pl

from bar.frames import Frame
from bar.gaps import gaps
from control.home import Home
from control.monitor.outages import reasons


def explained_gaps(
    home: Home, bars: pl.DataFrame, frame: Frame, to_ms: int | None = None
) -> list[tuple[int, int, str]]:
    """Return (from_ms, to_ms, reason) of each gap among bars (BAR_SCHEMA, oldest first), oldest first.

    to_ms: where another bar starts, so that what is missing up to there is a gap, too.
    """
    found = gaps(bars, frame, to_ms)
    return [
        (gap.from_ms, gap.to_ms, reason.value) for gap, reason in zip(found, reasons(home, found, frame), strict=True)
    ]
