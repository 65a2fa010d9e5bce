"""Rows of messages and answers in the order in which they go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from feed.connection.ids import id_of
from feed.connection.lanes import Row
from feed.mapping.exact_json import text_of
from feed.mapping.order import newest_first
from feed.mapping.table import times_ns

RawRow = Mapping[str, object]


@dataclass(frozen=True)
class Ordered:
    """The rows of one message by time, in the source's own order where these are equal.

    unplaced: those without a time or an instrument, which become rejects.
    """

    rows: list[Row] = field(default_factory=list)
    unplaced: list[RawRow] = field(default_factory=list)


def in_order(groups: Sequence[Sequence[RawRow]], *, rising: bool, backfilled: bool = False) -> list[Ordered]:
    """Put each group of rows in order; all their times are read at once, which is far quicker than one by one.

    A group that is newest first is reversed. rising: ids are numbers that rise, and so order rows of one time.
    """
    times = iter(times_ns(row.get("time") for rows in groups for row in rows))
    return [_ordered(rows, [next(times) for _ in rows], rising, backfilled) for rows in groups]


def _ordered(rows: Sequence[RawRow], times: Sequence[int | None], rising: bool, backfilled: bool) -> Ordered:
    ids = [_id(row, rising) for row in rows]
    found = Ordered()
    for at_ns, row_id, row in zip(times, ids, rows, strict=True):
        if at_ns is None or row.get("instrument") is None:
            found.unplaced.append(row)
        else:
            found.rows.append(Row(at_ns, row_id, row, backfilled))
    if len(rows) > 1:
        names = [row.get("instrument") for row in rows]
        if newest_first(times, names, [None if one is None else str(one) for one in ids]):
            found.rows.reverse()
        found.rows.sort(key=lambda row: (row.time_ns, row.id if isinstance(row.id, int) else -1))
    return found


def _id(row: RawRow, rising: bool) -> int | str | None:
    text = (text_of(row.get("id")) or "").strip() or None
    if text is None or not rising:
        return text
    return id_of(text)
