"""HTTP routes for bars, used by charts and downloads; they require permission to view prices.

    /bars.json         the newest bars before a time and their freshness, see src/barmill/charts/candles.py
    /bar-changes.json  the bars that changed after a cursor, as the chart's message (views/chart_bars.py)
    /bar-history.json  every version of one bar, oldest first
    /bars.csv          the bars of a range as a file, with an additional column per line of a study
    /bars.parquet      the same, as Parquet

Errors are one sentence: 400 for an invalid request, 403 without permission, 404 if there is no store yet, 429 if the
account has too many requests in progress, 503 if the store is damaged.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, Semaphore, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from barmill.audit.roles import GRANTS, Permission
from barmill.auth.sessions import SignedInUser
from barmill.charts.candles import bars_with_studies, candles
from barmill.charts.view import ChartView
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.bar_damage import is_damage, mark_damage, store_problem
from barmill.storage.reader import BarReader
from control.freshness.reading import newest_tick_ms
from control.monitoring.outages import explained_gaps
from views import readings
from views.chart_bars import newest_query, status
from web.bar_requests import (
    MAX_EXPORTED_BARS,
    BarFile,
    BarRequestError,
    changes_message,
    csv_file,
    parquet_file,
    parse_chart_request,
    parse_file_request,
    parse_history_request,
    with_lines,
)
from web.browser import user_of


class TooManyRequestsError(Exception):
    """Too many of this account's requests are waiting; repeat this one later."""


class RequestLimits:
    """Limits on concurrent requests. running, waiting: the maximum of running and of waiting requests per account."""

    def __init__(self, running: int, waiting: int) -> None:
        self._max_running, self._max_requests = running, running + waiting
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def slot(self, account: str) -> AsyncIterator[None]:
        """Wait until a request of the account may run; raise TooManyRequestsError if too many are waiting."""
        queue = self._queues.setdefault(account, _Queue(Semaphore(self._max_running)))
        if queue.requests >= self._max_requests:
            raise TooManyRequestsError
        queue.requests += 1
        try:
            async with queue.slots:
                yield
        finally:
            queue.requests -= 1
            if not queue.requests:
                del self._queues[account]


@dataclass
class _Queue:
    slots: Semaphore
    requests: int = field(default=0)


T = TypeVar("T")

# The largest file needs about 100 MB of memory.
_MAX_CONCURRENT_FILES = 2
# For all accounts together. Health checks and sign-in use separate threads.
_MAX_CONCURRENT_READS = 4
# A page with several charts sends one request per chart at the same time, each second.
_MAX_RUNNING_PER_ACCOUNT, _MAX_WAITING_PER_ACCOUNT = 2, 30
_MAX_WAITING_FILES_PER_ACCOUNT = 4
_NO_STORE = {"Cache-Control": "no-store"}
_NO_BARS = "There are no bars yet; start Barmill with ./barmill up, and try again after half a minute."


class BarRoutes:
    """The request handlers for the bars of a home, behind the gate."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._files, self._reads = CapacityLimiter(_MAX_CONCURRENT_FILES), CapacityLimiter(_MAX_CONCURRENT_READS)
        self._limits = RequestLimits(_MAX_RUNNING_PER_ACCOUNT, _MAX_WAITING_PER_ACCOUNT)
        self._file_limits = RequestLimits(_MAX_RUNNING_PER_ACCOUNT, _MAX_WAITING_FILES_PER_ACCOUNT)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/bars.json", self.bars),
            Route("/bar-changes.json", self.changes),
            Route("/bar-history.json", self.history),
            Route("/bars.csv", self.csv),
            Route("/bars.parquet", self.parquet),
        ]

    async def bars(self, request: Request) -> Response:
        """Return the newest bars before a time, their studies and gaps, and the freshness of the frame."""
        return await self._answer(request, self._read_candles, lambda content: JSONResponse(content, headers=_NO_STORE))

    async def changes(self, request: Request) -> Response:
        """Return the bars that changed after a cursor, and the freshness of the frame."""
        read = partial(changes_message, self._home)
        return await self._answer(request, read, lambda content: JSONResponse(content, headers=_NO_STORE))

    async def history(self, request: Request) -> Response:
        """Return every version of one bar."""
        return await self._answer(request, _read_versions, lambda content: JSONResponse(content, headers=_NO_STORE))

    async def csv(self, request: Request) -> Response:
        """Return the bars of a range as CSV."""
        return self._file(request, csv_file)

    async def parquet(self, request: Request) -> Response:
        """Return the bars of a range as Parquet."""
        return self._file(request, parquet_file)

    def _read_candles(self, reader: BarReader, parameters: Mapping[str, str]) -> dict[str, object]:
        bar_request, read_ms = parse_chart_request(reader, parameters), now_ms()
        instrument, frame, as_of_ms = bar_request.query.instrument, bar_request.query.frame, bar_request.query.as_of_ms
        cursor = reader.cursor(instrument, frame)
        bars, lines = bars_with_studies(reader.read, bar_request.query, bar_request.studies)
        view, newest_ms = ChartView(instrument, frame, as_of_ms=as_of_ms), newest_tick_ms(reader, instrument)
        freshness = status(view, reader.read(newest_query(view)), newest_ms, readings.flow(self._home))
        # A chart requests bars before its oldest bar, so a gap may extend to that bar.
        to_ms = bar_request.query.to_ms
        gaps = explained_gaps(self._home, bars, frame, to_ms if to_ms is not None and to_ms <= read_ms else None)
        message = candles(bars, instrument, frame, read_ms, lines, gaps)
        return message | {"cursor": str(cursor.after(bars)), "status": freshness}

    def _file(self, request: Request, write: Callable[..., BarFile]) -> Response:
        if (user := _price_viewer(request)) is None:
            return _not_allowed()
        respond = partial(self._read_and_respond, request, _file_reader(write), _download, self._files)
        return _FileResponse(self._file_limits.slot(user.account), respond)

    async def _answer(
        self,
        request: Request,
        read: Callable[[BarReader, Mapping[str, str]], T],
        respond: Callable[[T], Response],
    ) -> Response:
        if (user := _price_viewer(request)) is None:
            return _not_allowed()
        try:
            async with self._limits.slot(user.account):
                return await self._read_and_respond(request, read, respond, self._reads)
        except TooManyRequestsError:
            return _too_many_requests()

    async def _read_and_respond(
        self,
        request: Request,
        read: Callable[[BarReader, Mapping[str, str]], T],
        respond: Callable[[T], Response],
        limiter: CapacityLimiter,
    ) -> Response:

        def run_read() -> Response:
            with (
                mark_damage(self._home.bars_db),
                BarReader.open(self._home.bars_db).snapshot() as reader,
            ):
                return respond(read(reader, request.query_params))

        with if_ready():
            try:
                return await to_thread.run_sync(run_read, limiter=limiter)
            except BarRequestError as error:
                return _refusal(str(error), 400)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                return _refusal(store_problem(self._home.bars_db), 503)
        return _refusal(_NO_BARS, 404)


class _FileResponse(Response):
    """A response that counts as running until the client has received all of it, since it is in memory until then."""

    def __init__(self, slot: AbstractAsyncContextManager[None], respond: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self._slot, self._respond = slot, respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._slot:
                await (await self._respond())(scope, receive, send)
        except TooManyRequestsError:
            await _too_many_requests()(scope, receive, send)


def _price_viewer(request: Request) -> SignedInUser | None:
    user = user_of(request)
    return user if user is not None and Permission.VIEW_PRICES in GRANTS[user.role] else None


def _read_versions(reader: BarReader, parameters: Mapping[str, str]) -> list[dict[str, object]]:
    instrument, frame, start_ms = parse_history_request(reader, parameters)
    return reader.history(instrument, frame.text, start_ms).to_dicts()


def _file_reader(write: Callable[..., BarFile]) -> Callable[[BarReader, Mapping[str, str]], BarFile]:
    def read(reader: BarReader, parameters: Mapping[str, str]) -> BarFile:
        bar_request = parse_file_request(reader, parameters, MAX_EXPORTED_BARS)
        bars, lines = bars_with_studies(reader.read, bar_request.query, bar_request.studies)
        if bars.height > MAX_EXPORTED_BARS:
            raise BarRequestError(
                f"There are more than {MAX_EXPORTED_BARS:,} bars in this range; choose a shorter range or a longer"
                " frame, or export all of it with ./barmill bars."
            )
        return write(with_lines(bars, lines), bar_request.query)

    return read


def _download(file: BarFile) -> Response:
    headers = _NO_STORE | {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return Response(file.content, media_type=file.media_type, headers=headers)


def _refusal(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence, status, _NO_STORE | dict(headers or {}))


def _too_many_requests() -> Response:
    return _refusal("Too many requests for bars at once; wait a second and try again.", 429, {"Retry-After": "1"})


def _not_allowed() -> Response:
    return _refusal(f"This requires permission to {Permission.VIEW_PRICES.value}; ask an admin.", 403)
