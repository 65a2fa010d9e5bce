"""A run of the WebSocket provider: what comes over its connections, and the batches made of it.

Everything here happens in one thread; the connections and the fetcher tell it what happens as events.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import polars as pl

from feed.connection.catch_up import CatchUp, Holding
from feed.connection.doubts import Doubts, span
from feed.connection.errors import BrokenAnswerError
from feed.connection.guard import Guard, parsed
from feed.connection.lanes import Row
from feed.connection.reconnect import Attempts, Patience, Spread
from feed.connection.reporting import Reporting, worst
from feed.connection.skew import Skew
from feed.connection.staleness import Staleness
from feed.connection.state import ConnectionState, Phase, Report
from feed.mapping.exact_json import text_of
from feed.mapping.picked import Picked
from feed.mapping.row_mapping import ASKED
from feed.mapping.table import table, times_ns
from feed.provider import Batch, ProviderError
from feed.providers.websocket.crew import Crew, Post
from feed.providers.websocket.events import CaughtUp, Connecting, Down, Ended, Event, Heard, Subscribed, Up
from feed.providers.websocket.fetcher import Answered, Failed, Fetched, Fetcher, Page
from feed.providers.websocket.line import Line
from feed.providers.websocket.messages import Kind
from feed.providers.websocket.rows import Ordered, RawRow, in_order
from feed.providers.websocket.settings import WebSocketFeed
from feed.providers.websocket.talk import Means

Incoming = Event | Fetched

_NS_PER_MS = 1_000_000
# Where the provider does not say its time, ours and the skew stand for it, less what these may be off by.
_UNCERTAIN_MS = 1_000
# A stamp further ahead is wrong, and must not decide how far anything has come.
_FUTURE_MS = 5_000
_QUIET_BATCH_MS = 250
_NOTABLE_SKEW_MS = 2_000
_NAMES_SHOWN = 3
_NO_TICKS = table([])


class Session:
    """What the provider knows while it runs."""

    def __init__(
        self,
        settings: WebSocketFeed,
        key_of: Callable[[], str] | None,
        report: Report,
        tell: Callable[[Incoming], None],
        *,
        guard: Guard,
        patience: Patience,
        holding: Holding,
        clock_ms: Callable[[], int],
        spread: Spread,
        overhear: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._settings, self._clock_ms = settings, clock_ms
        self._host = parsed(settings.url).host
        means = Means(settings, guard, key_of, tell, clock_ms, threading.Lock(), overhear)
        self._crew = Crew(settings.per_connection, lambda number: Line(number, means, Attempts(patience, spread)))
        self._fetcher = Fetcher(settings.backfill, guard, tell) if settings.backfill is not None else None
        fetches = self._fetcher is not None
        self._catch_up = CatchUp(holding, consecutive=settings.consecutive_ids, fetches=fetches, spread=spread)
        self._skew, self._staleness, self._reporting = Skew(), Staleness(), Reporting(report, clock_ms)
        self._names: frozenset[str] | None = None
        self._picked, self._doubts = Picked(), Doubts(clock_ms)
        self._heard: list[Heard] = []
        self._ready: list[RawRow] = []
        self._refused: list[pl.DataFrame] = []
        self._complete_ms: int | None = None
        self._heard_ms: int | None = None
        self._connects = self._batch_ms = self._limited_until_ms = 0
        self._limit = self._complaint = ""
        self._over: ProviderError | None = None
        if self._fetcher is not None:
            self._fetcher.start()

    def restore(self, cursor: str | None) -> None:
        """Go on from a cursor of this provider."""
        kept = json.loads(cursor) if cursor else {}
        self._complete_ms = kept.get("complete_ms")
        self._catch_up.restore(kept.get("lanes", {}))

    def follow(self, wanted: frozenset[str] | None) -> None:
        """Read exactly these from now on; None stands for those of the settings."""
        names = frozenset(self._settings.instruments) if wanted is None else wanted
        if names == self._names:
            return
        self._names = names
        self._catch_up.watch(names)
        self._staleness.expect(names, self._clock_ms())
        self._crew.assign(names)

    def take(self, events: Iterable[Incoming]) -> None:
        """Take in what happened, in its order."""
        for event in events:
            if isinstance(event, Heard):
                self._heard.append(event)
                continue
            self._take_heard()
            match event:
                case Page() | Answered() | Failed():
                    self._take_fetched(event)
                case Ended():
                    self._take_end(event)
                case _:
                    if (post := self._crew.post(event.line)) is not None:
                        self._take_change(post, event)
                        self._reporting.tell(self._state(self._clock_ms()))
        self._take_heard()

    def batch(self) -> Batch | None:
        """Return what is ready to go on, or None while there is nothing to say."""
        now_ms = self._clock_ms()
        if self._fetcher is not None:
            for ask in self._catch_up.asks(now_ms):
                self._fetcher.ask(ask)
        self._put(self._catch_up.overdue(now_ms))
        complete_ms = self._complete_to_ms(now_ms)
        news = complete_ms is not None and (self._complete_ms is None or complete_ms > self._complete_ms)
        quiet = not self._ready and not self._refused
        if self._reporting.due(now_ms):
            self._reporting.tell(self._state(now_ms))
        if quiet and not (news and now_ms - self._batch_ms >= _QUIET_BATCH_MS):
            return None
        self._complete_ms, self._batch_ms = complete_ms if news else self._complete_ms, now_ms
        rows, refused = self._ready, self._refused
        self._ready, self._refused = [], []
        cursor = json.dumps({"complete_ms": self._complete_ms, "lanes": self._catch_up.state()})
        broken = pl.concat(refused, how="diagonal_relaxed") if refused else pl.DataFrame()
        rising = self._settings.consecutive_ids or self._settings.rows.rising_ids
        ticks = table(rows) if rows else _NO_TICKS
        return Batch(ticks, cursor, complete_ms if news else None, broken, rising_ids=rising)

    def check(self) -> None:
        """Raise ProviderError when nothing more will come until a person has mended something."""
        if self._over is not None:
            raise self._over

    def close(self) -> None:
        """End all connections and questions."""
        self._crew.close()
        if self._fetcher is not None:
            self._fetcher.stop()

    def _take_change(self, post: Post, event: Connecting | Up | Subscribed | CaughtUp | Down) -> None:
        now_ms = self._clock_ms()
        match event:
            case Connecting():
                post.state = ConnectionState(Phase.CONNECTING, f"Connecting to {self._host}.", now_ms)
            case Up():
                self._connects += 1
                self._heard_ms = event.heard_ms
                if event.date_ms is not None:
                    self._skew.dated(event.date_ms, event.heard_ms)
                post.names_up = event.names
                self._connected(event.names, now_ms)
            case Subscribed():
                added = event.names - post.names_up
                self._connected(added, now_ms)
                self._catch_up.subscribed(event.names, now_ms)
                post.names_up |= added
                post.subscribed, post.complete_ms = True, None
                post.state = ConnectionState(Phase.RECEIVING, "", now_ms)
            case CaughtUp():
                self._heard_ms = now_ms
                if self._skew.ms is not None:
                    post.complete_to(self._provider_ms(event.sent_ms) - _UNCERTAIN_MS)
            case Down():
                post.subscribed, post.complete_ms = False, None
                rests = " It failed so often that it is only tried now and then." * (event.pause.phase is Phase.RESTING)
                retry_ms = now_ms + int(event.pause.seconds * 1_000)
                post.state = ConnectionState(event.pause.phase, f"{event.error}{rests}", now_ms, retry_ms)

    def _connected(self, names: frozenset[str], now_ms: int) -> None:
        """Hold back what may have been missed; where nothing can be fetched or counted, say so."""
        gaps = self._catch_up.gaps
        self._catch_up.connected(names, now_ms, self._provider_ms(now_ms), self._complete_ms)
        if self._catch_up.gaps > gaps:
            about = ", ".join(sorted(names)[:_NAMES_SHOWN])
            self._doubt(about, "the connection was lost, and what was missed cannot be fetched", count=0)

    def _doubt(self, about: str, why: str, count: int = 1) -> None:
        """Note that ticks may be missing since the last word of completeness."""
        now_ns = self._provider_ms(self._clock_ms()) * _NS_PER_MS
        since = "" if self._complete_ms is None else f" {span(self._complete_ms * _NS_PER_MS, now_ns)}"
        self._doubts.note(about, f"Ticks of {about} may be missing{since}: {why}.", count)

    def _take_end(self, event: Ended) -> None:
        post = self._crew.post(event.line)
        if event.error is None or post is None:
            return
        phase = Phase.BROKEN if isinstance(event.error, BrokenAnswerError) else Phase.REFUSED
        post.state = ConnectionState(phase, str(event.error), self._clock_ms())
        self._reporting.tell(self._state(self._clock_ms()))
        self._over = event.error if isinstance(event.error, ProviderError) else ProviderError(str(event.error))

    def _take_heard(self) -> None:
        """Take in the messages that came since the last other event."""
        heard, self._heard = self._heard, []
        if not heard:
            return
        self._heard_ms = heard[-1].heard_ms
        clocks = times_ns(event.said.server_time for event in heard)
        posts = [self._crew.post(event.line) for event in heard]
        wanted = [self._wanted_rows(event.said.rows, post) for event, post in zip(heard, posts, strict=True)]
        groups = in_order(wanted, rising=self._settings.consecutive_ids)
        for event, post, group, server_ns in zip(heard, posts, groups, clocks, strict=True):
            kind = event.said.kind
            if kind is Kind.GARBAGE:
                detail = text_of(f"{event.said.problem}: {event.said.text}")
                self._refused.append(pl.DataFrame({"reason": "broken_line", "detail": detail, "line": None}))
            elif kind is Kind.COMPLAINT:
                self._complaint = event.said.text
            for row in group.rows:
                self._staleness.heard(str(row.values["instrument"]), event.heard_ms)
            newest_ns = self._put_in(group)
            if kind is Kind.SNAPSHOT or post is None:  # of the past, or of a connection that is no longer used
                continue
            if server_ns is not None:
                self._skew.heard(server_ns // _NS_PER_MS, event.heard_ms)
            self._complete(post, event, newest_ns if server_ns is None else server_ns)

    def _complete(self, post: Post, event: Heard, server_ns: int | None) -> None:
        """Take note of what a message says about how far its connection has come: all before it has come, too."""
        if server_ns is not None:
            post.complete_to(min(server_ns // _NS_PER_MS, self._provider_ms(event.heard_ms) + _FUTURE_MS))
        elif event.said.kind in (Kind.HEARTBEAT, Kind.IGNORED) and self._skew.ms is not None:
            post.complete_to(self._provider_ms(event.heard_ms) - _UNCERTAIN_MS)

    def _wanted_rows(self, rows: Sequence[RawRow], post: Post | None) -> list[RawRow]:
        """Return the rows of wanted instruments; others are refused, those of a connection no longer used dropped."""
        if post is None:
            return []
        if self._settings.rows.instrument == ASKED and len(post.line.names) == 1:
            return [{**row, "instrument": name} for row in rows for name in post.line.names]
        own, refused = self._picked.split(rows, self._names or frozenset())
        self._refused += [refused] if refused.height else []
        return own

    def _take_fetched(self, event: Fetched) -> None:
        now_ms, instrument = self._clock_ms(), event.ask.instrument
        match event:
            case Page():
                answer = event.answer
                if answer.server_ms is not None:
                    self._skew.dated(answer.server_ms, int(answer.asked_ms + answer.took_ms / 2))
                for group in in_order([event.rows], rising=self._settings.consecutive_ids, backfilled=True):
                    self._put_in(group)
            case Answered():
                self._put(self._catch_up.answered(instrument, now_ms))
                if not event.whole:
                    self._doubt(instrument, "what was missed could not be fetched whole")
            case Failed():
                self._limit = str(event.error)
                self._limited_until_ms = now_ms + int((event.retry_after_s or 0) * 1_000)
                self._put(self._catch_up.failed(instrument, now_ms, event.retry_after_s))

    def _put_in(self, group: Ordered) -> int | None:
        """Put rows into the lanes of their instruments; return the newest time of them."""
        now_ms = self._clock_ms()
        self._ready += group.unplaced
        limit_ns = (self._provider_ms(now_ms) + _FUTURE_MS) * _NS_PER_MS
        newest_ns = None
        for row in group.rows:
            sane = row if row.time_ns <= limit_ns else replace(row, time_ns=limit_ns)
            newest_ns = max(newest_ns or 0, row.time_ns) if row is sane else newest_ns
            self._put(self._catch_up.take(sane, now_ms))
        return newest_ns

    def _put(self, rows: Iterable[Row]) -> None:
        self._ready += [row.values for row in rows]

    def _provider_ms(self, our_ms: int) -> int:
        """Return what the provider's clock shows, as far as that is known."""
        return our_ms + round(self._skew.ms or 0)

    def _complete_to_ms(self, now_ms: int) -> int | None:
        """Return up to when, by the provider's clock, all that is wanted has come; None while that is open."""
        if not self._names:
            return self._provider_ms(now_ms) - _UNCERTAIN_MS
        posts = list(self._crew)
        if not self._catch_up.settled or not all(post.subscribed and post.complete_ms for post in posts):
            return None
        return min(post.complete_ms or 0 for post in posts)

    def _state(self, now_ms: int) -> ConnectionState:
        state = worst([post.state for post in self._crew] or [ConnectionState(Phase.IDLE, "", now_ms)])
        if state.phase is Phase.RECEIVING and now_ms < self._limited_until_ms:
            state = ConnectionState(Phase.LIMITED, self._limit, now_ms, self._limited_until_ms)
        return replace(
            state,
            sentence=state.sentence or self._sentence(state.phase),
            heard_ms=self._heard_ms,
            connects=self._connects,
            skew_ms=self._skew.ms,
            gaps=self._catch_up.gaps + self._doubts.count,
            gap=self._doubts.sentence,
            backfilled=self._catch_up.backfilled,
            missing=self._catch_up.missing,
            stale=self._staleness.stale(now_ms),
        )

    def _sentence(self, phase: Phase) -> str:
        if phase is Phase.IDLE:
            return "No instrument is wanted of it; pick some on the Instruments page."
        count = len(self._names or ())
        parts = [f"Prices of {count} instrument{'s' * (count != 1)} come in."]
        if not self._catch_up.settled:
            parts.append("What was missed is being fetched.")
        skew_ms = self._skew.ms or 0
        if abs(skew_ms) >= _NOTABLE_SKEW_MS:
            parts.append(f"Its clock is {abs(skew_ms) / 1_000:.0f} s {'ahead of' if skew_ms > 0 else 'behind'} ours.")
        parts += filter(None, (self._picked.sentence, self._doubts.sentence))
        if self._complaint:
            parts.append(f"It says: {self._complaint}")
        return " ".join(parts)
