"""The fetcher of missed ticks over HTTP: page by page, in a separate thread, with the results as events."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.http import Http, HttpResponse, json_of
from barmill.ingest.connection.instrument_stream import BackfillRequest
from barmill.ingest.connection.reconnect import InvalidResponseError, LimitedError, RequestError
from barmill.ingest.identity import id_of
from barmill.ingest.mapping.paths import MappingError, short_text
from barmill.ingest.mapping.row_tables import times_ns
from barmill.ingest.mapping.rows import newest_first, rows_of
from barmill.ingest.providers.websocket.messages import RawRow, matches
from barmill.ingest.providers.websocket.settings import Backfill, backfill_url

_DEFAULT_PAUSE_S = 30.0
_MAX_PAGES = 20_000
_CHECK_EVERY_S = 0.1


@dataclass(frozen=True)
class Page:
    """A part of the requested ticks."""

    request: BackfillRequest
    rows: Sequence[RawRow]
    response: HttpResponse


@dataclass(frozen=True)
class FetchDone:
    """The end of the responses to a request; is_complete: whether all requested ticks seem to have arrived."""

    request: BackfillRequest
    is_complete: bool = True


@dataclass(frozen=True)
class FetchFailed:
    """The failure of a request; retry_after_s: the pause that a rate limit requires, or None for other failures."""

    request: BackfillRequest
    error: RequestError
    retry_after_s: float | None


FetchEvent = Page | FetchDone | FetchFailed


class Fetcher:
    """A thread that sends backfill requests one at a time."""

    def __init__(self, backfill: Backfill, guard: Guard, emit: Callable[[FetchEvent], None]) -> None:
        self._backfill, self._guard, self._emit = backfill, guard, emit
        self._requests: queue.SimpleQueue[BackfillRequest] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backfill", daemon=True)

    def start(self) -> None:
        """Start the thread, which waits for requests."""
        self._thread.start()

    def submit(self, request: BackfillRequest) -> None:
        """Add a request to the queue."""
        self._requests.put(request)

    def stop(self) -> None:
        """Stop after the current page, and wait until the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Http(self._guard) as http:
            while not self._stop.is_set():
                try:
                    request = self._requests.get(timeout=_CHECK_EVERY_S)
                except queue.Empty:
                    continue
                try:
                    self._fetch(http, request)
                except LimitedError as limited:
                    wait_s = _DEFAULT_PAUSE_S if limited.retry_after_s is None else limited.retry_after_s
                    self._emit(FetchFailed(request, limited, wait_s))
                    self._stop.wait(wait_s)  # the rate limit applies to the provider, not only to this instrument
                except RequestError as error:
                    self._emit(FetchFailed(request, error, None))

    def _fetch(self, http: Http, request: BackfillRequest) -> None:
        next_request, is_complete = request, False
        for _ in range(_MAX_PAGES):
            response = http.get(backfill_url(self._backfill, next_request))
            rows = self._rows(response, request.instrument)
            self._emit(Page(request, rows, response))
            following_request, is_complete = _next_request(self._backfill, next_request, rows)
            if following_request is None or self._stop.wait(1 / self._backfill.per_s):
                break
            next_request = following_request
        self._emit(FetchDone(request, is_complete))

    def _rows(self, response: HttpResponse, instrument: str) -> Sequence[RawRow]:
        document = json_of(response)
        if any(matches(document, match) for match in self._backfill.limited):
            raise LimitedError(f"{response.host} received too many requests.", None)
        if any(matches(document, match) for match in self._backfill.errors):
            raise InvalidResponseError(f"{response.host} responded with an error: {short_text(document)}.")
        try:
            return rows_of(document, self._backfill.rows, instrument)
        except MappingError as error:
            raise InvalidResponseError(f"The response of {response.host} does not match the mapping: {error}") from None


def _next_request(
    backfill: Backfill, request: BackfillRequest, rows: Sequence[RawRow]
) -> tuple[BackfillRequest | None, bool]:
    """Return the request for the next page, or None if there is none, and whether everything up to here has arrived.

    A full page that no further request can continue, or that is not in the requested order, leaves a gap.
    """
    if len(rows) < backfill.page:
        return None, True
    times = times_ns(row.get("time") for row in rows)
    known_ns = [at_ns for at_ns in times if at_ns is not None]
    if backfill.by == "from_time":
        newest_ns = max(known_ns, default=0)
        if request.from_ns is None or newest_ns <= request.from_ns:
            return None, False
        if newest_first(times, [None] * len(rows), [None] * len(rows)):
            return None, min(known_ns) <= request.from_ns  # the newest rows overall, not the rows since a time
        return replace(request, from_ns=newest_ns), True
    ids = [number for row in rows if (number := id_of(row.get("id"))) is not None]
    if request.from_id is None or not ids:
        return None, request.from_ns is not None and bool(known_ns) and min(known_ns) <= request.from_ns
    if backfill.by == "from_id":
        if max(ids) < request.from_id:
            return None, False
        is_complete = request.to_id is not None and max(ids) >= request.to_id
        return None if is_complete else replace(request, from_id=max(ids) + 1), True
    lowest = min(ids)
    return None if lowest <= request.from_id else replace(request, to_id=lowest - 1), True
