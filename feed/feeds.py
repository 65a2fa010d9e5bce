"""A feed: a named way in for prices, its kind, and the settings of that kind.

The first feed is what feed.json names; it has its kind for its name and its settings there. All others are made on the
Feeds page or by `barmill instrument feed add`, and stand in the control database (control/feeds/).
"""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from control.errors import ControlError
from control.keys.hosts import hosts_in
from feed.names import FIRST_NAMES, prefix_of
from feed.providers.ccxt.settings import CcxtFeed
from feed.providers.rest.settings import RestFeed
from feed.providers.websocket.settings import WebSocketFeed
from feed.settings import PricesTopic

_MOST_FAULTS = 5


class FeedError(ControlError):
    """A feed cannot be like this; the sentence says what to write instead."""


class MarketFeed(BaseModel):
    """Another demo market on this machine, of another Barmill; its key must be one that this market knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["market"] = "market"
    port: int = Field(ge=1, le=65_535)


class KafkaFeed(PricesTopic):
    """A topic on which others publish prices; columns: our name by theirs."""

    kind: Literal["kafka"] = "kafka"
    bootstrap: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)


Settings = Annotated[MarketFeed | KafkaFeed | RestFeed | WebSocketFeed | CcxtFeed, Field(discriminator="kind")]
_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)
# What can be added, and what each is in a few words.
KINDS = {
    "market": "another demo market on this machine",
    "kafka": "a topic of others on Kafka",
    "rest": "an API that is asked for prices over HTTP",
    "websocket": "a provider that sends prices over WebSocket",
    "ccxt": "public trades of an exchange, by the library ccxt",
}
# Of these ingest tells how the connection is; all others tell it themselves.
TOLD_BY_INGEST = FIRST_NAMES


@dataclass(frozen=True)
class Feed:
    """One feed.

    settings: JSON, which `settings_of` reads; '' for the first feed. key: the name of its key in the key store.
    made_ms: when it was made; another one of the same name begins from the start. changed_ms: 0 where nobody has.
    """

    name: str
    kind: str
    settings: str = ""
    key: str | None = None
    enabled: bool = True
    made_ms: int = 0
    changed_ms: int = 0

    @property
    def first(self) -> bool:
        """Tell whether feed.json names it."""
        return self.name in FIRST_NAMES

    @property
    def prefix(self) -> str:
        """Return what the names of its instruments begin with."""
        return prefix_of(self.name)


def settings_of(kind: str, text: str) -> Settings:
    """Read the settings of a kind, JSON with or without the kind in it; raise FeedError in plain words."""
    if kind not in KINDS:
        raise FeedError(f"There is no kind {kind!r} of feed; write one of {', '.join(KINDS)}.")
    try:
        given = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise FeedError(
            f"The settings are not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from None
    if not isinstance(given, dict):
        raise FeedError('The settings are a JSON object, such as {"name": "value"}.')
    if given.get("kind", kind) != kind:
        raise FeedError(f"The settings are those of another kind than {kind}; take the kind that they are for.")
    try:
        return _SETTINGS.validate_python({**given, "kind": kind})
    except ValidationError as error:
        # Never what was given: somebody may have put a key where it does not belong.
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        said = [_fault(kind, fault["loc"], fault["type"], fault["msg"]) for fault in faults[:_MOST_FAULTS]]
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise FeedError(f"The settings do not fit: {'; '.join(said)}{more}.") from None


def written(settings: Settings) -> str:
    """Return settings as they are stored and shown: what is not as usual, and the kind."""
    return json.dumps({"kind": settings.kind, **settings.model_dump(mode="json", exclude_defaults=True)}, indent=2)


def hosts_of(settings: Settings) -> tuple[str, ...]:
    """Return where a feed with these settings sends its key."""
    return hosts_in(settings.kind, settings.model_dump_json())


def _fault(kind: str, at: tuple[int | str, ...], fault: str, message: str) -> str:
    where = ".".join(str(part) for part in at if part != kind) or "the settings"
    if fault == "missing":
        return f"{where} is missing"
    if fault == "extra_forbidden":
        return f"{where} is no setting of this kind"
    words = message.removeprefix("Value error, ")
    return f"{where}: {words[:1].lower()}{words[1:]}"
