"""The latest prices and closes of many instruments, in a few queries along the primary key of the bars."""

import json
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from threading import Lock

import polars as pl

from barmill.model.bar import BAR_SCHEMA
from barmill.model.frames import Frame
from barmill.platform.sqlite_file import Database
from barmill.storage.bar_blocks import (
    BEGIN_MS,
    Block,
    blocks_within,
    snapshot,
    stored_bars,
)

# Followed by one column for each requested span: the price that long ago, null if no bar had ended by then.
LATEST_SCHEMA = {
    "instrument": pl.String(),
    "last": pl.Float64(),
    "last_tick_ms": pl.Int64(),
    "ticks": pl.Int64(),
}
CLOSES_SCHEMA = {"instrument": pl.String(), "close": pl.Float64()}

# Cached parts of recently read blocks: start_ms, last_tick_ms and close of some bars, at most 10 MB in all. A watchlist
# of a thousand instruments needs one part per instrument, span and frame; with a smaller cache, each part would be
# evicted before it is needed again.
_WINDOW_BARS, _MAX_WINDOWS = 60, 6_000
# The name of the store, then all columns but the payload: any change of the bars changes the last of them.
BlockKey = tuple[str, str, str, int, int, int, int, int]
_windows: dict[BlockKey, tuple[Sequence[int], Sequence[int], Sequence[float]]] = {}
# By instrument, the newest row and the newest block that start at or before :until, and between them the store's name.
_BAR_AT = (
    "SELECT value, b.start_ms, b.last_tick_ms, b.close, (SELECT store FROM change_sequence),"
    " k.first_start_ms, k.last_start_ms, k.bars, k.ticks, k.change FROM json_each(:names)"
    " LEFT JOIN bars AS b ON b.instrument = value AND b.frame = :frame AND b.start_ms ="
    " (SELECT max(start_ms) FROM bars WHERE instrument = value AND frame = :frame AND start_ms <= :until)"
    " LEFT JOIN bar_blocks AS k ON k.instrument = value AND k.frame = :frame AND k.first_start_ms ="
    " (SELECT max(first_start_ms) FROM bar_blocks WHERE instrument = value AND frame = :frame"
    " AND first_start_ms <= :until)"
)
_lock = Lock()
_INSTRUMENT_BARS = "FROM bars WHERE instrument = n.value AND frame = :frame"


def latest_prices(
    db: Database,
    names: Sequence[str],
    frames: Sequence[Frame],
    at_ms: int,
    rate_ms: tuple[int, int],
    spans_ms: Mapping[str, int],
) -> pl.DataFrame:
    """Return the latest price of each instrument and its earlier prices, in the order of `names`.

    The columns are LATEST_SCHEMA and one for each span. For an instrument without bars, `ticks` is 0 and the prices and
    last_tick_ms are null.

    frames: the stored frames, currently made ones first, each group shortest first. A price is the close of the bar
    with the newest tick, in any frame; an earlier price is taken from bars that had ended by then. ticks: the number in
    bars of the first frame that start in [from, to) of `rate_ms`. spans_ms: column name to the time before `at_ms`.
    """
    values: dict[str, object] = {"names": json.dumps(list(names))}
    values |= {f"frame_{rank}": frame.text for rank, frame in enumerate(frames)}
    values["from"], values["to"] = rate_ms
    columns = [
        "n.value",
        _newest_of("close", frames),
        _newest_of("last_tick_ms", frames),
        "(SELECT coalesce(sum(ticks), 0) FROM bars WHERE instrument = n.value AND frame = :frame_0"
        " AND start_ms >= :from AND start_ms < :to)",
    ]
    query = f"SELECT {', '.join(columns)} FROM json_each(:names) AS n ORDER BY n.id"
    schema = LATEST_SCHEMA | dict.fromkeys(spans_ms, pl.Float64())
    with snapshot(db):
        rows = {row[0]: [*row, *(None for _ in spans_ms)] for row in db.conn.execute(query, values)}
        for name in names_in_blocks(db, names, frames[0].text, rate_ms[0]) if frames else ():
            rows[name][3] += ticks_within(db, name, frames[0].text, *rate_ms)
        for column, span_ms in enumerate(spans_ms.values(), len(LATEST_SCHEMA)):
            for name, price in _prices_at(db, names, frames, at_ms - span_ms).items():
                rows[name][column] = price
    return pl.DataFrame([rows[name] for name in names], schema, orient="row")


def _prices_at(db: Database, names: Sequence[str], frames: Sequence[Frame], at_ms: int) -> dict[str, float]:
    """Return the close of the bar with the newest tick, among each frame's newest bar that had ended by `at_ms`."""
    newest_ms, prices = dict.fromkeys(names, BEGIN_MS), dict[str, float]()
    for frame in frames:
        text, until_ms, last_ms = frame.text, at_ms - frame.length_ms, frame.start_ms(at_ms) - 1
        # Bars of this frame that had ended have no tick after last_ms.
        left = [name for name in names if newest_ms[name] < last_ms]
        values = {"names": json.dumps(left), "frame": text, "until": until_ms}
        for name, start_ms, tick_ms, close, store, *block in db.conn.execute(_BAR_AT, values).fetchall():
            if block[0] is not None and (start_ms is None or block[1] > start_ms):
                tick_ms, close = _close_in(db, (store, name, text, *block), until_ms)
            if tick_ms is not None and tick_ms > newest_ms[name]:
                newest_ms[name], prices[name] = tick_ms, close
    return prices


def _close_in(db: Database, block: BlockKey, until_ms: int) -> tuple[int, float]:
    """Return last_tick_ms and close of the last bar of a block that starts at or before `until_ms`.

    Keeps this bar and the next ones in memory: an open page asks for the prices of an hour ago every few seconds.
    """
    _, name, frame, first_ms, last_ms, *numbers = block
    with _lock:
        window = _windows.pop(block, None)
    is_inside = window is not None and window[0][0] <= until_ms
    if window is None or not is_inside or (until_ms >= window[0][-1] != last_ms):
        content = Block(name, frame, first_ms, last_ms, *numbers).content(db)
        starts_ms, last_ticks_ms, prices = content.closes(until_ms, _WINDOW_BARS)
        window = array("q", starts_ms), array("q", last_ticks_ms), array("d", prices)
    with _lock:
        _windows[block] = window
        while len(_windows) > _MAX_WINDOWS:
            _windows.pop(next(iter(_windows)))
    starts, ticks_ms, closes = window
    place = bisect_right(starts, until_ms) - 1
    return ticks_ms[place], closes[place]


def names_in_blocks(
    db: Database, names: Sequence[str], frame: str, from_ms: int = BEGIN_MS, count: int | None = None
) -> list[str]:
    """Return the instruments with bars in blocks among those from `from_ms` on, or among the newest `count` of these.

    Instruments whose rows are all that is needed are left out. Uses a step along the primary keys for each instrument.
    """
    oldest_row = "SELECT start_ms FROM bars WHERE instrument = value AND frame = :frame"
    oldest_counted = f"({oldest_row} ORDER BY start_ms DESC LIMIT 1 OFFSET :skipped)" if count else BEGIN_MS
    query = (
        "SELECT value FROM json_each(:names) WHERE (SELECT last_start_ms FROM bar_blocks WHERE instrument = value"
        " AND frame = :frame ORDER BY first_start_ms DESC LIMIT 1)"
        f" >= max(:from_ms, coalesce({oldest_counted}, {BEGIN_MS}))"
    )
    values = {"names": json.dumps(list(names)), "frame": frame, "from_ms": from_ms, "skipped": (count or 1) - 1}
    return [name for (name,) in db.conn.execute(query, values)]


def ticks_within(db: Database, instrument: str, frame: str, from_ms: int, to_ms: int) -> int:
    """Return how many ticks the bars in blocks hold that start in [from_ms, to_ms)."""
    ticks = 0
    for block in blocks_within(db, instrument, frame, from_ms, to_ms):
        if from_ms <= block.first_start_ms and block.last_start_ms < to_ms:
            ticks += block.ticks
        else:
            content = block.content(db)
            ticks += int(content.integers("ticks")[content.within(from_ms, to_ms)].sum())
    return ticks


def _newest_of(column: str, frames: Sequence[Frame]) -> str:
    """Return SQL for a column of the bar with the newest tick, among the newest of each frame."""
    newest = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {column} AS value, last_tick_ms, {rank} AS rank FROM bars WHERE instrument = n.value"
        f" AND frame = :frame_{rank} ORDER BY start_ms DESC LIMIT 1)"
        for rank, _ in enumerate(frames)
    )
    return f"(SELECT value FROM ({newest}) ORDER BY last_tick_ms DESC, rank LIMIT 1)"


def closes(db: Database, names: Sequence[str], frame: Frame, from_ms: int, count: int) -> pl.DataFrame:
    """Return the newest closes (CLOSES_SCHEMA) from `from_ms` on, at most `count` per instrument.

    They are in the order of `names`, oldest first.
    """
    return _newest(db, CLOSES_SCHEMA, names, frame, from_ms, count)


def newest_bars(db: Database, names: Sequence[str], frame: Frame, count: int) -> pl.DataFrame:
    """Return the newest `count` bars (BAR_SCHEMA) of each instrument, in the order of `names`, oldest first."""
    return _newest(db, BAR_SCHEMA, names, frame, BEGIN_MS, count)


def _newest(
    db: Database, schema: Mapping[str, pl.DataType], names: Sequence[str], frame: Frame, from_ms: int, count: int
) -> pl.DataFrame:
    columns = ", ".join(f"b.{name}" for name in schema)
    newest = f"SELECT start_ms {_INSTRUMENT_BARS} AND start_ms >= :from ORDER BY start_ms DESC LIMIT :count"
    query = (
        f"SELECT {columns} FROM json_each(:names) AS n CROSS JOIN bars AS b"
        f" ON b.instrument = n.value AND b.frame = :frame AND b.start_ms >= (SELECT min(start_ms) FROM ({newest}))"
        " ORDER BY n.id, b.start_ms"
    )
    values = {"names": json.dumps(list(names)), "frame": frame.text, "from": from_ms, "count": count}
    with snapshot(db):
        bars = pl.DataFrame(db.conn.execute(query, values).fetchall(), schema, orient="row")
        in_blocks = names_in_blocks(db, names, frame.text, from_ms, count)
        if not in_blocks:
            return bars
        parts = bars.partition_by("instrument", as_dict=True)
        found = {name: parts.get((name,), bars.clear()) for name in names}
        for name in in_blocks:
            found[name] = stored_bars(db, name, frame.text, from_ms, newest=count).select(schema.keys())
    return pl.concat(found.values())
