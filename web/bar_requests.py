"""Requests for bars: query parameters parsed and checked against the store, and the data of the responses.

Functions that parse parameters raise BarRequestError for invalid ones.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from barmill.charts.candles import Candles, bars_with_studies
from barmill.charts.studies import Study, StudyError, StudyLine, parse_studies
from barmill.charts.view import ChartView
from barmill.model.frames import Frame, FrameError, parse_frame
from barmill.platform.clock import now_ms
from barmill.platform.csv_file import csv_bytes
from barmill.platform.home import Home
from barmill.storage.changes import Changes, Cursor, CursorError
from barmill.storage.reader import BarQuery, BarReader
from control.freshness.reading import newest_tick_ms
from control.monitoring.outages import explained_gaps
from views import readings
from views.chart_bars import HISTORY_BARS, ShownBars, chart_message, newest_query

MAX_SHOWN_BARS, DEFAULT_SHOWN_BARS = 5_000, 1_500
_YEAR_9999_MS = 253_370_764_800_000


class BarRequestError(ValueError):
    """The request cannot be answered; the message says what to write instead."""


@dataclass(frozen=True)
class BarRequest:
    """A query for bars, and the studies over them."""

    query: BarQuery
    studies: tuple[Study, ...]


def parse_chart_request(reader: BarReader, parameters: Mapping[str, str]) -> BarRequest:
    """Return the request of a chart: the newest `count` bars that start before `to`, and its studies."""
    count = _int_parameter(parameters, "count", DEFAULT_SHOWN_BARS)
    if not 1 <= count <= MAX_SHOWN_BARS:
        raise BarRequestError(f"count={count} is not possible; request 1 to {MAX_SHOWN_BARS:,} bars.")
    return _bar_request(reader, parameters, to_ms=_time_ms(parameters, "to"), newest=count)


def parse_changes_request(reader: BarReader, parameters: Mapping[str, str]) -> tuple[ChartView, Cursor]:
    """Return the view of an open chart, and the cursor after which it requests changes."""
    text = parameters.get("after")
    if text is None:
        raise BarRequestError("The parameter after is missing; add after= with the cursor of the last answer.")
    try:
        after = Cursor.parse(text)
    except CursorError as error:
        raise BarRequestError(str(error)) from error
    instrument, frame = _series(reader, parameters)
    studies, fill, as_of_ms = _options(parameters)
    return ChartView(instrument, frame, studies=studies, fill=fill, as_of_ms=as_of_ms), after


def parse_file_request(reader: BarReader, parameters: Mapping[str, str], limit: int) -> BarRequest:
    """Return the request of a file: up to one bar more than `limit` in its range, to detect that there are more."""
    from_ms, to_ms = _time_ms(parameters, "from"), _time_ms(parameters, "to")
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise BarRequestError("The range is empty; from must be earlier than to.")
    return _bar_request(reader, parameters, from_ms=from_ms, to_ms=to_ms, newest=limit + 1)


def parse_history_request(reader: BarReader, parameters: Mapping[str, str]) -> tuple[str, Frame, int]:
    """Return instrument, frame and start of a single bar."""
    start_ms = _time_ms(parameters, "start")
    if start_ms is None:
        raise BarRequestError(
            "The parameter start is missing; add start= with the start of the bar in milliseconds since 1970."
        )
    return *_series(reader, parameters), start_ms


def _bar_request(
    reader: BarReader,
    parameters: Mapping[str, str],
    *,
    to_ms: int | None,
    newest: int,
    from_ms: int | None = None,
) -> BarRequest:
    instrument, frame = _series(reader, parameters)
    studies, fill, as_of_ms = _options(parameters)
    return BarRequest(BarQuery(instrument, frame, from_ms, to_ms, as_of_ms, fill, newest), studies)


def _options(parameters: Mapping[str, str]) -> tuple[tuple[Study, ...], bool, int | None]:
    """Return the studies, whether to fill gaps, and the time as of which to read."""
    fill = parameters.get("fill", "")
    if fill not in ("", "0", "1"):
        raise BarRequestError("fill must be 1, for synthetic bars in gaps, or 0.")
    try:
        studies = parse_studies(parameters.get("studies", ""))
    except StudyError as error:
        raise BarRequestError(str(error)) from error
    return studies, fill == "1", _time_ms(parameters, "as_of")


def _series(reader: BarReader, parameters: Mapping[str, str]) -> tuple[str, Frame]:
    instrument = parameters.get("instrument", "")
    if not instrument:
        raise BarRequestError("The parameter instrument is missing; add, for example, instrument=BTC/USDT.")
    try:
        frame = parse_frame(parameters.get("frame", ""))
    except FrameError as error:
        raise BarRequestError(str(error)) from error
    offered = reader.offered_frames(instrument)
    if not offered:
        raise BarRequestError(f"There are no bars of {instrument}.")
    if frame not in offered:
        names = ", ".join(other.text for other in offered)
        raise BarRequestError(f"There are no {frame.text} bars of {instrument}; choose one of {names}.")
    return instrument, frame


def _time_ms(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) >= _YEAR_9999_MS:
        raise BarRequestError(f"{name}={text} is not a time; write milliseconds since 1970, such as 1764072000000.")
    return int(text)


def _int_parameter(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BarRequestError(f"{name}={text} is not a whole number.")
    return int(text)


def changes_message(home: Home, reader: BarReader, parameters: Mapping[str, str]) -> Candles:
    """Return the chart's message with the bars that changed after a cursor, within the newest HISTORY_BARS slots.

    after: the cursor, or None if it is invalid, so that the chart has to start again. from_slot: the first slot that
    the message covers. complete_from_slot: the message has all bars from this slot on, so that the chart drops others;
    None if no bar can have vanished. Raise BarRequestError if a parameter is invalid.
    """
    view, after = parse_changes_request(reader, parameters)
    read_ms, cursor = now_ms(), reader.cursor(view.instrument, view.frame)
    newest = reader.read(newest_query(view))
    newest_ms = newest["start_ms"][-1] if newest.height else read_ms
    from_ms = newest_ms - HISTORY_BARS * view.frame.length_ms
    no_changes = Changes(newest.clear())
    is_live = view.as_of_ms is None
    changed = reader.changed_since(view.instrument, view.frame, after, from_ms) if is_live else no_changes
    found = changed or no_changes
    shown_bars = _changed_bars(home, reader, view, newest, found.bars)
    shown_bars = replace(
        shown_bars,
        newest_tick_ms=newest_tick_ms(reader, view.instrument),
        cursor=cursor.after(shown_bars.bars),
    )
    message = chart_message(view, shown_bars, read_ms, readings.flow(home))
    return message | {
        "after": None if changed is None else str(after),
        "from_slot": view.frame.slot(from_ms),
        "complete_from_slot": None if found.complete_from_ms is None else view.frame.slot(found.complete_from_ms),
    }


def _changed_bars(
    home: Home, reader: BarReader, view: ChartView, newest: pl.DataFrame, changed: pl.DataFrame
) -> ShownBars:
    """Return the changed bars; with studies or filled gaps also all later bars.

    The values of a study, and the bars that fill a gap, depend on earlier bars.
    """
    if not changed.height:
        return ShownBars(changed, newest)
    first_ms = changed["start_ms"][0]
    before = reader.read(BarQuery(view.instrument, view.frame, to_ms=first_ms, newest=1))
    gaps = explained_gaps(home, pl.concat([before, changed]), view.frame)
    if not view.studies and not (view.fill and gaps):
        return ShownBars(changed, newest, gaps=gaps)
    start_ms = min([first_ms, *before["end_ms"]]) if view.fill else first_ms
    bars, lines = bars_with_studies(reader.read, replace(view.query, from_ms=start_ms), view.studies)
    return ShownBars(bars, newest, lines, gaps)


MAX_EXPORTED_BARS = 100_000


@dataclass(frozen=True)
class BarFile:
    """A file to download."""

    name: str
    media_type: str
    content: bytes


def with_lines(bars: pl.DataFrame, lines: Sequence[StudyLine]) -> pl.DataFrame:
    """Return the bars with an additional column per line, named by the line's label."""
    return bars.with_columns(pl.Series(line.label, line.values, pl.Float64) for line in lines)


def csv_file(table: pl.DataFrame, query: BarQuery) -> BarFile:
    """Return a table of bars as CSV."""
    return BarFile(download_name(table, query, "csv"), "text/csv", csv_bytes(table))


def parquet_file(table: pl.DataFrame, query: BarQuery) -> BarFile:
    """Return a table of bars as Parquet."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return BarFile(download_name(table, query, "parquet"), "application/vnd.apache.parquet", buffer.getvalue())


def download_name(table: pl.DataFrame, query: BarQuery, extension: str) -> str:
    """Return a name with the instrument, the frame, and the time span of the bars."""
    span = [_compact_time(table["start_ms"][0]), _compact_time(table["end_ms"][-1])] if table.height else ["none"]
    as_of = [] if query.as_of_ms is None else [f"as-of-{_compact_time(query.as_of_ms)}"]
    instrument = re.sub(r"[^A-Za-z0-9.]+", "-", query.instrument)
    return f"{'_'.join([instrument, query.frame.text, *span, *as_of])}.{extension}"


def _compact_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1_000, UTC).strftime("%Y%m%dT%H%M%SZ")
