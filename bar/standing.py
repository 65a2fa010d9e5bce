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

    frames: the stored ones, shortest first; an earlier price is the close of the newest bar of the shortest frame that
    had ended by then, of a longer one only where the short ones do not reach back so far. ticks: in its shortest bars
    that start in [from, to) of `rate_ms`. spans_ms: how long before `at_ms`, by the column to put that price in.
    """
    newest = f"{_OF_ONE} ORDER BY start_ms DESC LIMIT 1"
    values: dict[str, object] = {"names": json.dumps(list(names)), "frame": frames[0].text}
    values["from"], values["to"] = rate_ms
    columns = [
        "n.value",
        f"(SELECT close {newest})",
        f"(SELECT last_tick_ms {newest})",
        f"(SELECT coalesce(sum(ticks), 0) {_OF_ONE} AND start_ms >= :from AND start_ms < :to)",
    ]
    for place, span_ms in enumerate(spans_ms.values()):
        tries = []
        for rank, frame in enumerate(frames):
            frame_name, until_name = f"frame_{rank}", f"until_{place}_{rank}"
            values |= {frame_name: frame.text, until_name: at_ms - span_ms - frame.length_ms}
            tries.append(
                f"(SELECT close FROM bars WHERE instrument = n.value AND frame = :{frame_name}"
                f" AND start_ms <= :{until_name} ORDER BY start_ms DESC LIMIT 1)"
            )
        columns.append(f"coalesce({', '.join([*tries, 'NULL'])})")
    query = f"SELECT {', '.join(columns)} FROM json_each(:names) AS n ORDER BY n.id"
    schema = STANDING_SCHEMA | dict.fromkeys(spans_ms, pl.Float64())
    return pl.DataFrame(db.conn.execute(query, values).fetchall(), schema, orient="row")


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
