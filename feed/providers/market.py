"""The provider `market`: prices streamed from the demo market over HTTP."""

import json
import logging
import random
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import orjson
import polars as pl
import requests

from bar.clock import now_ms
from feed.connection.state import ConnectionState, Phase, Report
from feed.provider import Batch, Listed, ProviderError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
# The market sends a heartbeat every quarter of a second; longer silence means that the connection is dead.
SILENCE_TIMEOUT_S = 3.0
# As often as the market sends heartbeats, so that bars close alike.
QUIET_LOOK_S = 0.25
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
_TICK_SCHEMA: dict[str, pl.DataType] = {
    "time": pl.Int64(),
    "instrument": pl.String(),
    "price_open": pl.Float64(),
    "price_close": pl.Float64(),
    "volume": pl.Float64(),
    "id": pl.Int64(),
}


class MarketError(ProviderError):
    """The market refuses to serve until something is changed; the sentence says what."""

    phase = Phase.BROKEN


class MarketKeyRefusedError(MarketError):
    """The market does not accept the API key; store one that it knows."""

    phase = Phase.REFUSED


class ConnectionLostError(Exception):
    """The stream ended or never began; connect again after a pause."""


class MarketProvider:
    """A market's prices as they come, over one connection that is renewed as often as needed.

    key_of is asked for the API key at each connect and the key is kept nowhere. wanted is asked again and again which
    instruments to read (None: everything) and may answer differently each time: from then on, nothing else is taken.
    report is told of lost connections.
    """

    live = True

    def __init__(
        self,
        url: str,
        key_of: Callable[[], str],
        wanted: Callable[[], frozenset[str] | None] = lambda: None,
        name: str = "market",
        report: Report = lambda _: None,
    ) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._key_of = key_of
        self._wanted = wanted
        self._report = report

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield what the market gives out after `cursor` (None: from the oldest tick it keeps) until `stop` is set.

        Lost connections are renewed with growing, jittered pauses. Raise MarketKeyRefusedError when the key is refused
        and MarketError when the market does not understand the question; whatever key_of raises passes through.
        """
        failures = 0
        while not stop.is_set():
            wanted = self._wanted()
            reading = self._quiet(stop) if wanted == frozenset() else self._connection(cursor, wanted, stop)
            try:
                with closing(reading):
                    for batch in reading:
                        if self._wanted() != wanted:
                            break  # what was just read goes unused and is asked for again, for the right instruments
                        cursor, failures = batch.cursor, 0
                        yield batch
                        if stop.is_set():
                            return
            except _GapError as gap:
                logger.warning(
                    "Ticks may be missing after cursor %s: %s Going on from cursor %s.",
                    cursor,
                    gap.reason,
                    gap.oldest_cursor,
                )
                cursor = gap.oldest_cursor
            except ConnectionLostError as lost:
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures) * random.uniform(0.5, 1)
                failures = min(failures + 1, 10)
                logger.warning("%s Connecting to the market again in %.1f s.", lost, pause_s)
                at_ms = now_ms()
                self._report(ConnectionState(Phase.WAITING, str(lost), at_ms, at_ms + round(1_000 * pause_s)))
                stop.wait(pause_s)

    def catalogue(self) -> Sequence[Listed]:
        """Return what the market trades; raise ProviderError when it cannot be asked."""
        try:
            with self._answer("/v1/instruments", self._key_header()) as response:
                return parse_catalogue(response.content)
        except ConnectionLostError as lost:
            raise ProviderError(str(lost)) from None

    def _connection(
        self, cursor: str | None, wanted: frozenset[str] | None, stop: threading.Event
    ) -> Generator[Batch, None, None]:
        """Yield batches from one connection until it ends, which raises one of the errors above."""
        parameters = {"cursor": cursor or "", "instruments": ",".join(sorted(wanted or ()))}
        with self._answer("/v1/prices/stream", self._key_header(), parameters) as response:
            yield from _read(response, stop)
        if not stop.is_set():
            raise ConnectionLostError("The market ended the stream.")

    def _quiet(self, stop: threading.Event) -> Generator[Batch, None, None]:
        """Yield where the market stands, without asking for any price, so that the bars there are can close."""
        while True:
            with self._answer("/healthz", {}) as response:  # this needs no key, whose every use is put on record
                yield parse_health(response.content)
            if stop.wait(QUIET_LOOK_S):
                return

    @contextmanager
    def _answer(
        self, path: str, headers: Mapping[str, str], parameters: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Ask the market for something and lend its answer; what goes wrong meanwhile is one of the errors above."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # a .netrc entry would replace the key, a proxy would see it
                with session.get(
                    f"{self._url}{path}",
                    params={name: value for name, value in (parameters or {}).items() if value},
                    headers=headers,
                    stream=True,
                    allow_redirects=False,
                    timeout=(CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S),
                ) as response:
                    self._check(response)
                    yield response
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            raise MarketError(f"{self._url!r} is not the address of a market; it starts with http://.") from None
        except requests.RequestException as error:
            lost = f"The market at {self._url} cannot be reached ({type(error).__name__})."
            raise ConnectionLostError(lost) from None

    def _key_header(self) -> dict[str, str]:
        key = self._key_of()
        # Checked here because the errors of the layers below would quote the key.
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise MarketKeyRefusedError("The stored API key has characters that no key has; store it again.")
        return {"Authorization": f"Bearer {key}"}

    def _check(self, response: requests.Response) -> None:
        if response.status_code == 200:
            return
        answer = _answer(response)
        reason = str(answer.get("reason") or f"status {response.status_code}")
        match response.status_code:
            case 401:
                raise MarketKeyRefusedError(f"The market at {self._url} refused the API key: {reason}")
            case 410 if isinstance(answer.get("oldest_cursor"), int):
                raise _GapError(reason, str(answer["oldest_cursor"]))
            case 429 | 500 | 502 | 503 | 504:
                raise ConnectionLostError(f"The market at {self._url} is not ready ({reason}).")
        raise MarketError(f"The market at {self._url} does not answer as a market does: {reason}")


class _GapError(Exception):
    """The market cannot go on from the cursor it was asked for."""

    def __init__(self, reason: str, oldest_cursor: str) -> None:
        super().__init__(reason)
        self.reason, self.oldest_cursor = reason, oldest_cursor


def parse_lines(lines: bytes) -> Batch:
    """Turn whole lines of the stream, at least one, into a batch; raise ConnectionLostError when they make no sense."""
    try:
        # One call for all lines: a line break cannot stand inside a JSON text.
        rows = orjson.loads(b"[" + lines.rstrip(b"\n").replace(b"\n", b",") + b"]")
        ticks = [row for row in rows if "heartbeat" not in row]
        columns = {name: [row[name] for row in ticks] for name in _TICK_SCHEMA}
        frame = pl.DataFrame(columns, schema=_TICK_SCHEMA)
        cursor = int(rows[-1]["cursor"])
        complete_to_ms = max((int(row["time"]) for row in rows if "heartbeat" in row), default=None)
    except (ValueError, KeyError, TypeError, IndexError, pl.exceptions.PolarsError):
        raise ConnectionLostError("The market sent something that is not a line of prices.") from None
    return Batch(frame, str(cursor), complete_to_ms, rising_ids=True)


def parse_health(answer: bytes) -> Batch:
    """Turn the market's word on where it stands into a batch without ticks."""
    try:
        health = orjson.loads(answer)
        return Batch(pl.DataFrame(schema=_TICK_SCHEMA), str(int(health["newest_cursor"])), int(health["time"]))
    except (ValueError, KeyError, TypeError):
        raise ConnectionLostError("The market does not say where it stands.") from None


def parse_catalogue(answer: bytes) -> Sequence[Listed]:
    """Turn the market's list of what it trades into ours; raise MarketError when it makes no sense or is empty."""
    try:
        listed = [
            Listed(str(one["instrument"]), str(one["description"]), int(one["price_decimals"]), bool(one["volume"]))
            for one in orjson.loads(answer)
        ]
    except (ValueError, KeyError, TypeError):
        raise MarketError("The market's list of instruments makes no sense.") from None
    if not listed:
        raise MarketError("The market's list of instruments is empty.")
    return listed


def _read(response: requests.Response, stop: threading.Event) -> Iterator[Batch]:
    rest = b""
    for chunk in response.iter_content(chunk_size=None):
        if stop.is_set():
            return
        whole, newline, tail = (rest + chunk).rpartition(b"\n")
        rest = tail
        if newline:
            yield parse_lines(whole)


def _answer(response: requests.Response) -> dict[str, object]:
    try:
        answer = response.json()
    except (json.JSONDecodeError, requests.RequestException):
        return {}
    return answer if isinstance(answer, dict) else {}
