"""The settings of a WebSocket feed: its address, the messages to send and to receive, and template placeholders."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from barmill.ingest.connection.guard import parse_url
from barmill.ingest.connection.instrument_stream import BackfillRequest
from barmill.ingest.connection.reconnect import AddressRefusedError
from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.platform.clock import NS_PER_MS, NS_PER_S

Template = dict[str, JsonValue]


class Settings(BaseModel):
    """A base model that is immutable and rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(Settings):
    """A condition on a message: a value at a path, optionally equal to a value or containing a text."""

    path: str = Field(min_length=1)
    equals: str | int | float | bool | None = None
    contains: str | None = None


class KeyLocation(Settings):
    """The location of the key: a header or query parameter of this name, or messages, in place of {key}.

    prefix: text before the key in the header or parameter.
    """

    where: Literal["header", "query", "message"]
    name: str = "Authorization"
    prefix: str = ""


class Backfill(Settings):
    """The settings for fetching missed ticks over HTTP.

    url: with {instrument}, {instrument_lower} or {instrument_plain}. parameters: values may also contain {from_id},
    {to_id}, {before_id} (to_id plus one), {from_ns}, {from_ms}, {from_s} or {limit}; a parameter without a known value
    is omitted. by: the order of a page: `from_id` rising from an id on, `before_id` falling from below an id,
    `from_time` rising from a time on. page: the number of rows to request; fewer rows mean that there are no more.
    per_s: requests per second. longest_s: ticks missed during a longer disconnection are not fetched. limited:
    conditions for a response that reports a rate limit. errors: conditions for a response that reports an error, as
    opposed to no data.
    """

    url: str
    parameters: dict[str, str] = Field(default_factory=dict)
    by: Literal["from_id", "before_id", "from_time"]
    rows: RowMapping
    page: int = Field(default=1_000, ge=1)
    per_s: float = Field(default=4.0, gt=0)
    longest_s: float = Field(default=21_600.0, gt=0)
    limited: tuple[Match, ...] = ()
    errors: tuple[Match, ...] = ()


Matches = tuple[Match, ...]


class WebSocketFeed(Settings):
    """A provider that sends prices over WebSocket.

    instruments: the instruments to read, in the provider's own spelling.
    subscribe, unsubscribe: messages with {instrument}, {instrument_lower} or {instrument_plain} (letters and digits
    only), {key} and {number} (of the message). A list whose only element contains an instrument gets one element per
    instrument. Without unsubscribe, the connection is renewed when fewer instruments are selected.
    per_message, per_connection: the maximum number of instruments in one message and on one connection. messages_per_s:
    the maximum number of messages sent over a connection per second.
    acks: conditions for a message that confirms a subscription; acks_per: one confirmation per message or per
    instrument.
    ping: a message sent every ping_s seconds; without it, a protocol ping.
    silence_s: after this time without any message or pong the connection counts as dead.
    limited, refused, complaints, acks, heartbeats, snapshots, prices, ignored: matched in this order; a message that
    matches none is a reject. snapshots: past prices, which may arrive after a connection is made, and do not affect
    completeness.
    server_time: path to the provider's clock in any message, parsed with the time format of `rows`.
    snapshot_order, snapshot_rows: order and mapping of snapshots; without the latter, snapshots use `rows`.
    consecutive_ids: the ids of an instrument rise one by one, so a missing id is visible.
    limited_codes: close codes that mean too many messages or connections.
    """

    kind: Literal["websocket"] = "websocket"
    url: str
    instruments: tuple[str, ...] = ()
    subscribe: tuple[Template, ...] = Field(min_length=1)
    unsubscribe: tuple[Template, ...] = ()
    per_message: int = Field(default=100, ge=1)
    per_connection: int = Field(default=100, ge=1)
    messages_per_s: float = Field(default=4.0, gt=0)
    ping: Template | None = None
    ping_s: float = Field(default=10.0, gt=0)
    silence_s: float = Field(default=60.0, gt=0)
    limited: Matches = ()
    refused: Matches = ()
    complaints: Matches = ()
    snapshots: Matches = ()
    prices: Annotated[Matches, Field(min_length=1)]
    heartbeats: Matches = ()
    acks: Matches = ()
    acks_per: Literal["message", "instrument"] = "message"
    ignored: Matches = ()
    server_time: str = ""
    rows: RowMapping
    snapshot_rows: RowMapping | None = None
    snapshot_order: Literal["newest_first", "oldest_first"] = "oldest_first"
    consecutive_ids: bool = False
    limited_codes: tuple[int, ...] = ()
    key: KeyLocation | None = None
    backfill: Backfill | None = None

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            scheme = parse_url(value).scheme
        except AddressRefusedError as error:
            raise ValueError(str(error)) from None
        if scheme not in ("ws", "wss"):
            raise ValueError("The address of a WebSocket must begin with wss://.")
        return value

    @model_validator(mode="after")
    def _has_id(self) -> Self:
        if self.consecutive_ids and not self.rows.id:
            raise ValueError("consecutive_ids requires a path to the id in rows.")
        return self


_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]")

PlaceholderValues = Mapping[str, str | int | None]


def spellings_of(instrument: str) -> dict[str, str | int | None]:
    """Return the spellings of an instrument for templates."""
    return {
        "instrument": instrument,
        "instrument_lower": instrument.lower(),
        "instrument_plain": _NOT_PLAIN.sub("", instrument),
    }


def messages(
    templates: Iterable[Template], instruments: Sequence[str], per_message: int, key: str, first_number: int
) -> Iterator[JsonValue]:
    """Yield the messages for these instruments, `per_message` in each, numbered from `first_number` on."""
    number = first_number
    for start in range(0, len(instruments), per_message):
        part = instruments[start : start + per_message]
        for template in templates:
            yield _fill_placeholders(template, part, {"key": key, "number": number})
            number += 1


def message(template: Template, key: str, number: int) -> JsonValue:
    """Return a message without an instrument."""
    return _fill_placeholders(template, [], {"key": key, "number": number})


def with_key(url: str, location: KeyLocation | None, key: str) -> str:
    """Return the URL, with the key if it goes in the query."""
    if location is None or location.where != "query" or not key:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode({location.name: location.prefix + key})}"


def headers_with_key(location: KeyLocation | None, key: str) -> dict[str, str]:
    """Return the headers with the key, if it goes in a header."""
    return {location.name: location.prefix + key} if location is not None and location.where == "header" and key else {}


def backfill_url(backfill: Backfill, request: BackfillRequest) -> str:
    """Return the URL of a page of an instrument's history; parameters without a known value are omitted."""
    from_ns = request.from_ns
    values: PlaceholderValues = {
        **spellings_of(request.instrument),
        "from_id": request.from_id,
        "to_id": request.to_id,
        "before_id": None if request.to_id is None else request.to_id + 1,
        "from_ns": from_ns,
        "from_ms": None if from_ns is None else from_ns // NS_PER_MS,
        "from_s": None if from_ns is None else from_ns // NS_PER_S,
        "limit": backfill.page,
    }
    path = {name: quote(str(value), safe="") for name, value in values.items() if value is not None}
    parameters = {
        name: _fill_text(value, values)
        for name, value in backfill.parameters.items()
        if all(values.get(placeholder, "") is not None for placeholder in _PLACEHOLDER.findall(value))
    }
    return _fill_text(backfill.url, path) + (f"?{urlencode(parameters)}" if parameters else "")


def _fill_placeholders(value: JsonValue, instruments: Sequence[str], values: PlaceholderValues) -> JsonValue:
    if isinstance(value, dict):
        return {name: _fill_placeholders(part, instruments, values) for name, part in value.items()}
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], str) and "{instrument" in value[0]:
            return [_fill_text(value[0], {**values, **spellings_of(instrument)}) for instrument in instruments]
        return [_fill_placeholders(part, instruments, values) for part in value]
    if not isinstance(value, str):
        return value
    if value == "{number}":
        return values["number"]
    return _fill_text(value, {**values, **(spellings_of(instruments[0]) if instruments else {})})


def _fill_text(template: str, values: PlaceholderValues) -> str:
    return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), template)
