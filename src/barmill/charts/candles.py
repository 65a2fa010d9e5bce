"""Candles for the canvas: bars as columns of plain numbers, each value exactly as stored.

    view        the chart the bars belong to: the instrument and the frame
    frame_ms    length of a bar
    offset_ms   start of slot 0: the epoch, or the Monday after it for whole weeks
    read_ms     when the bars were read
    decimals    number of decimals of the prices
    first_slot  slot of the oldest bar on the regular time grid: its (start_ms - offset_ms) / frame_ms
    slot        slot of each bar relative to first_slot; a missing number is a gap in time
    open, high, low, close, volume, vwap, ticks, revision   one value per bar
    state       one letter per bar: f(orming), c(losed), r(evised), s(ynthetic)
    studies     the lines of studies: study, label, pane, kind, and values, one per bar
    gaps        ranges without bars: [first slot, slot after the last, reason], with absolute slots

A missing volume, vwap or study value of a bar is null.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from barmill.charts.studies import Study, StudyLine, study_lines, warm_up
from barmill.model.bar import BarState
from barmill.model.frames import Frame
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_S
from barmill.platform.texts import number_text
from barmill.storage.reader import BarQuery

Candles = dict[str, object]

_COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "ticks", "revision")
_PRICES = ("open", "high", "low", "close")
_MAX_DECIMALS = 10
_STATE_LETTERS = {state.value: state.value[0] for state in BarState}


def view_name(instrument: str, frame: Frame) -> str:
    """Return the name that identifies a chart and its updates."""
    return f"{instrument} {frame.text}"


def candles(
    bars: pl.DataFrame,
    instrument: str,
    frame: Frame,
    read_ms: int,
    lines: Sequence[StudyLine] = (),
    gaps: Sequence[tuple[int, int, str]] = (),
) -> Candles:
    """Return the canvas data for bars (BAR_SCHEMA) of one instrument and frame, oldest first.

    lines: the lines of studies, aligned with the bars. gaps: from_ms, to_ms and the reason of ranges without bars.
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
        "state": "".join(_STATE_LETTERS[state] for state in bars["state"]),
        "studies": [asdict(line) for line in lines],
        "gaps": [
            [frame.slot(from_ms), frame.slot(frame.first_start_ms(to_ms)), reason] for from_ms, to_ms, reason in gaps
        ],
    }


def price_decimals(bars: pl.DataFrame, max_decimals: int = _MAX_DECIMALS) -> int:
    """Return the number of decimals that prints every price of these bars in full, at most `max_decimals`."""
    return decimals_of((price for name in _PRICES for price in bars[name]), max_decimals)


def decimals_of(prices: Iterable[float], max_decimals: int = _MAX_DECIMALS) -> int:
    """Return the number of decimals that prints each of these prices in full, at most `max_decimals`.

    Prices printed with it align; a price that needs more is still printed in full (barmill/platform/texts.py).
    """
    return min(max((_decimals(price) for price in set(prices)), default=0), max_decimals)


def _decimals(price: float) -> int:
    exponent = Decimal(repr(price)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


ReadBars = Callable[[BarQuery], pl.DataFrame]  # for example BarReader.read

_COARSER_FRAMES = (Frame(MS_PER_HOUR), Frame(MS_PER_MINUTE))


def bars_with_studies(
    read: ReadBars, query: BarQuery, studies: Sequence[Study]
) -> tuple[pl.DataFrame, list[StudyLine]]:
    """Return the bars of a query and the lines of the studies over them, independent of where the query begins."""
    bars = read(query)
    if not studies or not bars.height:
        return bars, study_lines(bars, studies)
    count = warm_up(studies)
    before = read(replace(query, from_ms=None, to_ms=bars["start_ms"][0], newest=count)) if count else bars.clear()
    all_bars = pl.concat([before, bars])
    has_day_vwap = any(study.name == "vwap" for study in studies)
    lines = study_lines(
        all_bars, studies, _earlier_today(read, query, all_bars["start_ms"][0]) if has_day_vwap else None
    )
    return bars, [replace(line, values=line.values[before.height :]) for line in lines]


def _earlier_today(read: ReadBars, query: BarQuery, at_ms: int) -> pl.DataFrame:
    """Return bars with the trades from midnight UTC to `at_ms`: whole hours, then minutes, then the query's own frame.

    A day in seconds would need 86,400 bars; this needs at most 141.
    """
    pieces, from_ms = [], at_ms // MS_PER_DAY * MS_PER_DAY
    coarser_frames = [frame for frame in _COARSER_FRAMES if frame > query.frame and query.frame.divides(frame)]
    for frame in (*coarser_frames, query.frame):
        to_ms = frame.start_ms(at_ms)
        pieces.append(read(replace(query, frame=frame, from_ms=from_ms, to_ms=to_ms, newest=None, fill=False)))
        from_ms = to_ms
    return pl.concat(pieces)


def utc_time(time_ms: int, frame: Frame) -> str:
    """Return the start of a bar in UTC, as precise as its frame requires."""
    start = datetime.fromtimestamp(time_ms / MS_PER_S, UTC)
    if frame.length_ms >= MS_PER_DAY:
        return start.strftime("%Y-%m-%d")
    return start.strftime("%H:%M:%S" if frame.length_ms < MS_PER_MINUTE else "%H:%M")


def describe_chart(bars: pl.DataFrame, instrument: str, frame: Frame) -> str:
    """Return one sentence about a chart of these bars (BAR_SCHEMA, oldest first)."""
    if not bars.height:
        return f"A chart of {instrument} in {frame.text} bars; there are none yet."
    decimals = price_decimals(bars)
    first, last = bars.row(0, named=True), bars.row(-1, named=True)
    high, low = max(bars["high"]), min(bars["low"])
    change = last["close"] / first["open"] - 1
    direction = "up" if change > 0 else "down" if change < 0 else "unchanged at"
    return (
        f"Candles of {instrument}, {bars.height} bars of {frame.text} from {utc_time(first['start_ms'], frame)}"
        f" to {utc_time(last['start_ms'], frame)} UTC: {direction} {abs(change) * 100:.2f} percent"
        f" to {number_text(last['close'], decimals)}, between {number_text(low, decimals)} and"
        f" {number_text(high, decimals)};"
        f" the newest bar is {last['state']}."
    )
