"""Fetches what was missed over HTTP, page by page, in a thread of its own, and tells what came as events."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from feed.connection.answer import Answer, json_of
from feed.connection.errors import BrokenAnswerError, LimitedError, QuestionError
from feed.connection.guard import Guard
from feed.connection.http import Http
from feed.connection.ids import id_of
from feed.connection.lanes import Ask
from feed.mapping.order import newest_first
from feed.mapping.paths import shown
from feed.mapping.rows import MappingError, rows_of
from feed.mapping.table import times_ns
from feed.providers.websocket.messages import fits
from feed.providers.websocket.rows import RawRow
from feed.providers.websocket.settings import Backfill
from feed.providers.websocket.templates import question

_LIMITED_S = 30.0
_MAX_PAGES = 20_000
_LOOK_S = 0.1


@dataclass(frozen=True)
class Page:
    """Some of what was asked for."""

    ask: Ask
    rows: Sequence[RawRow]
    answer: Answer


@dataclass(frozen=True)
class Answered:
    """All answers to a question were delivered; whole: as far as they show, nothing was left out."""

    ask: Ask
    whole: bool = True


@dataclass(frozen=True)
class Failed:
    """The question came to nothing; retry_after_s is how long a rate limit says to wait, None for other failures."""

    ask: Ask
    error: QuestionError
    retry_after_s: float | None


Fetched = Page | Answered | Failed


class Fetcher:
    """The one who asks, one question after the other."""

    def __init__(self, backfill: Backfill, guard: Guard, tell: Callable[[Fetched], None]) -> None:
        self._backfill, self._guard, self._tell = backfill, guard, tell
        self._asks: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backfill", daemon=True)

    def start(self) -> None:
        """Begin to wait for questions."""
        self._thread.start()

    def ask(self, ask: Ask) -> None:
        """Put a question in line."""
        self._asks.put(ask)

    def stop(self) -> None:
        """End after the question in hand."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Http(self._guard) as http:
            while not self._stop.is_set():
                try:
                    ask = self._asks.get(timeout=_LOOK_S)
                except queue.Empty:
                    continue
                try:
                    self._fetch(http, ask)
                except LimitedError as limited:
                    wait_s = _LIMITED_S if limited.retry_after_s is None else limited.retry_after_s
                    self._tell(Failed(ask, limited, wait_s))
                    self._stop.wait(wait_s)  # the limit is the provider's, whatever instrument is asked for next
                except QuestionError as error:
                    self._tell(Failed(ask, error, None))

    def _fetch(self, http: Http, ask: Ask) -> None:
        asked, whole = ask, False
        for _ in range(_MAX_PAGES):
            answer = http.get(question(self._backfill, asked))
            rows = self._rows(answer, ask.instrument)
            self._tell(Page(ask, rows, answer))
            following, whole = _following(self._backfill, asked, rows)
            if following is None or self._stop.wait(1 / self._backfill.per_s):
                break
            asked = following
        self._tell(Answered(ask, whole))

    def _rows(self, answer: Answer, instrument: str) -> Sequence[RawRow]:
        found = json_of(answer)
        if any(fits(found, match) for match in self._backfill.limited):
            raise LimitedError(f"{answer.host} was asked too often.", None)
        if any(fits(found, match) for match in self._backfill.errors):
            raise BrokenAnswerError(f"{answer.host} answered with an error: {shown(found)}.")
        try:
            return rows_of(found, self._backfill.rows, instrument)
        except MappingError as error:
            raise BrokenAnswerError(f"{answer.host} answered, but {error}") from None


def _following(backfill: Backfill, ask: Ask, rows: Sequence[RawRow]) -> tuple[Ask | None, bool]:
    """Return what to ask for after this page, None when that was all, and whether all up to here has come.

    A full page behind which nothing can be asked for, or that is not in the order it was asked in, leaves a gap.
    """
    if len(rows) < backfill.page:
        return None, True
    times = times_ns(row.get("time") for row in rows)
    known = [at_ns for at_ns in times if at_ns is not None]
    if backfill.by == "from_time":
        newest_ns = max(known, default=0)
        if ask.from_ns is None or newest_ns <= ask.from_ns:
            return None, False
        if newest_first(times, [None] * len(rows), [None] * len(rows)):
            return None, min(known) <= ask.from_ns  # the newest rows of all, and not those since a time
        return replace(ask, from_ns=newest_ns), True
    ids = [number for row in rows if (number := id_of(row.get("id"))) is not None]
    if ask.from_id is None or not ids:
        return None, ask.from_ns is not None and bool(known) and min(known) <= ask.from_ns
    if backfill.by == "from_id":
        if max(ids) < ask.from_id:
            return None, False
        beyond = ask.to_id is not None and max(ids) >= ask.to_id
        return None if beyond else replace(ask, from_id=max(ids) + 1), True
    lowest = min(ids)
    return None if lowest <= ask.from_id else replace(ask, to_id=lowest - 1), True
