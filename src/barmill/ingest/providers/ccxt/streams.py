"""The streams of a ccxt feed's instruments, and the batches made from them, across all its connections."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from barmill.ingest.connection.catch_up import CatchUp, HoldLimits
from barmill.ingest.connection.instrument_stream import BackfillRequest, Row
from barmill.ingest.connection.provider import Batch
from barmill.ingest.connection.reconnect import Jitter
from barmill.ingest.connection.state import ConnectionState, Phase, Report, Skew, Staleness, StateReporter
from barmill.ingest.identity import GapNotes
from barmill.ingest.mapping.row_tables import table
from barmill.platform.clock import MS_PER_HOUR, NS_PER_MS

# The exchange's time is only estimated from this machine's clock and the skew, and trades take time to arrive.
_UNCERTAIN_MS = 1_000
# A time further ahead is wrong and must not affect the order of the trades.
_FUTURE_MS = 5_000
_QUIET_BATCH_MS = 250
_MAX_SHOWN = 3


class TradeStreams:
    """The trades of a feed: taken from connections, and returned in batches, each exactly once and in order."""

    def __init__(
        self,
        report: Report,
        hold_limits: HoldLimits,
        clock_ms: Callable[[], int],
        jitter: Jitter,
        *,
        consecutive: bool,
        can_fetch: bool,
    ) -> None:
        self.clock_ms, self._hold_limits = clock_ms, hold_limits
        self._catch_up = CatchUp(hold_limits, consecutive=consecutive, can_fetch=can_fetch, jitter=jitter)
        self.skew, self._staleness, self._reporter = Skew(), Staleness(), StateReporter(report, clock_ms)
        self.names: frozenset[str] = frozenset()
        self.connects = 0
        self.heard_ms: int | None = None
        self._state = ConnectionState(Phase.IDLE, "", clock_ms())
        self._ready: list[Mapping[str, object]] = []
        self._refusals: dict[str, str] = {}
        self._gap_notes = GapNotes(clock_ms)
        self._known: frozenset[str] = frozenset()
        self._begun_ns: dict[str, int] = {}
        self._traded: set[str] = set()
        self._complete_ms: int | None = None
        self._batch_ms = 0

    @property
    def provider_ms(self) -> int:
        """Return the estimated time of the exchange's clock, in epoch milliseconds."""
        return self.clock_ms() + round(self.skew.ms or 0)

    @property
    def settled(self) -> bool:
        """Return whether no missing trades are pending."""
        return self._catch_up.settled

    @property
    def accepted(self) -> frozenset[str]:
        """Return the instruments that the exchange does not refuse."""
        return self.names - self._refusals.keys()

    def restore(self, cursor: str | None) -> None:
        """Continue from a cursor of this provider."""
        saved = json.loads(cursor) if cursor else {}
        self._complete_ms = saved.get("complete_ms")
        streams = saved.get("streams", {})
        self._catch_up.restore(streams)
        self._known = frozenset(streams)
        self._traded = {name for name, stream in streams.items() if stream.get("newest_ns")}

    def follow(self, names: frozenset[str]) -> None:
        """Take trades of exactly these instruments from now on."""
        if names != self.names:
            self.names = names
            self._catch_up.watch(names)
            self._staleness.expect(names, self.clock_ms())
            self._known &= names
            self._traded &= names
            for name in self._refusals.keys() - names:
                del self._refusals[name]
            for name in self._begun_ns.keys() - names:
                del self._begun_ns[name]

    def on_connected(self, label: str) -> frozenset[str]:
        """Record a new connection; return the instruments that were read over an earlier one."""
        self.connects += 1
        self.heard_ms = self.clock_ms()
        self._refusals.clear()
        disconnected_ms = self.provider_ms - (self._complete_ms or self.provider_ms)
        if disconnected_ms > self._hold_limits.longest_ms:
            self._catch_up.watch(())
            self._catch_up.watch(self.names)
            self._known = frozenset()
            self._begun_ns.clear()
            self._traded.clear()
            self._gap_notes.note(
                label, f"What {label} traded in {disconnected_ms // MS_PER_HOUR} hours without a connection is missing."
            )
        return self._known | self._begun_ns.keys()

    def expect(self, name: str) -> None:
        """Hold trades of an instrument if earlier trades may be missing, until those are fetched (see `resume`)."""
        begun_ms = self.provider_ms - _UNCERTAIN_MS
        if name not in self._known:
            self._begun_ns.setdefault(name, begun_ms * NS_PER_MS)
        self._catch_up.on_connected((name,), self.clock_ms(), begun_ms, None)

    def resume(self, name: str) -> None:
        """Make the request for an instrument's trades since its last one due."""
        self.expect(name)
        self._catch_up.on_subscribed((name,), self.clock_ms())

    def due_requests(self) -> list[BackfillRequest]:
        """Return what to fetch now."""
        return self._catch_up.due_requests(self.clock_ms())

    def has_traded(self, name: str) -> bool:
        """Return whether a trade of an instrument is known, which later trades must continue from."""
        return name in self._traded

    def without_earlier(self, name: str, rows: Iterable[Row]) -> list[Row]:
        """Return the trades without those from before the subscription of the instrument."""
        begun_ns = self._begun_ns.get(name, 0)
        return [row for row in rows if row.time_ns >= begun_ns]

    def take(self, rows: Iterable[Row]) -> None:
        """Take trades from a connection."""
        now_ms, limit_ns = self.clock_ms(), (self.provider_ms + _FUTURE_MS) * NS_PER_MS
        self.heard_ms = now_ms
        for row in rows:
            name = str(row.values["instrument"])
            if not row.backfilled:
                self._staleness.record_tick(name, now_ms)
            if row.time_ns == 0:  # no time; ingest rejects this row later
                self._ready.append(row.values)
                continue
            clamped = row if row.time_ns <= limit_ns else replace(row, time_ns=limit_ns)
            self._add_ready_rows(self._catch_up.take(clamped, now_ms))

    def on_fetched(self, name: str, *, is_complete: bool, label: str) -> None:
        """Record that all trades of a request have been taken.

        is_complete: they continue without a gap from what was known.
        """
        self._add_ready_rows(self._catch_up.on_fetched(name, self.clock_ms()))
        if not is_complete and name in self.names:
            self._gap_notes.note(
                name, f"Trades of {name} may be missing, because {label} does not provide trades that old."
            )

    def on_fetch_failed(self, name: str, retry_after_s: float | None) -> None:
        """Record that a request failed; retry_after_s: the pause that the exchange requests, or None."""
        self._add_ready_rows(self._catch_up.on_fetch_failed(name, self.clock_ms(), retry_after_s))

    def on_refused(self, name: str, sentence: str) -> None:
        """Record that the exchange refuses an instrument."""
        self._refusals[name] = sentence

    def report_state(self, phase: Phase, sentence: str = "", retry_ms: int | None = None) -> None:
        """Report the state of the connection; receiving and idle states get their sentence automatically."""
        self._state = ConnectionState(phase, sentence, self.clock_ms(), retry_ms)
        self._reporter.report_state(self._current_state())

    def batch(self, heard_ms: int | None) -> Batch | None:
        """Return the batch that is ready, or None.

        heard_ms: everything up to this time, by this machine's clock, was delivered; None if unknown.
        """
        now_ms = self.clock_ms()
        self._add_ready_rows(self._catch_up.release_overdue(now_ms))
        complete_ms = None if heard_ms is None else heard_ms + round(self.skew.ms or 0) - _UNCERTAIN_MS
        has_advanced = complete_ms is not None and complete_ms > (self._complete_ms or 0)
        if self._reporter.is_due(now_ms):
            self._reporter.report_state(self._current_state())
        if not self._ready and not (has_advanced and now_ms - self._batch_ms >= _QUIET_BATCH_MS):
            return None
        self._complete_ms, self._batch_ms = complete_ms if has_advanced else self._complete_ms, now_ms
        rows, self._ready = self._ready, []
        cursor = json.dumps({"complete_ms": self._complete_ms, "streams": self._catch_up.state()})
        return Batch(table(rows), cursor, complete_ms if has_advanced else None)

    def _add_ready_rows(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._ready.append(row.values)
            self._traded.add(str(row.values["instrument"]))

    def _current_state(self) -> ConnectionState:
        state = self._state
        return replace(
            state,
            sentence=state.sentence or self._sentence(),
            heard_ms=self.heard_ms,
            connects=self.connects,
            skew_ms=self.skew.ms,
            gaps=self._catch_up.gaps + self._gap_notes.count,
            backfilled=self._catch_up.backfilled,
            missing=self._catch_up.missing,
            gap=self._gap_notes.sentence,
            stale=self._staleness.stale(self.clock_ms()),
        )

    def _sentence(self) -> str:
        if not self.names:
            return "No instrument is enabled; enable instruments on the Instruments page."
        parts = ["Receiving prices." if self.settled else "Receiving prices; fetching missed trades."]
        parts += filter(None, (self.skew.sentence,))
        refusals = list(self._refusals.values())
        more = len(refusals) - _MAX_SHOWN
        parts += [*refusals[:_MAX_SHOWN], *([f"The same applies to {more} more."] if more > 0 else [])]
        parts += [self._gap_notes.sentence] if self._gap_notes.sentence else []
        return " ".join(parts)
