"""Bars by plain HTTP, for charts that scroll back and for files to take along; for whoever may see prices.

    /bars.json         the newest bars before a time, as the candles message (charts/candles.py), and how fresh they are
    /bar-changes.json  the bars that changed since a time, as the chart's message (pages/parts/chart_message.py)
    /bar-history.json  every version of one bar, oldest first
    /bars.csv          the bars of a range as a file, a column more for each line of a study
    /bars.parquet      the same, as Parquet

What cannot be answered is refused with one sentence: 400 for the question, 404 where there is no store yet, 429 where
the same account has too many requests under way, 503 where the store is damaged.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bar.clock import now_ms
from bar.damage import is_damage, noticing_damage, store_problem
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from charts.candles import candles
from charts.studied import studied
from charts.view import ChartView
from control.freshness.reading import newest_tick_ms
from control.home import Home
from control.monitor.explained import explained_gaps
from control.people.roles import GRANTS, Permission
from control.people.sessions import SignedIn
from front.bar_changes import changes_message
from front.bar_files import MOST_EXPORTED, BarFile, csv_file, parquet_file, table_of
from front.bar_questions import QuestionError, in_range, newest_before, one_bar
from front.browser import who_of
from front.turns import TooManyRequestsError, Turns
from pages.parts import readings
from pages.parts.chart_bars import newest_of
from pages.parts.chart_message import status

T = TypeVar("T")

# A file of the largest size takes some 100 MB to make.
_FILES_AT_ONCE = 2
# Of all accounts together. Health and sign-in have threads of their own.
_READS_AT_ONCE = 4
# A page of charts asks for all of them at once, each second.
_OF_ACCOUNT_AT_ONCE, _OF_ACCOUNT_WAITING = 2, 30
_FILES_OF_ACCOUNT_WAITING = 4
_NO_COPY = {"Cache-Control": "no-store"}
_NO_STORE = "There are no bars yet; start Barmill with ./barmill up, and ask again half a minute later."


class BarRoutes:
    """The handlers over one home, behind the gate."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._files, self._reads = CapacityLimiter(_FILES_AT_ONCE), CapacityLimiter(_READS_AT_ONCE)
        self._turns = Turns(_OF_ACCOUNT_AT_ONCE, _OF_ACCOUNT_WAITING)
        self._file_turns = Turns(_OF_ACCOUNT_AT_ONCE, _FILES_OF_ACCOUNT_WAITING)

    def routes(self) -> list[Route]:
        """Return where each handler is reached."""
        return [
            Route("/bars.json", self.bars),
            Route("/bar-changes.json", self.changes),
            Route("/bar-history.json", self.history),
            Route("/bars.csv", self.csv),
            Route("/bars.parquet", self.parquet),
        ]

    async def bars(self, request: Request) -> Response:
        """Answer with the newest bars before a time, their studies and gaps, and how fresh the frame is."""
        return await self._answer(request, self._candles, lambda found: JSONResponse(found, headers=_NO_COPY))

    async def changes(self, request: Request) -> Response:
        """Answer with the bars that changed, and how fresh they are."""
        read = partial(changes_message, self._home)
        return await self._answer(request, read, lambda found: JSONResponse(found, headers=_NO_COPY))

    async def history(self, request: Request) -> Response:
        """Answer with every version of one bar."""
        return await self._answer(request, _versions, lambda found: JSONResponse(found, headers=_NO_COPY))

    async def csv(self, request: Request) -> Response:
        """Answer with the bars of a range as CSV."""
        return self._file(request, csv_file)

    async def parquet(self, request: Request) -> Response:
        """Answer with the bars of a range as Parquet."""
        return self._file(request, parquet_file)

    def _candles(self, reader: BarReader, asked: Mapping[str, str]) -> dict[str, object]:
        question, read_ms = newest_before(reader, asked), now_ms()
        instrument, frame, as_of_ms = question.query.instrument, question.query.frame, question.query.as_of_ms
        bars, lines = studied(reader.read, question.query, question.studies)
        view, newest_ms = ChartView(instrument, frame, as_of_ms=as_of_ms), newest_tick_ms(reader, instrument)
        fresh = status(view, newest_of(reader.read, view), newest_ms, readings.flow(self._home))
        # A chart asks for what comes before the oldest bar that it holds, so a gap may reach up to that.
        to_ms = question.query.to_ms
        gaps = explained_gaps(self._home, bars, frame, to_ms if to_ms is not None and to_ms <= read_ms else None)
        message = candles(bars, instrument, frame, read_ms, lines, gaps)
        return message | {"status": fresh}

    def _file(self, request: Request, written: Callable[..., BarFile]) -> Response:
        if (who := _may_see_prices(request)) is None:
            return _not_allowed()
        made = partial(self._answered, request, _file(written), _download, self._files)
        return _UntilTaken(self._file_turns.turn(who.account), made)

    async def _answer(
        self,
        request: Request,
        read: Callable[[BarReader, Mapping[str, str]], T],
        answer: Callable[[T], Response],
    ) -> Response:
        if (who := _may_see_prices(request)) is None:
            return _not_allowed()
        try:
            async with self._turns.turn(who.account):
                return await self._answered(request, read, answer, self._reads)
        except TooManyRequestsError:
            return _busy()

    async def _answered(
        self,
        request: Request,
        read: Callable[[BarReader, Mapping[str, str]], T],
        answer: Callable[[T], Response],
        limiter: CapacityLimiter,
    ) -> Response:

        def work() -> Response:
            with (
                noticing_damage(self._home.bars_db),
                BarReader.open(self._home.bars_db).at_one_moment() as reader,
            ):
                return answer(read(reader, request.query_params))

        try:
            return await to_thread.run_sync(work, limiter=limiter)
        except QuestionError as error:
            return _refusal(str(error), 400)
        except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
            return _refusal(_NO_STORE, 404)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return _refusal(store_problem(self._home.bars_db), 503)


class _UntilTaken(Response):
    """An answer that holds its turn until the client has taken all of it, since it is in memory that long."""

    def __init__(self, turn: AbstractAsyncContextManager[None], made: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self._turn, self._made = turn, made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._turn:
                await (await self._made())(scope, receive, send)
        except TooManyRequestsError:
            await _busy()(scope, receive, send)


def _may_see_prices(request: Request) -> SignedIn | None:
    who = who_of(request)
    return who if who is not None and Permission.VIEW_PRICES in GRANTS[who.role] else None


def _versions(reader: BarReader, asked: Mapping[str, str]) -> list[dict[str, object]]:
    instrument, frame, start_ms = one_bar(reader, asked)
    return reader.history(instrument, frame.text, start_ms).to_dicts()


def _file(written: Callable[..., BarFile]) -> Callable[[BarReader, Mapping[str, str]], BarFile]:
    def read(reader: BarReader, asked: Mapping[str, str]) -> BarFile:
        question = in_range(reader, asked, MOST_EXPORTED)
        bars, lines = studied(reader.read, question.query, question.studies)
        if bars.height > MOST_EXPORTED:
            raise QuestionError(
                f"There are more than {MOST_EXPORTED:,} bars in this range; ask for a shorter one or a longer frame,"
                " or take all of it with ./barmill bars."
            )
        return written(table_of(bars, lines), question.query)

    return read


def _download(file: BarFile) -> Response:
    headers = _NO_COPY | {"Content-Disposition": f'attachment; filename="{file.name}"'}
    return Response(file.content, media_type=file.media_type, headers=headers)


def _refusal(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence, status, _NO_COPY | dict(headers or {}))


def _busy() -> Response:
    return _refusal("Too many requests for bars at once; wait a second and ask again.", 429, {"Retry-After": "1"})


def _not_allowed() -> Response:
    return _refusal(f"This is for people who may {Permission.VIEW_PRICES.value}; ask an admin.", 403)
