"""The settings of each kind of feed: Pydantic models, and their JSON form.

Importing this module imports the libraries of every kind, such as HTTP clients; for feeds without their settings, see
feed.py.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from barmill.ingest.feeds.feed import KINDS, FeedError
from barmill.ingest.providers.ccxt.settings import CcxtFeed
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.platform.feed_settings import PricesTopic
from barmill.secrets.hosts import hosts_in

_MAX_ERRORS = 5


class MarketFeed(BaseModel):
    """Another Barmill's demo market on this machine; that market must know the key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["market"] = "market"
    port: int = Field(ge=1, le=65_535)


class KafkaFeed(PricesTopic):
    """A topic on which other systems publish prices; columns: Barmill's name by the publisher's name."""

    kind: Literal["kafka"] = "kafka"
    bootstrap: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)


Settings = Annotated[MarketFeed | KafkaFeed | RestFeed | WebSocketFeed | CcxtFeed, Field(discriminator="kind")]
_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


def settings_of(kind: str, text: str) -> Settings:
    """Parse the settings of a kind, JSON with or without the kind in it; raise FeedError if they are invalid."""
    if kind not in KINDS:
        raise FeedError(f"{kind!r} is not a kind of feed; choose one of {', '.join(KINDS)}.")
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise FeedError(
            f"The settings are not valid JSON: {error.msg} on line {error.lineno}, column {error.colno}."
        ) from None
    if not isinstance(values, dict):
        raise FeedError('The settings must be a JSON object, such as {"name": "value"}.')
    if values.get("kind", kind) != kind:
        raise FeedError(f"The settings are for another kind of feed than {kind}; choose the matching kind.")
    try:
        return _SETTINGS.validate_python({**values, "kind": kind})
    except ValidationError as error:
        # Never include the input: a user may have put a key into the settings by mistake.
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        messages = [_error_text(kind, detail["loc"], detail["type"], detail["msg"]) for detail in errors[:_MAX_ERRORS]]
        more = f"; and {len(errors) - _MAX_ERRORS} more" if len(errors) > _MAX_ERRORS else ""
        raise FeedError(f"The settings are invalid: {'; '.join(messages)}{more}.") from None


def settings_to_store(settings: Settings) -> str:
    """Return settings as they are stored and shown: the kind, and the values that differ from the defaults."""
    return json.dumps({"kind": settings.kind, **settings.model_dump(mode="json", exclude_defaults=True)}, indent=2)


def hosts_of(settings: Settings) -> tuple[str, ...]:
    """Return the hosts to which a feed with these settings sends its key or password."""
    return hosts_in(settings.kind, settings.model_dump_json())


def _error_text(kind: str, location: tuple[int | str, ...], error_type: str, message: str) -> str:
    name = ".".join(str(part) for part in location if part != kind) or "the settings"
    if error_type == "missing":
        return f"{name} is missing"
    if error_type == "extra_forbidden":
        return f"{name} is not a setting of this kind of feed"
    text = message.removeprefix("Value error, ")
    return f"{name}: {text[:1].lower()}{text[1:]}"
