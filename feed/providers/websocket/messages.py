"""What a message of a provider means, by its settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from feed.mapping.exact_json import JsonError, read_json
from feed.mapping.rows import MappingError, first_at, rows_of, time_of
from feed.providers.websocket.rows import RawRow
from feed.providers.websocket.settings import Match, WebSocketFeed


class Kind(StrEnum):
    """The kinds of message, in the order in which a message is tried for each."""

    LIMITED = "limited"
    REFUSED = "refused"
    COMPLAINT = "complaints"
    ACK = "acks"
    HEARTBEAT = "heartbeats"
    SNAPSHOT = "snapshots"
    PRICES = "prices"
    IGNORED = "ignored"
    GARBAGE = "garbage"


@dataclass(frozen=True)
class Said:
    """A message: what it is, its rows with the oldest first, the provider's clock, and its text where that is shown.

    problem: why it is garbage.
    """

    kind: Kind
    rows: Sequence[RawRow] = field(default_factory=list)
    server_time: object = None
    text: str = ""
    problem: str = ""


def read(data: str | bytes, settings: WebSocketFeed) -> Said:
    """Say what a message means; one that cannot be read is garbage, never an error."""
    text = data if isinstance(data, str) else data.decode("utf-8", "backslashreplace")
    try:
        message = read_json(data).value
    except JsonError as error:
        return Said(Kind.GARBAGE, text=text, problem=f"not JSON ({error})")
    kind = _kind(message, settings)
    server_time = _server_time(message, settings)
    if kind in (Kind.PRICES, Kind.SNAPSHOT):
        history = kind is Kind.SNAPSHOT
        try:
            rows = rows_of(message, (settings.snapshot_rows if history else None) or settings.rows)
        except MappingError as error:
            return Said(Kind.GARBAGE, text=text, problem=str(error))
        newest_first = history and settings.snapshot_order == "newest_first"
        return Said(kind, rows[::-1] if newest_first else rows, server_time)
    problem = "a message of a kind that the feed is not told of" if kind is Kind.GARBAGE else ""
    return Said(kind, [], server_time, text, problem)


def fits(message: object, match: Match) -> bool:
    """Tell whether a message holds what is looked for."""
    found = first_at(message, match.path)
    if match.contains is not None:
        return isinstance(found, str | list) and match.contains.casefold() in str(found).casefold()
    if match.equals is None:
        return found is not None
    return found == match.equals and isinstance(found, bool) == isinstance(match.equals, bool)


def _server_time(message: object, settings: WebSocketFeed) -> object:
    if not settings.server_time:
        return None
    return time_of(first_at(message, settings.server_time), settings.rows.time_format, settings.rows.zone)


def _kind(message: object, settings: WebSocketFeed) -> Kind:
    for kind in Kind:
        if any(fits(message, match) for match in getattr(settings, kind.value, ())):
            return kind
    return Kind.GARBAGE
