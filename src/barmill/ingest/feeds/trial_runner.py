"""Trials of feeds before they are saved, and tests of stored keys, on behalf of a user.

The trial of a WebSocket feed runs the feed's own provider, so it reads messages as the feed would. For the trial of a
REST feed, see trial.py.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

import httpx
import orjson
import polars as pl

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import audit_migrations
from barmill.ingest.connection.guard import FeedsAccess, Guard, parse_url, tls_context
from barmill.ingest.connection.http import redact_key
from barmill.ingest.connection.provider import ProviderError
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.feeds.settings import hosts_of
from barmill.ingest.feeds.trial import (
    NO_INSTRUMENT,
    RAW_CHARACTERS,
    TOO_MANY,
    TRIAL_S,
    Trial,
    check_rows,
    notes_of,
    shown_rows,
    trial,
    trial_slots,
)
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.ingest.providers.websocket import settings as templates
from barmill.ingest.providers.websocket.messages import Kind, parse_message
from barmill.ingest.providers.websocket.provider import WebSocketProvider
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.platform.home import Home
from barmill.platform.ports import read_ports
from barmill.platform.sqlite_file import open_control_db
from barmill.secrets.info import KeyTest, KeyTestError
from barmill.secrets.store import KeyStore

_MAX_INSTRUMENTS = 5
# This many rows are enough to show the result of the mapping.
_ENOUGH_ROWS = 20
_MAX_MESSAGES = 200
_END_PHASES = frozenset({Phase.WAITING, Phase.LIMITED, Phase.RESTING, Phase.REFUSED, Phase.BROKEN})


@dataclass
class _StreamSample:
    """The messages and rows received so far. stop: set when they are enough, or when no more will arrive."""

    stop: threading.Event = field(default_factory=threading.Event)
    messages: list[bytes] = field(default_factory=list)
    ticks: list[pl.DataFrame] = field(default_factory=list)
    broken: list[pl.DataFrame] = field(default_factory=list)
    problem: str = ""

    def on_message(self, message: bytes) -> None:
        if len(self.messages) < _MAX_MESSAGES:
            self.messages.append(message)
        else:
            self.stop.set()

    def report(self, state: ConnectionState) -> None:
        if state.phase in _END_PHASES:
            self.problem = self.problem or state.sentence
            self.stop.set()


def stream_trial(settings: WebSocketFeed, key: str = "", guard: Guard | None = None, wait_s: float = TRIAL_S) -> Trial:
    """Connect, subscribe and listen; never raise for errors of the provider or the settings.

    The trial ends when there are enough prices, or after `wait_s` seconds. It reads at most 200 messages, for the first
    five instruments.
    """
    names = settings.instruments[:_MAX_INSTRUMENTS]
    result = Trial(redacted_request=_sent_text(settings, names))
    if not names:
        return replace(result, problem=NO_INSTRUMENT)
    if not trial_slots.acquire(blocking=False):
        return replace(result, problem=TOO_MANY)
    started_s = time.monotonic()
    try:
        sample = _listen(settings, key, guard or Guard(), frozenset(names), wait_s)
    finally:
        trial_slots.release()
    raw_text = redact_key(b"\n".join(sample.messages).decode(errors="backslashreplace"), key)[:RAW_CHARACTERS]
    result = replace(result, raw_text=raw_text, took_ms=(time.monotonic() - started_s) * 1_000)
    rows = shown_rows([row for ticks in sample.ticks for row in ticks.to_dicts()], key)
    broken = pl.concat(sample.broken, how="diagonal_relaxed") if sample.broken else pl.DataFrame()
    if not rows and not broken.height:
        problem = sample.problem or _error_message(settings, sample.messages, key)
        return replace(result, problem=problem or _no_rows_text(len(sample.messages), wait_s))
    return replace(check_rows(result, rows, broken, key), rows=rows, notes=notes_of(settings.rows, rows))


def _listen(settings: WebSocketFeed, key: str, guard: Guard, names: frozenset[str], wait_s: float) -> _StreamSample:
    """Run the feed's own provider until it fails, enough has arrived, or `wait_s` seconds have passed."""
    sample = _StreamSample()
    provider = WebSocketProvider(
        "trial", settings, lambda: key, lambda: names, sample.report, guard=guard, on_message=sample.on_message
    )
    timer = threading.Timer(wait_s, sample.stop.set)
    timer.start()
    try:
        # The provider reports each error before it raises.
        with suppress(ProviderError):
            for batch in provider.batches(None, sample.stop):
                sample.ticks += [batch.ticks] if batch.ticks.height else []
                sample.broken += [batch.broken] if batch.broken.height else []
                if sum(rows.height for rows in (*sample.ticks, *sample.broken)) >= _ENOUGH_ROWS:
                    sample.stop.set()
    finally:
        timer.cancel()
    return sample


def _error_message(settings: WebSocketFeed, messages: list[bytes], key: str) -> str:
    """Return the provider's last error message among these messages, or an empty text."""
    errors = [
        message_read.text
        for message_read in (parse_message(message, settings) for message in messages)
        if message_read.kind is Kind.ERROR
    ]
    return redact_key(f"The provider reports: {errors[-1]}", key) if errors else ""


def _no_rows_text(messages: int, wait_s: float) -> str:
    if not messages:
        return f"Connected, but no message arrived within {wait_s:.0f} s; check the subscribe message."
    return (
        f"{messages:,} messages arrived within {wait_s:.0f} s, but none matches the settings as a price; compare them"
        ' with the conditions in "prices".'
    )


def _sent_text(settings: WebSocketFeed, names: tuple[str, ...]) -> str:
    """Return the address and the subscribe messages, with a placeholder for the key."""
    messages = templates.messages(settings.subscribe, sorted(names), settings.per_message, "{key}", 0)
    return "\n".join([settings.url, *(orjson.dumps(message).decode() for message in messages)])


TrialSettings = RestFeed | WebSocketFeed


def run_trial(home: Home, actor: Actor, settings: TrialSettings, key_name: str | None) -> Trial:
    """Try settings, and record the trial and the use of the key in the audit log.

    Raise ControlError if the user lacks permission, or if the key is not available.
    """
    guard = Guard(FeedsAccess.read(home))
    db = open_control_db(home, audit_migrations, account_migrations)
    with closing(db.conn), action(db, actor, "feed.try", _host(settings), needs=Permission.MANAGE_FEEDS) as change:
        change.after = {**_destination(settings), "key": key_name}
    key = ""
    if key_name is not None:
        with KeyStore.open(home, actor) as store:
            key = store.reveal(key_name, hosts_of(settings))
    return trial(settings, key, guard) if isinstance(settings, RestFeed) else stream_trial(settings, key, guard)


def _host(settings: TrialSettings) -> str:
    return settings.host if isinstance(settings, RestFeed) else parse_url(settings.url).host


def _destination(settings: TrialSettings) -> dict[str, str]:
    if isinstance(settings, RestFeed):
        return {"base_url": settings.base_url, "path": settings.path}
    return {"url": settings.url}


_CONNECT_TIMEOUT_S, _RESPONSE_TIMEOUT_S = 3.0, 10.0
_MAX_BODY_BYTES = 4 * 1024 * 1024


def check_market_key(home: Home, key: str) -> str:
    """Request the demo market's instruments; return how many the key can read, as a sentence.

    Raise KeyTestError if the market cannot be reached or rejects the key.
    """
    ports = read_ports(home)
    if ports is None:
        raise KeyTestError("The demo market is not running yet; start Barmill with ./barmill up.")
    # Checked here because errors of the lower layers would quote the key.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise KeyTestError(
            "The key contains characters that keys of the market never contain; check that it was copied completely."
        )
    url = ports.market_url
    try:
        status, body = _bounded_response(f"{url}/v1/instruments", key)
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise KeyTestError(f"The server at {url} is not the demo market; start Barmill with ./barmill up.") from None
    except httpx.HTTPError as error:
        raise KeyTestError(
            f"The demo market at {url} cannot be reached ({type(error).__name__}); start Barmill with ./barmill up."
        ) from None
    if status != httpx.codes.OK or not isinstance(response, list):
        reason = response.get("reason") if isinstance(response, dict) else None
        raise KeyTestError(f"The market rejected the key: {reason or f'status {status}'}")
    count = len(response)
    return f"The market accepts the key; it gives access to {count} {'instrument' if count == 1 else 'instruments'}."


def _bounded_response(url: str, key: str) -> tuple[int, bytes]:
    """Return the status and the body of a response; raise httpx.HTTPError if it fails, is too large or is too slow."""
    deadline_s = time.monotonic() + _RESPONSE_TIMEOUT_S
    body = bytearray()
    with (
        # A .netrc entry would replace the key, and a proxy would see it.
        httpx.Client(
            verify=tls_context(),
            trust_env=False,
            timeout=httpx.Timeout(_RESPONSE_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
        ) as client,
        # Without compression, what is read is as large as what was sent.
        client.stream(
            "GET", url, headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        ) as response,
    ):
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise httpx.ReadError(f"more than {_MAX_BODY_BYTES:,} bytes")
            if time.monotonic() > deadline_s:
                raise httpx.ReadTimeout("the response did not end in time")
    return response.status_code, bytes(body)


KEY_TESTS: Mapping[str, KeyTest] = {"market": check_market_key}
