"""The enabled feeds of a home, each in a thread: each starts, stops and restarts independently of the others."""

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from barmill.ingest.connection.provider import Provider, ProviderError
from barmill.ingest.connection.state import ConnectionState, FeedStates, Phase, write_feed_states
from barmill.ingest.feeds.feed import STATE_SET_BY_INGEST, Feed, Feeds
from barmill.ingest.instruments.selection import InstrumentSelection
from barmill.ingest.instruments.store import Instruments
from barmill.ingest.intake import Intake
from barmill.ingest.provider_factory import provider_of
from barmill.platform.clock import backoff, now_ms, wait_until
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.sqlite_file import data_version
from barmill.storage.tick_log import TickLog

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 60.0
# Only an admin can resolve these; if the provider reported one of them, it remains until the next attempt.
PHASES_NEEDING_ACTION = frozenset({Phase.REFUSED, Phase.BROKEN})


class RunningFeed:
    """A feed that runs in a thread until it is stopped, and restarts after every problem that its provider reports.

    An unexpected error ends the thread, with a traceback in the log of the process.
    """

    def __init__(self, feed: Feed, settings: FeedSettings, home: Home) -> None:
        self.feed = feed
        self._settings, self._home = settings, home
        self._stop = threading.Event()
        self._state = ConnectionState(Phase.CONNECTING, "Connecting.", now_ms())
        self._failures, self._connects = 0, 0
        self._last_phase: Phase | None = None
        # A daemon thread: a feed that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"feed {feed.name}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> ConnectionState:
        """Return the last reported state of the connection."""
        return self._state

    @property
    def ended(self) -> bool:
        """Return whether the thread has ended."""
        return not self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Return whether the feed is stopping, on request or because no thread follows its instruments."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Request that the feed stops; do not wait for it."""
        self._stop.set()

    def _run(self) -> None:
        feed, stop = self.feed, self._stop
        with TickLog.open(self._home.ticks_db) as log, Instruments.open(self._home) as instruments:
            selection = InstrumentSelection(instruments, feed.name)
            provider = self._provider(log, selection)
            if provider is None:
                return
            intake = Intake(
                log,
                provider,
                duplicate_window_ms=self._settings.duplicate_window_ms,
                future_tolerance_ms=self._settings.future_tolerance_ms,
                prefix=feed.prefix,
                made_ms=feed.made_ms,
            )
            with selection.follow(provider, stop):
                while not stop.is_set():
                    try:
                        for _ in intake.run(stop):
                            self._record_batch(selection)
                    except ProviderError as error:
                        self._wait_after_problem(log, str(error), error.phase)
                        selection.fetch_soon()
                    else:
                        if not stop.is_set():
                            self._report_state(Phase.IDLE, "The source has ended; all of its ticks were read.")
                            stop.wait()  # waiting is better than restarting the feed again and again

    def _provider(self, log: TickLog, selection: InstrumentSelection) -> Provider | None:
        """Return the provider as soon as it can be created, or None if the feed is stopped first."""
        while not self._stop.is_set():
            try:
                return provider_of(self.feed, self._settings, self._home, selection.names, self._report)
            except ControlError as error:
                self._wait_after_problem(log, str(error), Phase.BROKEN)
        return None

    def _report(self, state: ConnectionState) -> None:
        """Record a provider's state; for kinds in STATE_SET_BY_INGEST, keep the values that ingest records."""
        self._last_phase = state.phase
        if self.feed.kind in STATE_SET_BY_INGEST:
            self._state = replace(self._state, gaps=state.gaps, gap=state.gap)
            self._report_state(state.phase, state.sentence, retry_ms=state.retry_ms)
        else:
            self._state = state

    def _record_batch(self, selection: InstrumentSelection) -> None:
        self._failures = 0
        if self.feed.kind in STATE_SET_BY_INGEST:
            idle = selection.names() == frozenset()
            receiving = f"Receiving prices. {self._state.gap}".rstrip()
            phase, sentence = (Phase.IDLE, _NO_INSTRUMENT_ENABLED) if idle else (Phase.RECEIVING, receiving)
            self._connects += self._state.phase not in (Phase.RECEIVING, Phase.IDLE)
            self._report_state(phase, sentence, heard_ms=now_ms())

    def _wait_after_problem(self, log: TickLog, sentence: str, phase: Phase) -> None:
        """Report a problem and wait: longer after each failure in a row, up to MAX_PAUSE_S."""
        self._failures += 1
        pause_s = backoff(self._failures, FIRST_PAUSE_S, MAX_PAUSE_S)
        logger.warning("%s: %s Retrying in %.0f s.", self.feed.name, sentence, pause_s)
        log.report_problem(self.feed.name, sentence)
        phase = self._last_phase if self._last_phase in PHASES_NEEDING_ACTION else phase
        self._report_state(phase, sentence, retry_ms=now_ms() + round(1_000 * pause_s))
        self._stop.wait(pause_s)
        self._last_phase = None

    def _report_state(
        self, phase: Phase, sentence: str, *, retry_ms: int | None = None, heard_ms: int | None = None
    ) -> None:
        before = self._state
        self._state = replace(
            before,
            phase=phase,
            sentence=sentence,
            since_ms=before.since_ms if phase is before.phase else now_ms(),
            retry_ms=retry_ms,
            heard_ms=heard_ms or before.heard_ms,
            connects=self._connects if self.feed.kind in STATE_SET_BY_INGEST else before.connects,
        )


_NO_INSTRUMENT_ENABLED = "No instrument is enabled; enable instruments on the Instruments page."


CHECK_EVERY_S = 0.2
# A feed that ended with an unexpected error is restarted after this time.
RESTART_AFTER_S = 10.0
_WRITE_EVERY_S = 1.0
_END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _FeedFailure:
    feed: Feed
    failed_s: float
    state: ConnectionState


class FeedRunner:
    """The runner of all enabled feeds: each runs in a thread, and their states are written to the run folder."""

    def __init__(self, home: Home, settings: FeedSettings, feeds: Feeds, log: TickLog) -> None:
        self._home, self._settings, self._feeds, self._log = home, settings, feeds, log
        self._version: int | None = None
        self._enabled: Mapping[str, Feed] = {}
        self._running: dict[str, RunningFeed] = {}
        self._failures: dict[str, _FeedFailure] = {}
        self._write_at_s = 0.0

    def step(self) -> None:
        """Run one step: apply changes, start and restart feeds, and write all states if a second has passed."""
        try:
            self._apply_changes()
            for name, running in list(self._running.items()):
                if running.ended:
                    self._remove_ended(name, running)
        except sqlite3.Error as error:
            logger.warning("The settings of the feeds cannot be read now (%s); the feeds continue unchanged.", error)
        for name, feed in self._enabled.items():
            if name not in self._running and self._may_start(feed):
                self._running[name] = RunningFeed(feed, self._settings, self._home)
        if time.monotonic() >= self._write_at_s:
            self._write_states()

    def stop(self) -> None:
        """Stop all feeds and wait briefly for each; a feed that hangs ends with the process."""
        for running in self._running.values():
            running.stop()
        wait_until(lambda: all(running_feed.ended for running_feed in self._running.values()), _END_TIMEOUT_S)

    def _apply_changes(self) -> None:
        """If the database changed since the last step, read the enabled feeds and stop feeds that no longer match."""
        version = data_version(self._feeds.db.conn)
        if version == self._version:
            return
        self._enabled = {feed.name: feed for feed in self._feeds.all() if feed.enabled}
        for name, running in self._running.items():
            if self._enabled.get(name) != running.feed:
                running.stop()
        # Do this at once, even if a connection is still waiting, so that bars of disabled and deleted feeds can close.
        self._log.end_other_sources(self._enabled)
        self._version = version

    def _remove_ended(self, name: str, running: RunningFeed) -> None:
        """Remove a feed whose thread has ended; if it is still enabled and unchanged, it has failed."""
        del self._running[name]
        if self._enabled.get(name) == running.feed:
            at_ms = now_ms()
            logger.error("The feed %s ended with an internal error; see above.", name)
            state = ConnectionState(Phase.BROKEN, _INTERNAL_ERROR, at_ms, at_ms + round(1_000 * RESTART_AFTER_S))
            self._failures[name] = _FeedFailure(running.feed, time.monotonic(), state)
            self._log.report_problem(name, _INTERNAL_ERROR)
        else:
            self._log.end_other_sources(self._enabled)  # the feed may have opened its source again just before it ended

    def _may_start(self, feed: Feed) -> bool:
        failure = self._failures.get(feed.name)
        return failure is None or failure.feed != feed or time.monotonic() - failure.failed_s >= RESTART_AFTER_S

    def _write_states(self) -> None:
        states = {name: self._state(name) for name in self._enabled}
        self._write_at_s = time.monotonic() + _WRITE_EVERY_S
        try:
            write_feed_states(self._home, FeedStates(now_ms(), states))
        except OSError as error:  # for example a full disk; prices matter more than this file
            logger.warning("The states of the feeds cannot be written: %s", error)

    def _state(self, name: str) -> ConnectionState:
        running = self._running.get(name)
        if running is None:
            return self._failures[name].state
        if running.stopping:
            return ConnectionState(Phase.WAITING, "The feed was changed; its old connection is closing.", now_ms())
        return running.state


_INTERNAL_ERROR = "The feed ended with an internal error; see log/ingest.log. It restarts automatically."
