"""The data that pages read from the stores, and the rate of ticks; a missing store reads as empty."""

from collections.abc import Sequence
from contextlib import suppress

import polars as pl

from barmill.model.bar import BAR_SCHEMA
from barmill.model.frames import Frame, parse_frame
from barmill.platform import clock
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.reader import BarQuery, BarReader, FrameNotStoredError
from barmill.storage.tick_log import TickLog
from control.freshness import reading
from control.freshness.flow import Flow
from control.freshness.judge import Freshness, ShownFrame, freshness

# Pages import these from this module, like the other readings.
flow = reading.read_flow
now_ms = clock.now_ms


def newest_tick_ms(home: Home, instrument: str) -> int | None:
    """Return the time of the newest tick of an instrument in bars of any frame, or None."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reading.newest_tick_ms(reader, instrument)
    return None


def bar_freshness(home: Home, flow: Flow, instrument: str, frame: Frame) -> Freshness:
    """Return the freshness of the newest bar of an instrument in this frame."""
    with suppress(FrameNotStoredError), if_ready(), BarReader.open(home.bars_db) as reader:
        return reading.bar_freshness(reader, flow, instrument, frame)
    return freshness(flow.for_instrument(instrument), ShownFrame(frame))


def instruments(home: Home) -> list[str]:
    """Return every instrument with bars."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.instruments()
    return []


def frames(home: Home, instrument: str) -> list[Frame]:
    """Return the stored frames of this instrument, shortest first."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return sorted(map(parse_frame, reader.frames(instrument)))
    return []


def offered_frames(home: Home, instrument: str) -> list[Frame]:
    """Return this instrument's stored frames and the usual frames that can be derived from them, shortest first."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.offered_frames(instrument)
    return []


def bars_per_read(home: Home, instrument: str, frame: Frame) -> int:
    """Return how many bars one request may read while staying fast; 1 without a bar store."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.bars_per_read(instrument, frame)
    return 1


def bars(home: Home, query: BarQuery) -> pl.DataFrame:
    """Return the requested bars, oldest first; raise FrameNotStoredError for a frame that cannot be derived."""
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.read(query)
    return pl.DataFrame(schema=BAR_SCHEMA)


def newest(home: Home, names: Sequence[str], frame: Frame, count: int) -> list[pl.DataFrame]:
    """Return up to `count` newest bars of each instrument (BAR_SCHEMA, oldest first).

    The table of an instrument is empty if the frame cannot be derived; without a bar store, there are no tables.
    """
    tables: list[pl.DataFrame] = []
    with if_ready(), BarReader.open(home.bars_db) as reader:
        for name in names:
            try:
                tables.append(reader.read(BarQuery(name, frame, newest=count)))
            except FrameNotStoredError:
                tables.append(pl.DataFrame(schema=BAR_SCHEMA))
        return tables
    return []


def rejects_by_reason(home: Home) -> dict[str, int]:
    """Return how many rows were rejected at ingest, by reason, and how many ticks by jobs, as `too_late`."""
    reasons, late_count = dict[str, int](), 0
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        reasons = log.rejects_by_reason()
    with if_ready(), BarReader.open(home.bars_db) as reader:
        late_count = reader.reject_count()
    return reasons | {"too_late": late_count} if late_count else reasons


_RATE_WINDOW_MS = 5_000


def with_reading(readings: Sequence[Flow], newest: Flow, keep_ms: int) -> tuple[Flow, ...]:
    """Add a reading and drop those older than `keep_ms`; start again if the log was replaced."""
    if readings and newest.end_sequence < readings[-1].end_sequence:
        readings = ()
    return (*(reading for reading in readings if reading.read_ms >= newest.read_ms - keep_ms), newest)


def ticks_per_s(readings: Sequence[Flow], over_ms: int = _RATE_WINDOW_MS) -> float | None:
    """Return the ticks accepted per second over the last `over_ms` of these readings, or at least the last two.

    None for fewer than two readings, or if no time has passed between them.
    """
    if len(readings) < 2:
        return None
    newest = readings[-1]
    oldest = next(reading for reading in readings if reading.read_ms >= newest.read_ms - over_ms)
    if oldest is newest:
        oldest = readings[-2]
    elapsed_ms = newest.read_ms - oldest.read_ms
    return (newest.end_sequence - oldest.end_sequence) * 1_000 / elapsed_ms if elapsed_ms else None


def rates(readings: Sequence[Flow]) -> list[float]:
    """Return the ticks per second at each reading from the second on; unknown rates are left out."""
    rates_known = (ticks_per_s(readings[: index + 1]) for index in range(1, len(readings)))
    return [rate for rate in rates_known if rate is not None]
