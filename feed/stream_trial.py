"""Trying the settings of a WebSocket feed before they are saved: the first messages, and what would become of them.

It runs the provider of the feed itself, so what it shows is what the feed would deliver.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

import orjson
import polars as pl

from feed.connection.guard import Guard
from feed.connection.http import redacted
from feed.connection.state import ConnectionState, Phase
from feed.provider import ProviderError
from feed.providers.websocket import templates
from feed.providers.websocket.messages import Kind, read
from feed.providers.websocket.provider import WebSocketProvider
from feed.providers.websocket.settings import WebSocketFeed
from feed.trial import (
    NO_INSTRUMENT,
    RAW_CHARACTERS,
    TOO_MANY,
    TRIAL_S,
    Trial,
    few_at_once,
    judged,
    notes_of,
    shown_rows,
)

_MOST_INSTRUMENTS = 5
# So many rows show what the mapping makes of them; nobody needs to wait for more.
_ENOUGH_ROWS = 20
_MOST_MESSAGES = 200
_ENDS = frozenset({Phase.WAITING, Phase.LIMITED, Phase.RESTING, Phase.REFUSED, Phase.BROKEN})


@dataclass
class _Listening:
    """What came so far; stop: set when that is enough, or nothing more will come."""

    stop: threading.Event = field(default_factory=threading.Event)
    messages: list[bytes] = field(default_factory=list)
    ticks: list[pl.DataFrame] = field(default_factory=list)
    broken: list[pl.DataFrame] = field(default_factory=list)
    problem: str = ""

    def overhear(self, message: bytes) -> None:
        if len(self.messages) < _MOST_MESSAGES:
            self.messages.append(message)
        else:
            self.stop.set()

    def report(self, state: ConnectionState) -> None:
        if state.phase in _ENDS:
            self.problem = self.problem or state.sentence
            self.stop.set()


def stream_trial(settings: WebSocketFeed, key: str = "", guard: Guard | None = None, wait_s: float = TRIAL_S) -> Trial:
    """Connect, subscribe and listen; never raise for what the provider or the settings do.

    It ends with enough prices, or after `wait_s`, and reads 200 messages at most.
    """
    names = settings.instruments[:_MOST_INSTRUMENTS]
    found = Trial(request_shown_without_key=_said_to_it(settings, names))
    if not names:
        return replace(found, problem=NO_INSTRUMENT)
    if not few_at_once.acquire(blocking=False):
        return replace(found, problem=TOO_MANY)
    began_s = time.monotonic()
    try:
        heard = _heard(settings, key, guard or Guard(), frozenset(names), wait_s)
    finally:
        few_at_once.release()
    raw_text = redacted(b"\n".join(heard.messages).decode(errors="backslashreplace"), key)[:RAW_CHARACTERS]
    found = replace(found, raw_text=raw_text, took_ms=(time.monotonic() - began_s) * 1_000)
    rows = shown_rows([row for ticks in heard.ticks for row in ticks.to_dicts()], key)
    broken = pl.concat(heard.broken, how="diagonal_relaxed") if heard.broken else pl.DataFrame()
    if not rows and not broken.height:
        problem = heard.problem or _complaint(settings, heard.messages, key)
        return replace(found, problem=problem or _nothing_came(len(heard.messages), wait_s))
    return replace(judged(found, rows, broken, key), rows=rows, notes=notes_of(settings.rows, rows))


def _heard(settings: WebSocketFeed, key: str, guard: Guard, names: frozenset[str], wait_s: float) -> _Listening:
    """Run the feed's own provider until there is enough."""
    heard = _Listening()
    provider = WebSocketProvider(
        "trial", settings, lambda: key, lambda: names, heard.report, guard=guard, overhear=heard.overhear
    )
    timer = threading.Timer(wait_s, heard.stop.set)
    timer.start()
    try:
        # What it raises, it has reported before.
        with suppress(ProviderError):
            for batch in provider.batches(None, heard.stop):
                heard.ticks += [batch.ticks] if batch.ticks.height else []
                heard.broken += [batch.broken] if batch.broken.height else []
                if sum(one.height for one in (*heard.ticks, *heard.broken)) >= _ENOUGH_ROWS:
                    heard.stop.set()
    finally:
        timer.cancel()
    return heard


def _complaint(settings: WebSocketFeed, messages: list[bytes], key: str) -> str:
    """Return what the provider complains of in these messages, empty where it does not."""
    complaints = [said.text for said in (read(one, settings) for one in messages) if said.kind is Kind.COMPLAINT]
    return redacted(f"The provider complains: {complaints[-1]}", key) if complaints else ""


def _nothing_came(messages: int, wait_s: float) -> str:
    if not messages:
        return f"Connected, but nothing came within {wait_s:.0f} s; look at what is sent to subscribe."
    return (
        f"{messages:,} messages came within {wait_s:.0f} s and none was a price by these settings; compare them with"
        " what tells prices apart."
    )


def _said_to_it(settings: WebSocketFeed, names: tuple[str, ...]) -> str:
    """Return the address and what is sent to subscribe, with the key left open."""
    said = templates.messages(settings.subscribe, sorted(names), settings.per_message, "{key}", 0)
    return "\n".join([settings.url, *(orjson.dumps(message).decode() for message in said)])
