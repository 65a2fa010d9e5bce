"""The interpretation of a provider's messages by the feed's settings, and the order of their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from barmill.ingest.connection.instrument_stream import Row
from barmill.ingest.identity import id_of
from barmill.ingest.mapping.paths import MappingError, first_at
from barmill.ingest.mapping.row_mapping import time_of
from barmill.ingest.mapping.row_tables import times_ns
from barmill.ingest.mapping.rows import newest_first, rows_of
from barmill.ingest.providers.websocket.settings import Match, WebSocketFeed
from barmill.platform.exact_json import JsonError, read_json, text_of

RawRow = Mapping[str, object]


@dataclass(frozen=True)
class OrderedRows:
    """The rows of one message by time; rows of equal times keep the provider's order.

    unusable: rows without a time or an instrument, which become rejects.
    """

    rows: list[Row] = field(default_factory=list)
    unusable: list[RawRow] = field(default_factory=list)


def ordered_rows(groups: Sequence[Sequence[RawRow]], *, rising: bool, backfilled: bool = False) -> list[OrderedRows]:
    """Return each group of rows in order; all times are parsed in one call, which is much faster than row by row.

    A group that is newest first is reversed. rising: ids are rising numbers, so they order rows of equal times.
    """
    times = iter(times_ns(row.get("time") for rows in groups for row in rows))
    return [_order_rows(rows, [next(times) for _ in rows], rising, backfilled) for rows in groups]


def _order_rows(rows: Sequence[RawRow], times: Sequence[int | None], rising: bool, backfilled: bool) -> OrderedRows:
    ids = [_id(row, rising) for row in rows]
    ordered = OrderedRows()
    for at_ns, row_id, row in zip(times, ids, rows, strict=True):
        if at_ns is None or row.get("instrument") is None:
            ordered.unusable.append(row)
        else:
            ordered.rows.append(Row(at_ns, row_id, row, backfilled))
    if len(rows) > 1:
        names = [row.get("instrument") for row in rows]
        if newest_first(times, names, [None if value is None else str(value) for value in ids]):
            ordered.rows.reverse()
        ordered.rows.sort(key=lambda row: (row.time_ns, row.id if isinstance(row.id, int) else -1))
    return ordered


def _id(row: RawRow, rising: bool) -> int | str | None:
    text = (text_of(row.get("id")) or "").strip() or None
    if text is None or not rising:
        return text
    return id_of(text)


class Kind(StrEnum):
    """The kinds of message, in the order in which a message is matched against them; most are names of settings."""

    LIMITED = "limited"
    REFUSED = "refused"
    ERROR = "complaints"
    ACK = "acks"
    HEARTBEAT = "heartbeats"
    SNAPSHOT = "snapshots"
    PRICES = "prices"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class ProviderMessage:
    """A message: its kind, its rows, the provider's clock as returned by `time_of`, and its text if that is shown.

    rows: in the order of the message; a snapshot that the settings call newest first is reversed. problem: why the
    message is unreadable.
    """

    kind: Kind
    rows: Sequence[RawRow] = field(default_factory=list)
    server_time: object = None
    text: str = ""
    problem: str = ""


def parse_message(data: str | bytes, settings: WebSocketFeed) -> ProviderMessage:
    """Return the meaning of a message; an unreadable message never raises an error."""
    text = data if isinstance(data, str) else data.decode("utf-8", "backslashreplace")
    try:
        message = read_json(data).value
    except JsonError as error:
        return ProviderMessage(Kind.UNREADABLE, text=text, problem=f"not JSON ({error})")
    kind = _kind(message, settings)
    server_time = _server_time(message, settings)
    if kind in (Kind.PRICES, Kind.SNAPSHOT):
        is_snapshot = kind is Kind.SNAPSHOT
        try:
            rows = rows_of(message, (settings.snapshot_rows if is_snapshot else None) or settings.rows)
        except MappingError as error:
            return ProviderMessage(Kind.UNREADABLE, text=text, problem=str(error))
        is_newest_first = is_snapshot and settings.snapshot_order == "newest_first"
        return ProviderMessage(kind, rows[::-1] if is_newest_first else rows, server_time)
    problem = "a message of a kind that the settings do not describe" if kind is Kind.UNREADABLE else ""
    return ProviderMessage(kind, [], server_time, text, problem)


def matches(message: object, match: Match) -> bool:
    """Return whether a message matches."""
    value = first_at(message, match.path)
    if match.contains is not None:
        return isinstance(value, str | list) and match.contains.casefold() in str(value).casefold()
    if match.equals is None:
        return value is not None
    return value == match.equals and isinstance(value, bool) == isinstance(match.equals, bool)


def _server_time(message: object, settings: WebSocketFeed) -> object:
    if not settings.server_time:
        return None
    return time_of(first_at(message, settings.server_time), settings.rows.time_format, settings.rows.zone)


def _kind(message: object, settings: WebSocketFeed) -> Kind:
    for kind in Kind:
        if any(matches(message, match) for match in getattr(settings, kind.value, ())):
            return kind
    return Kind.UNREADABLE
