"""One feed at work, in a thread of its own with its own connection to the tick log: nothing it does disturbs others."""

import logging
import threading
from dataclasses import replace

from bar.clock import now_ms
from control.errors import ControlError
from control.home import Home
from control.instruments.store import Instruments
from feed.connection.state import ConnectionState, Phase
from feed.feeds import TOLD_BY_INGEST, Feed
from feed.intake import Intake
from feed.making import provider_of
from feed.provider import Provider, ProviderError
from feed.settings import FeedSettings
from feed.ticklog import TickLog
from feed.wanted import Wanted

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0
# Only a person can end these; what the provider said of them stays until it is tried again.
NEED_A_PERSON = frozenset({Phase.REFUSED, Phase.BROKEN})


class RunningFeed:
    """Runs a feed until told to stop, taking it up again after every problem that its provider reports.

    An error that nobody foresaw ends its thread, with a traceback in the log of the process.
    """

    def __init__(self, feed: Feed, first: FeedSettings, home: Home) -> None:
        self.feed = feed
        self._first, self._home = first, home
        self._stop = threading.Event()
        self._state = ConnectionState(Phase.CONNECTING, "Connecting.", now_ms())
        self._failures, self._connects = 0, 0
        self._said: Phase | None = None
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"feed {feed.name}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> ConnectionState:
        """Return how the connection is, as last told."""
        return self._state

    @property
    def ended(self) -> bool:
        """Tell whether its thread is no more."""
        return not self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Tell whether it was told to stop, or is left without somebody who follows what is picked."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Have it end."""
        self._stop.set()

    def _run(self) -> None:
        feed, stop = self.feed, self._stop
        with TickLog.open(self._home.ticks_db) as log, Instruments.open(self._home) as instruments:
            wanted = Wanted(instruments, feed.name)
            provider = self._provider(log, wanted)
            if provider is None:
                return
            intake = Intake(
                log,
                provider,
                duplicate_window_ms=self._first.duplicate_window_ms,
                future_tolerance_ms=self._first.future_tolerance_ms,
                prefix=feed.prefix,
                made_ms=feed.made_ms,
            )
            with wanted.followed(provider, stop):
                while not stop.is_set():
                    try:
                        for _ in intake.run(stop):
                            self._heard(wanted)
                    except ProviderError as error:
                        self._problem(log, str(error), error.phase)
                        wanted.fetch_soon()
                    else:
                        if not stop.is_set():
                            self._tell(Phase.IDLE, "It has ended; all it had was read.")
                            stop.wait()  # saying so is better than being started again for ever

    def _provider(self, log: TickLog, wanted: Wanted) -> Provider | None:
        """Return the provider as soon as it can be made; None when told to stop before."""
        while not self._stop.is_set():
            try:
                return provider_of(self.feed, self._first, self._home, wanted.names, self._report)
            except ControlError as error:
                self._problem(log, str(error), Phase.BROKEN)
        return None

    def _report(self, state: ConnectionState) -> None:
        """Take a provider's word on its connection; those of which ingest tells only say what it does not see."""
        self._said = state.phase
        if self.feed.kind in TOLD_BY_INGEST:
            self._state = replace(self._state, gaps=state.gaps, gap=state.gap)
            self._tell(state.phase, state.sentence, retry_ms=state.retry_ms)
        else:
            self._state = state

    def _heard(self, wanted: Wanted) -> None:
        self._failures = 0
        if self.feed.kind in TOLD_BY_INGEST:
            idle = wanted.names() == frozenset()
            arrive = f"Prices arrive. {self._state.gap}".rstrip()
            phase, sentence = (Phase.IDLE, _NOTHING_PICKED) if idle else (Phase.RECEIVING, arrive)
            self._connects += self._state.phase not in (Phase.RECEIVING, Phase.IDLE)
            self._tell(phase, sentence, heard_ms=now_ms())

    def _problem(self, log: TickLog, sentence: str, phase: Phase) -> None:
        """Say what is wrong, and wait; longer each time."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        logger.warning("%s: %s Trying again in %.0f s.", self.feed.name, sentence, pause_s)
        log.report_problem(self.feed.name, sentence)
        told = self._said if self._said in NEED_A_PERSON else phase
        self._tell(told, sentence, retry_ms=now_ms() + round(1_000 * pause_s))
        self._stop.wait(pause_s)
        self._said = None

    def _tell(self, phase: Phase, sentence: str, *, retry_ms: int | None = None, heard_ms: int | None = None) -> None:
        before = self._state
        self._state = replace(
            before,
            phase=phase,
            sentence=sentence,
            since_ms=before.since_ms if phase is before.phase else now_ms(),
            retry_ms=retry_ms,
            heard_ms=heard_ms or before.heard_ms,
            connects=self._connects if self.feed.kind in TOLD_BY_INGEST else before.connects,
        )


_NOTHING_PICKED = "Nothing of it is picked; pick instruments on the Instruments page."
