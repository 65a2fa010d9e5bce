"""Trying the settings of a WebSocket feed before they are saved: the first messages, and what would become of them."""

import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import orjson

from bar.clock import now_ms
from feed.connection.guard import Guard
from feed.connection.http import redacted
from feed.connection.reconnect import Attempts, Patience
from feed.providers.websocket import templates
from feed.providers.websocket.events import Down, Ended, Event, Heard
from feed.providers.websocket.line import Line
from feed.providers.websocket.messages import Kind
from feed.providers.websocket.settings import WebSocketFeed
from feed.providers.websocket.talk import Means
from feed.trial import NO_INSTRUMENT, RAW_CHARACTERS, TOO_MANY, TRIAL_S, Trial, few_at_once, judged

_MOST_INSTRUMENTS = 5
# So many rows show what the mapping makes of them; nobody needs to wait for more.
_ENOUGH_ROWS = 20
_MOST_MESSAGES = 200


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
        with _listening(settings, key, guard or Guard(), frozenset(names)) as (events, messages):
            rows, problem = _heard(events, began_s + wait_s)
    finally:
        few_at_once.release()
    raw_text = redacted(b"\n".join(messages).decode(errors="backslashreplace"), key)[:RAW_CHARACTERS]
    found = replace(found, raw_text=raw_text, took_ms=(time.monotonic() - began_s) * 1_000)
    if rows:
        return judged(settings.rows, found, rows, key)
    return replace(found, problem=problem or _nothing_came(len(messages), wait_s))


@contextmanager
def _listening(
    settings: WebSocketFeed, key: str, guard: Guard, names: frozenset[str]
) -> Iterator[tuple["queue.SimpleQueue[Event]", list[bytes]]]:
    """Lend what happens on a connection, and the messages as they came, as they come."""
    events, messages = queue.SimpleQueue[Event](), list[bytes]()

    def overhear(message: bytes) -> None:
        if len(messages) < _MOST_MESSAGES:
            messages.append(message)

    means = Means(settings, guard, lambda: key, events.put, now_ms, threading.Lock(), overhear)
    line = Line(0, means, Attempts(Patience(), random.uniform))
    line.start(names)
    try:
        yield events, messages
    finally:
        line.stop()
        line.join()


def _heard(events: "queue.SimpleQueue[Event]", until_s: float) -> tuple[list[dict[str, object]], str]:
    """Return the rows of the first prices, or why none came, where somebody said so."""
    rows, problem, left = list[dict[str, object]](), "", _MOST_MESSAGES
    while len(rows) < _ENOUGH_ROWS and left and (wait_s := until_s - time.monotonic()) > 0:
        with suppress(queue.Empty):
            match events.get(timeout=wait_s):
                case Heard(said=said):
                    left -= 1
                    rows += [dict(row) for row in said.rows]
                    if said.kind in (Kind.GARBAGE, Kind.COMPLAINT):
                        problem = f"{said.problem or 'The provider complains'}: {said.text}"
                case Down(error=error) | Ended(error=Exception() as error):
                    return rows, str(error)
    return rows, problem


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
