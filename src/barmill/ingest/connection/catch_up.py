"""Catch-up: finds missed ticks, determines what to fetch, holds live ticks meanwhile, and gives up after a limit.

There is one InstrumentStream per instrument. This module sends no requests: `due_requests` returns what to
fetch, and the caller reports the result with `on_fetched` or `on_fetch_failed`.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from barmill.ingest.connection.instrument_stream import BackfillRequest, InstrumentStream, Row, missing_in
from barmill.ingest.connection.reconnect import Jitter, backoff_s
from barmill.platform.clock import MS_PER_HOUR, NS_PER_MS

_NEVER_MS = 2**62


@dataclass(frozen=True)
class HoldLimits:
    """Limits on how long live ticks wait for missing ticks.

    settle_ms: ids that arrive out of order within this time are not missing. hold_ms: after this time the live ticks
    are released, and ticks fetched later arrive late. max_responses: after this many responses without the missing
    ticks, they count as unavailable. max_failures: the same after this many failed requests. longest_ms: after a longer
    disconnection, nothing is requested. first_pause_s, longest_pause_s: the pauses between requests, as in `backoff_s`.
    """

    settle_ms: int = 300
    hold_ms: int = 60_000
    max_responses: int = 3
    max_failures: int = 20
    longest_ms: int = 6 * MS_PER_HOUR
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0


@dataclass
class _Wait:
    stream: InstrumentStream
    since_ms: int | None = None
    request_at_ms: int = 0
    is_requested: bool = False
    responses: int = 0
    failures: int = 0
    is_counted: bool = False

    def begin(self, now_ms: int, request_at_ms: int) -> None:
        self.since_ms, self.request_at_ms = now_ms, request_at_ms
        self.responses, self.failures, self.is_counted = 0, 0, False


class CatchUp:
    """The streams of a provider's instruments.

    consecutive: ids rise one by one. can_fetch: the provider can be asked for missing ticks.
    """

    def __init__(
        self, hold_limits: HoldLimits, *, consecutive: bool, can_fetch: bool, jitter: Jitter = random.uniform
    ) -> None:
        self._hold_limits, self._consecutive, self._can_fetch, self._jitter = (
            hold_limits,
            consecutive,
            can_fetch,
            jitter,
        )
        self._waits: dict[str, _Wait] = {}
        self._open: dict[str, _Wait] = {}
        self.gaps = 0
        self.backfilled = 0

    @property
    def settled(self) -> bool:
        """Return whether nothing is pending, so that the delivered ticks are complete."""
        return not any(wait.stream.waiting or self._may_fetch(wait) for wait in self._open.values())

    @property
    def missing(self) -> int:
        """Return how many ticks are known to be missing."""
        return missing_in(wait.stream for wait in self._waits.values())

    def watch(self, instruments: Iterable[str]) -> None:
        """Keep streams for exactly these instruments; discard the state of all others, so they are never caught up."""
        requested = set(instruments)
        for name in self._waits.keys() - requested:
            del self._waits[name]
            self._open.pop(name, None)
        for name in requested - self._waits.keys():
            self._waits[name] = _Wait(InstrumentStream(name, consecutive=self._consecutive))

    def on_connected(self, instruments: Iterable[str], now_ms: int, provider_ms: int, complete_ms: int | None) -> None:
        """Hold live ticks of these instruments if earlier ticks may have been missed and can be fetched.

        now_ms: this machine's clock. provider_ms: the provider's clock at the same moment. complete_ms: the time, by
        the provider's clock, up to which all ticks were delivered; None if unknown.
        """
        for wait in self._waits_of(instruments):
            stream = wait.stream
            if stream.newest_ns is None and stream.since_ns is None:
                stream.since_ns = provider_ms * NS_PER_MS
                continue
            wait.begin(now_ms, _NEVER_MS)
            too_long = complete_ms is not None and provider_ms - complete_ms > self._hold_limits.longest_ms
            stream.on_reconnected(hold=self._can_fetch and not too_long)
            wait.responses = self._hold_limits.max_responses if too_long else 0
            if self._can_fetch:
                self._open[stream.instrument] = wait
            elif not self._consecutive:
                self.gaps += 1

    def on_subscribed(self, instruments: Iterable[str], now_ms: int) -> None:
        """Make the requests for missed ticks of these instruments due: from now on, all new ticks arrive live."""
        for wait in self._waits_of(instruments):
            if wait.request_at_ms == _NEVER_MS:
                wait.request_at_ms = now_ms

    def take(self, row: Row, now_ms: int) -> list[Row]:
        """Take a tick; return the ticks that can be released now. Ignore instruments without a stream."""
        wait = self._waits.get(str(row.values["instrument"]))
        if wait is None:
            return []
        was_waiting = wait.stream.waiting
        ready = self._count_backfilled(wait, wait.stream.take(row))
        if wait.stream.waiting and not was_waiting:
            wait.begin(now_ms, now_ms + self._hold_limits.settle_ms)
            self._open[wait.stream.instrument] = wait
        return ready

    def due_requests(self, now_ms: int) -> list[BackfillRequest]:
        """Return what to fetch now; each counts as requested until its result is reported."""
        due = list[BackfillRequest]()
        for name, wait in list(self._open.items()):
            if wait.is_requested or now_ms < wait.request_at_ms:
                continue
            request = wait.stream.next_request()
            if request is None:
                del self._open[name]
            elif self._may_fetch(wait):
                wait.is_requested = True
                due.append(request)
        return due

    def on_fetched(self, instrument: str, now_ms: int) -> list[Row]:
        """Record that all fetched ticks have been taken; return the ticks that can be released now."""
        wait = self._waits.get(instrument)
        if wait is None:
            return []
        wait.is_requested, wait.responses = False, wait.responses + 1
        ready = self._count_backfilled(wait, wait.stream.on_filled())
        wait.request_at_ms = now_ms + self._pause_ms(wait.responses)
        if not self._may_fetch(wait):
            return ready + self._release(wait)
        return ready

    def on_fetch_failed(self, instrument: str, now_ms: int, retry_after_s: float | None = None) -> list[Row]:
        """Record a failed request; return the ticks that are released if no further request will follow.

        retry_after_s: the pause that the provider requests; such a failure does not count.
        """
        wait = self._waits.get(instrument)
        if wait is None:
            return []
        wait.is_requested = False
        if retry_after_s is not None:
            wait.request_at_ms = now_ms + int(retry_after_s * 1_000)
            return []
        wait.failures += 1
        wait.request_at_ms = now_ms + self._pause_ms(wait.failures)
        return [] if self._may_fetch(wait) else self._release(wait)

    def release_overdue(self, now_ms: int) -> list[Row]:
        """Stop waiting where the time limit has passed; return the ticks that this releases."""
        hold_ms = self._hold_limits.hold_ms if self._can_fetch else self._hold_limits.settle_ms
        late = [
            wait
            for wait in self._open.values()
            if wait.stream.waiting and wait.since_ms is not None and now_ms - wait.since_ms > hold_ms
        ]
        return [row for wait in late for row in self._release(wait)]

    def state(self) -> dict[str, object]:
        """Return the state needed to continue after a restart."""
        return {name: wait.stream.state() for name, wait in self._waits.items()}

    def restore(self, state: Mapping[str, Mapping[str, object]]) -> None:
        """Continue from the state that `state` returned."""
        for name, stream_state in state.items():
            self._waits[name] = _Wait(InstrumentStream.of_state(name, stream_state, consecutive=self._consecutive))

    def _waits_of(self, instruments: Iterable[str]) -> list[_Wait]:
        return [self._waits[name] for name in instruments if name in self._waits]

    def _may_fetch(self, wait: _Wait) -> bool:
        """Return whether the missing ticks may still be fetched."""
        below_limits = (
            wait.responses < self._hold_limits.max_responses and wait.failures < self._hold_limits.max_failures
        )
        return self._can_fetch and below_limits

    def _release(self, wait: _Wait) -> list[Row]:
        missing_before = wait.stream.missing
        ready = self._count_backfilled(wait, wait.stream.release())
        if wait.stream.missing > missing_before:
            self._count_gap(wait)
        return ready

    def _count_backfilled(self, wait: _Wait, rows: list[Row]) -> list[Row]:
        """Count the backfilled ticks among the released rows."""
        if fetched := sum(row.backfilled for row in rows):
            self._count_gap(wait)
            self.backfilled += fetched
        return rows

    def _count_gap(self, wait: _Wait) -> None:
        if not wait.is_counted:
            wait.is_counted = True
            self.gaps += 1

    def _pause_ms(self, attempts: int) -> int:
        hold_limits = self._hold_limits
        return int(backoff_s(attempts, hold_limits.first_pause_s, hold_limits.longest_pause_s, self._jitter) * 1_000)
