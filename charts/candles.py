"""Candles for the canvas: bars as columns of plain numbers, each value exactly as stored.

    view        which chart the bars belong to: the instrument and the frame
    frame_ms    length of a bar
    offset_ms   start of slot 0: the epoch, or the Monday after it for whole weeks
    read_ms     when the bars were read
    decimals    how many decimals the prices have
    first_slot  place of the oldest bar on the regular time grid: its (start_ms - offset_ms) / frame_ms
    slot        place of each bar after that, so that a missing number is a gap in time
    open, high, low, close, volume, vwap, ticks, revision   one value for each bar
    state       one letter for each bar: f(orming), c(losed), r(evised), s(ynthetic)
    studies     the lines of studies: study, label, pane, kind, and values, one for each bar
    gaps        stretches without bars: [slot, slot after it, reason], these slots on the whole time grid

A volume, a vwap or a study's value that a bar does not have is null.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from decimal import Decimal

import polars as pl

from bar.frames import Frame
from bar.model import BarState
from charts.studies import StudyLine

Candles = dict[str, object]

_COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "ticks", "revision")
_PRICES = ("open", "high", "low", "close")
_MAX_DECIMALS = 10
_LETTERS = {state.value: state.value[0] for state in BarState}


def view_name(instrument: str, frame: Frame) -> str:
    """Return what a chart and its updates know each other by."""
    return f"{instrument} {frame.text}"


def candles(
    bars: pl.DataFrame,
    instrument: str,
    frame: Frame,
    read_ms: int,
    lines: Sequence[StudyLine] = (),
    gaps: Sequence[tuple[int, int, str]] = (),
) -> Candles:
    """Build what the canvas draws from bars (BAR_SCHEMA) of one instrument and frame, oldest first.

    lines: of studies, aligned with the bars. gaps: from_ms, to_ms and the reason of stretches without bars.
    """
    slots = frame.slot(bars["start_ms"])
    first_slot = slots[0] if bars.height else 0
    return {
        "view": view_name(instrument, frame),
        "frame_ms": frame.length_ms,
        "offset_ms": frame.offset_ms,
        "read_ms": read_ms,
        "decimals": price_decimals(bars),
        "first_slot": first_slot,
        "slot": (slots - first_slot).to_list(),
        **{name: bars[name].to_list() for name in _COLUMNS},
        "state": "".join(_LETTERS[state] for state in bars["state"]),
        "studies": [asdict(line) for line in lines],
        "gaps": [
            [frame.slot(from_ms), frame.slot(frame.first_start_ms(to_ms)), reason] for from_ms, to_ms, reason in gaps
        ],
    }


def price_decimals(bars: pl.DataFrame, most: int = _MAX_DECIMALS) -> int:
    """Return how many decimals it takes to print every price of these bars in full, at most so many."""
    return decimals_of((price for name in _PRICES for price in bars[name]), most)


def decimals_of(prices: Iterable[float], most: int = _MAX_DECIMALS) -> int:
    """Return how many decimals it takes to print each of these prices in full, at most so many.

    Printed with them, prices line up; one that needs more is still printed in full (bar/number_text.py).
    """
    return min(max((_decimals(price) for price in set(prices)), default=0), most)


def _decimals(price: float) -> int:
    exponent = Decimal(repr(price)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
