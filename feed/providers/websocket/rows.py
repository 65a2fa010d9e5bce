"""Rows of messages and answers in the order in which they go on."""

from collections.abc import Mapping, Sequence

from feed.connection.ids import id_of
from feed.connection.lanes import Row
from feed.mapping.table import times_ns

RawRow = Mapping[str, object]


def in_order(rows: Sequence[RawRow]) -> tuple[list[Row], list[RawRow]]:
    """Return the rows by (time, id), as they came where these are equal; and those without a time."""
    times = times_ns(row.get("time") for row in rows)
    placed = [
        Row(at_ns, id_of(row.get("id")), row) for row, at_ns in zip(rows, times, strict=True) if at_ns is not None
    ]
    placed.sort(key=lambda row: (row.time_ns, -1 if row.id is None else row.id))
    return placed, [row for row, at_ns in zip(rows, times, strict=True) if at_ns is None]
