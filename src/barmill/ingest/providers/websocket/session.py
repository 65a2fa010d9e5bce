"""A run of the WebSocket provider: events from its connections, and the batches made from them.

Everything here runs in one thread; the connections and the fetcher send events to it.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import polars as pl

from barmill.ingest.connection.catch_up import CatchUp, HoldLimits
from barmill.ingest.connection.guard import Guard, parse_url
from barmill.ingest.connection.instrument_stream import Row
from barmill.ingest.connection.provider import Batch, ProviderError
from barmill.ingest.connection.reconnect import Attempts, InvalidResponseError, Jitter, ReconnectDelays
from barmill.ingest.connection.state import ConnectionState, Phase, Report, Skew, Staleness, StateReporter, worst_state
from barmill.ingest.identity import GapNotes, time_range_text
from barmill.ingest.mapping.row_mapping import REQUESTED
from barmill.ingest.mapping.row_tables import InstrumentFilter, table, times_ns
from barmill.ingest.providers.websocket.connection import Allocation, ConnectionSlot, ConnectionWorker
from barmill.ingest.providers.websocket.fetcher import FetchDone, Fetcher, FetchEvent, FetchFailed, Page
from barmill.ingest.providers.websocket.messages import Kind, OrderedRows, RawRow, ordered_rows
from barmill.ingest.providers.websocket.protocol import (
    Connected,
    Connecting,
    Disconnected,
    Event,
    MessageArrived,
    PongReceived,
    SharedSettings,
    Subscribed,
    ThreadEnded,
)
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.platform.clock import NS_PER_MS
from barmill.platform.exact_json import text_of

Incoming = Event | FetchEvent

# If the provider does not send its time, it is estimated from this machine's clock and the skew, minus this
# uncertainty.
_UNCERTAIN_MS = 1_000
# A time further ahead is wrong and must not affect completeness.
_FUTURE_MS = 5_000
_QUIET_BATCH_MS = 250
_NAMES_SHOWN = 3
_NO_TICKS = table([])


class Session:
    """The provider's state while it runs."""

    def __init__(
        self,
        settings: WebSocketFeed,
        key_of: Callable[[], str] | None,
        report: Report,
        emit: Callable[[Incoming], None],
        *,
        guard: Guard,
        reconnect_delays: ReconnectDelays,
        hold_limits: HoldLimits,
        clock_ms: Callable[[], int],
        jitter: Jitter,
        on_message: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._settings, self._clock_ms = settings, clock_ms
        self._host = parse_url(settings.url).host
        shared = SharedSettings(settings, guard, key_of, emit, clock_ms, threading.Lock(), on_message)
        self._allocation = Allocation(
            settings.per_connection, lambda number: ConnectionWorker(number, shared, Attempts(reconnect_delays, jitter))
        )
        self._fetcher = Fetcher(settings.backfill, guard, emit) if settings.backfill is not None else None
        can_fetch = self._fetcher is not None
        self._catch_up = CatchUp(hold_limits, consecutive=settings.consecutive_ids, can_fetch=can_fetch, jitter=jitter)
        self._skew, self._staleness, self._reporter = Skew(), Staleness(), StateReporter(report, clock_ms)
        self._names: frozenset[str] | None = None
        self._instrument_filter, self._gap_notes = InstrumentFilter(), GapNotes(clock_ms)
        self._messages: list[MessageArrived] = []
        self._ready: list[RawRow] = []
        self._rejects: list[pl.DataFrame] = []
        self._complete_ms: int | None = None
        self._heard_ms: int | None = None
        self._connects = self._batch_ms = self._limited_until_ms = 0
        self._limit_sentence = self._provider_error = ""
        self._ended: ProviderError | None = None
        if self._fetcher is not None:
            self._fetcher.start()

    def restore(self, cursor: str | None) -> None:
        """Continue from a cursor of this provider."""
        saved = json.loads(cursor) if cursor else {}
        self._complete_ms = saved.get("complete_ms")
        self._catch_up.restore(saved.get("streams", {}))

    def follow(self, selected: frozenset[str] | None) -> None:
        """Read exactly these instruments from now on; None means those in the settings."""
        names = frozenset(self._settings.instruments) if selected is None else selected
        if names == self._names:
            return
        self._names = names
        self._catch_up.watch(names)
        self._staleness.expect(names, self._clock_ms())
        self._allocation.assign(names)

    def take(self, events: Iterable[Incoming]) -> None:
        """Process events in their order."""
        for event in events:
            if isinstance(event, MessageArrived):
                self._messages.append(event)
                continue
            self._handle_messages()
            match event:
                case Page() | FetchDone() | FetchFailed():
                    self._handle_fetch_event(event)
                case ThreadEnded():
                    self._handle_thread_end(event)
                case _:
                    if (slot := self._allocation.slot_of(event.connection)) is not None:
                        self._handle_connection_event(slot, event)
                        self._reporter.report_state(self._state(self._clock_ms()))
        self._handle_messages()

    def batch(self) -> Batch | None:
        """Return the batch that is ready, or None if there is nothing new."""
        now_ms = self._clock_ms()
        if self._fetcher is not None:
            for request in self._catch_up.due_requests(now_ms):
                self._fetcher.submit(request)
        self._add_ready_rows(self._catch_up.release_overdue(now_ms))
        complete_ms = self._complete_to_ms(now_ms)
        has_advanced = complete_ms is not None and (self._complete_ms is None or complete_ms > self._complete_ms)
        is_empty = not self._ready and not self._rejects
        if self._reporter.is_due(now_ms):
            self._reporter.report_state(self._state(now_ms))
        if is_empty and not (has_advanced and now_ms - self._batch_ms >= _QUIET_BATCH_MS):
            return None
        self._complete_ms, self._batch_ms = complete_ms if has_advanced else self._complete_ms, now_ms
        rows, rejects = self._ready, self._rejects
        self._ready, self._rejects = [], []
        cursor = json.dumps({"complete_ms": self._complete_ms, "streams": self._catch_up.state()})
        broken = pl.concat(rejects, how="diagonal_relaxed") if rejects else pl.DataFrame()
        rising = self._settings.consecutive_ids or self._settings.rows.rising_ids
        ticks = table(rows) if rows else _NO_TICKS
        return Batch(ticks, cursor, complete_ms if has_advanced else None, broken, rising_ids=rising)

    def check(self) -> None:
        """Raise ProviderError if a connection has ended with an error that needs action by a person."""
        if self._ended is not None:
            raise self._ended

    def close(self) -> None:
        """Stop all connections and requests, and wait until their threads have ended."""
        self._allocation.close()
        if self._fetcher is not None:
            self._fetcher.stop()

    def _handle_connection_event(
        self, slot: ConnectionSlot, event: Connecting | Connected | Subscribed | PongReceived | Disconnected
    ) -> None:
        now_ms = self._clock_ms()
        match event:
            case Connecting():
                slot.state = ConnectionState(Phase.CONNECTING, f"Connecting to {self._host}.", now_ms)
            case Connected():
                self._connects += 1
                self._heard_ms = event.heard_ms
                if event.date_ms is not None:
                    self._skew.record_http_date(event.date_ms, event.heard_ms)
                slot.connected_names = event.names
                self._handle_connected(event.names, now_ms)
            case Subscribed():
                added = event.names - slot.connected_names
                self._handle_connected(added, now_ms)
                self._catch_up.on_subscribed(event.names, now_ms)
                slot.connected_names |= added
                slot.subscribed, slot.complete_ms = True, None
                slot.state = ConnectionState(Phase.RECEIVING, "", now_ms)
            case PongReceived():
                self._heard_ms = now_ms
                if self._skew.ms is not None:
                    slot.record_complete_to(self._provider_ms(event.sent_ms) - _UNCERTAIN_MS)
            case Disconnected():
                slot.subscribed, slot.complete_ms = False, None
                resting_text = " After many failures, connections are attempted less often." * (
                    event.pause.phase is Phase.RESTING
                )
                retry_ms = now_ms + int(event.pause.seconds * 1_000)
                slot.state = ConnectionState(event.pause.phase, f"{event.error}{resting_text}", now_ms, retry_ms)

    def _handle_connected(self, names: frozenset[str], now_ms: int) -> None:
        """Hold live ticks that may follow missed ones; report a gap if ticks can be neither fetched nor counted."""
        gaps = self._catch_up.gaps
        self._catch_up.on_connected(names, now_ms, self._provider_ms(now_ms), self._complete_ms)
        if self._catch_up.gaps > gaps:
            subject = ", ".join(sorted(names)[:_NAMES_SHOWN])
            self._note_gap(subject, "the connection was lost, and missed ticks cannot be fetched", count=0)

    def _note_gap(self, subject: str, cause: str, count: int = 1) -> None:
        """Record that ticks may be missing since the last known time of completeness."""
        now_ns = self._provider_ms(self._clock_ms()) * NS_PER_MS
        since = "" if self._complete_ms is None else f" {time_range_text(self._complete_ms * NS_PER_MS, now_ns)}"
        self._gap_notes.note(subject, f"Ticks of {subject} may be missing{since}: {cause}.", count)

    def _handle_thread_end(self, event: ThreadEnded) -> None:
        slot = self._allocation.slot_of(event.connection)
        if event.error is None or slot is None:
            return
        phase = Phase.BROKEN if isinstance(event.error, InvalidResponseError) else Phase.REFUSED
        slot.state = ConnectionState(phase, str(event.error), self._clock_ms())
        self._reporter.report_state(self._state(self._clock_ms()))
        self._ended = event.error if isinstance(event.error, ProviderError) else ProviderError(str(event.error))

    def _handle_messages(self) -> None:
        """Process the messages that arrived since the last other event."""
        messages, self._messages = self._messages, []
        if not messages:
            return
        self._heard_ms = messages[-1].heard_ms
        clocks = times_ns(event.message.server_time for event in messages)
        slots = [self._allocation.slot_of(event.connection) for event in messages]
        selected_rows = [
            self._selected_rows(event.message.rows, slot) for event, slot in zip(messages, slots, strict=True)
        ]
        groups = ordered_rows(selected_rows, rising=self._settings.consecutive_ids)
        for event, slot, group, server_ns in zip(messages, slots, groups, clocks, strict=True):
            kind = event.message.kind
            if kind is Kind.UNREADABLE:
                detail = text_of(f"{event.message.problem}: {event.message.text}")
                self._rejects.append(pl.DataFrame({"reason": "broken_line", "detail": detail, "line": None}))
            elif kind is Kind.ERROR:
                self._provider_error = event.message.text
            for row in group.rows:
                self._staleness.record_tick(str(row.values["instrument"]), event.heard_ms)
            newest_ns = self._add_to_streams(group)
            if kind is Kind.SNAPSHOT or slot is None:  # past prices, or a connection that is no longer used
                continue
            if server_ns is not None:
                self._skew.record_message_time(server_ns // NS_PER_MS, event.heard_ms)
            self._record_completeness(slot, event, newest_ns if server_ns is None else server_ns)

    def _record_completeness(self, slot: ConnectionSlot, event: MessageArrived, server_ns: int | None) -> None:
        """Record the completeness that a message implies: everything before it has arrived as well."""
        if server_ns is not None:
            slot.record_complete_to(min(server_ns // NS_PER_MS, self._provider_ms(event.heard_ms) + _FUTURE_MS))
        elif event.message.kind in (Kind.HEARTBEAT, Kind.IGNORED) and self._skew.ms is not None:
            slot.record_complete_to(self._provider_ms(event.heard_ms) - _UNCERTAIN_MS)

    def _selected_rows(self, rows: Sequence[RawRow], slot: ConnectionSlot | None) -> list[RawRow]:
        """Return the rows of selected instruments; reject other rows, and drop all rows of an unused connection."""
        if slot is None:
            return []
        if self._settings.rows.instrument == REQUESTED and len(slot.worker.names) == 1:
            return [{**row, "instrument": name} for row in rows for name in slot.worker.names]
        selected_rows, rejects = self._instrument_filter.split(rows, self._names or frozenset())
        self._rejects += [rejects] if rejects.height else []
        return selected_rows

    def _handle_fetch_event(self, event: FetchEvent) -> None:
        now_ms, instrument = self._clock_ms(), event.request.instrument
        match event:
            case Page():
                response = event.response
                if response.server_ms is not None:
                    self._skew.record_http_date(response.server_ms, int(response.requested_ms + response.took_ms / 2))
                for group in ordered_rows([event.rows], rising=self._settings.consecutive_ids, backfilled=True):
                    self._add_to_streams(group)
            case FetchDone():
                self._add_ready_rows(self._catch_up.on_fetched(instrument, now_ms))
                if not event.is_complete:
                    self._note_gap(instrument, "missed ticks could not be fetched completely")
            case FetchFailed():
                self._limit_sentence = str(event.error)
                self._limited_until_ms = now_ms + int((event.retry_after_s or 0) * 1_000)
                self._add_ready_rows(self._catch_up.on_fetch_failed(instrument, now_ms, event.retry_after_s))

    def _add_to_streams(self, group: OrderedRows) -> int | None:
        """Add rows to the streams of their instruments; return their newest time in ns."""
        now_ms = self._clock_ms()
        self._ready += group.unusable
        limit_ns = (self._provider_ms(now_ms) + _FUTURE_MS) * NS_PER_MS
        newest_ns = None
        for row in group.rows:
            clamped = row if row.time_ns <= limit_ns else replace(row, time_ns=limit_ns)
            newest_ns = max(newest_ns or 0, row.time_ns) if row is clamped else newest_ns
            self._add_ready_rows(self._catch_up.take(clamped, now_ms))
        return newest_ns

    def _add_ready_rows(self, rows: Iterable[Row]) -> None:
        self._ready += [row.values for row in rows]

    def _provider_ms(self, local_ms: int) -> int:
        """Return the estimated time of the provider's clock, in epoch milliseconds."""
        return local_ms + round(self._skew.ms or 0)

    def _complete_to_ms(self, now_ms: int) -> int | None:
        """Return the time up to which everything selected has arrived, by the provider's clock, or None if unknown."""
        if not self._names:
            return self._provider_ms(now_ms) - _UNCERTAIN_MS
        slots = list(self._allocation)
        if not self._catch_up.settled or not all(slot.subscribed and slot.complete_ms for slot in slots):
            return None
        return min(slot.complete_ms or 0 for slot in slots)

    def _state(self, now_ms: int) -> ConnectionState:
        state = worst_state([slot.state for slot in self._allocation] or [ConnectionState(Phase.IDLE, "", now_ms)])
        if state.phase is Phase.RECEIVING and now_ms < self._limited_until_ms:
            state = ConnectionState(Phase.LIMITED, self._limit_sentence, now_ms, self._limited_until_ms)
        return replace(
            state,
            sentence=state.sentence or self._sentence(state.phase),
            heard_ms=self._heard_ms,
            connects=self._connects,
            skew_ms=self._skew.ms,
            gaps=self._catch_up.gaps + self._gap_notes.count,
            gap=self._gap_notes.sentence,
            backfilled=self._catch_up.backfilled,
            missing=self._catch_up.missing,
            stale=self._staleness.stale(now_ms),
        )

    def _sentence(self, phase: Phase) -> str:
        if phase is Phase.IDLE:
            return "No instrument is enabled; enable instruments on the Instruments page."
        count = len(self._names or ())
        parts = [f"Receiving prices of {count} instrument{'s' * (count != 1)}."]
        if not self._catch_up.settled:
            parts.append("Fetching missed ticks.")
        parts += filter(None, (self._skew.sentence, self._instrument_filter.sentence, self._gap_notes.sentence))
        if self._provider_error:
            parts.append(f"The provider reports: {self._provider_error}")
        return " ".join(parts)
