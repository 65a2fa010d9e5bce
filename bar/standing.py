"""Where many instruments stand, in one query for all: walks along the primary key, however large the store is."""

import json
from collections.abc import Mapping, Sequence

import polars as pl

from bar.frames import Frame
from bar.model import BAR_SCHEMA
from bar.sqlite import Database

# Then one column for each span asked for: the price that held so long ago, empty where no bar reaches back so far.
STANDING_SCHEMA = {
    "instrument": pl.String(),
    "last": pl.Float64(),
    "last_tick_ms": pl.Int64(),
    "ticks": pl.Int64(),
}
CLOSES_SCHEMA = {"instrument": pl.String(), "close": pl.Float64()}

_OF_ONE = "FROM bars WHERE instrument = n.value AND frame = :frame"


def standing(
    db: Database,
    names: Sequence[str],
    frames: Sequence[Frame],
    at_ms: int,
    rate_ms: tuple[int, int],
    spans_ms: Mapping[str, int],
) -> pl.DataFrame:
    """Return where each of these instruments stands, in this order; nulls for one without bars.

    frames: the stored ones, those first that are made at present, the shortest first. A price is the close of the bar
    with the newest tick, of whatever frame; an earlier one, of the bars that had ended by then. ticks: in bars of the
    first frame that start in [from, to) of `rate_ms`. spans_ms: how long before `at_ms`, by the column to put that
    price in.
    """
    values: dict[str, object] = {"names": json.dumps(list(names))}
    values |= {f"frame_{rank}": frame.text for rank, frame in enumerate(frames)}
    values["from"], values["to"] = rate_ms
    columns = [
        "n.value",
        _newest_of("close", ["" for _ in frames]),
        _newest_of("last_tick_ms", ["" for _ in frames]),
        "(SELECT coalesce(sum(ticks), 0) FROM bars WHERE instrument = n.value AND frame = :frame_0"
        " AND start_ms >= :from AND start_ms < :to)",
    ]
    for place, span_ms in enumerate(spans_ms.values()):
        untils = [f" AND start_ms <= :until_{place}_{rank}" for rank in range(len(frames))]
        values |= {f"until_{place}_{rank}": at_ms - span_ms - frame.length_ms for rank, frame in enumerate(frames)}
        columns.append(_newest_of("close", untils))
    query = f"SELECT {', '.join(columns)} FROM json_each(:names) AS n ORDER BY n.id"
    schema = STANDING_SCHEMA | dict.fromkeys(spans_ms, pl.Float64())
    return pl.DataFrame(db.conn.execute(query, values).fetchall(), schema, orient="row")


def _newest_of(column: str, conditions: Sequence[str]) -> str:
    """Return SQL for a column of the bar with the newest tick, among the newest of each frame under its condition."""
    newest = " UNION ALL ".join(
        f"SELECT * FROM (SELECT {column} AS found, last_tick_ms, {rank} AS rank FROM bars WHERE instrument = n.value"
        f" AND frame = :frame_{rank}{condition} ORDER BY start_ms DESC LIMIT 1)"
        for rank, condition in enumerate(conditions)
    )
    return f"(SELECT found FROM ({newest}) ORDER BY last_tick_ms DESC, rank LIMIT 1)"


def closes(db: Database, names: Sequence[str], frame: Frame, from_ms: int, count: int) -> pl.DataFrame:
    """Return the closes of the newest bars from `from_ms` on, at most `count` an instrument, by instrument and time."""
    bars = _newest_bars(db, "b.instrument, b.close", names, frame, from_ms, count)
    return pl.DataFrame(bars, CLOSES_SCHEMA, orient="row")


def newest_of_all(db: Database, names: Sequence[str], frame: Frame, count: int) -> pl.DataFrame:
    """Return the newest `count` bars (BAR_SCHEMA) of each of these instruments, by instrument, oldest first."""
    columns = ", ".join(f"b.{name}" for name in BAR_SCHEMA)
    return pl.DataFrame(_newest_bars(db, columns, names, frame, -(2**62), count), BAR_SCHEMA, orient="row")


def _newest_bars(
    db: Database, columns: str, names: Sequence[str], frame: Frame, from_ms: int, count: int
) -> list[tuple[object, ...]]:
    newest = f"SELECT start_ms {_OF_ONE} AND start_ms >= :from ORDER BY start_ms DESC LIMIT :count"
    query = (
        f"SELECT {columns} FROM json_each(:names) AS n CROSS JOIN bars AS b"
        f" ON b.instrument = n.value AND b.frame = :frame AND b.start_ms >= (SELECT min(start_ms) FROM ({newest}))"
        " ORDER BY n.id, b.start_ms"
    )
    values = {"names": json.dumps(list(names)), "frame": frame.text, "from": from_ms, "count": count}
    return db.conn.execute(query, values).fetchall()
