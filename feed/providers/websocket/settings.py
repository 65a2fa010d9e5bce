"""What a WebSocket feed has to be told: where it is, what to say to it, and what its messages mean."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from feed.connection.errors import AddressRefusedError
from feed.connection.guard import parsed
from feed.mapping.rows import RowMapping

Template = dict[str, JsonValue]


class Settings(BaseModel):
    """What cannot be changed once it is read, and knows no other field."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(Settings):
    """What tells a kind of message: something at a path, which may have to be a value, or to contain a text."""

    path: str = Field(min_length=1)
    equals: str | int | float | bool | None = None
    contains: str | None = None


class KeyPlace(Settings):
    """How the key travels: as a header or a parameter of this name, or in messages, where they say {key}."""

    where: Literal["header", "query", "message"]
    name: str = "Authorization"
    prefix: str = ""


class Backfill(Settings):
    """How what was missed is fetched over HTTP.

    url: with {instrument}, {instrument_lower} or {instrument_plain}. parameters: values may also hold {from_id},
    {to_id}, {before_id} (to_id and one), {from_ns}, {from_ms}, {from_s} or {limit}; one whose value is not known is
    left out. by: in which order a page comes: `from_id` rising from an id on, `before_id` falling from below an id,
    `from_time` rising from a time on. page: how many rows are asked for; fewer mean that there are no more. per_s:
    questions a second. longest_s: what was missed during a longer absence is not fetched. limited: what in an answer
    means that it was asked too often. errors: what means an error, and not that nothing is there.
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

    instruments: what is read when nobody has picked any, in the provider's own spelling.
    subscribe, unsubscribe: messages, with {instrument}, {instrument_lower} or {instrument_plain} (letters and digits
    alone), {key} and {number} (of the message). A list whose only element holds an instrument gets one for each.
    Without unsubscribe, the connection is renewed when less is wanted.
    acks: what says that a subscription stands; acks_per: what gets one each.
    ping: what is sent every ping_s; without it, a ping of the protocol.
    silence_s: after so long without any message the connection counts as dead.
    limited, refused, complaints, acks, heartbeats, snapshots, prices, ignored: tried in this order; what fits none is a
    reject. snapshots: prices of the past, as they may come on a connect, and say nothing of how far anything has come.
    server_time: the provider's clock, in any message, read by the time format of `rows`.
    snapshot_order, snapshot_rows: of snapshots; without the latter their rows are like those of prices.
    consecutive_ids: the ids of an instrument rise one by one, so that a missing one shows.
    limited_codes: codes of a close that mean too many messages or connections.
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
    key: KeyPlace | None = None
    backfill: Backfill | None = None

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        try:
            scheme = parsed(value).scheme
        except AddressRefusedError as error:
            raise ValueError(str(error)) from None
        if scheme not in ("ws", "wss"):
            raise ValueError("The address of a WebSocket begins with wss://.")
        return value

    @model_validator(mode="after")
    def _can_tell_ticks_apart(self) -> Self:
        if self.consecutive_ids and not self.rows.id:
            raise ValueError("Ids that rise one by one need a path to the id in rows.")
        return self
