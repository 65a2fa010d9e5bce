"""All feeds of a home side by side: started, changed and ended as people say, while the others go on."""

import logging
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bar.clock import now_ms
from control.feeds.store import Feeds
from control.home import Home
from control.waiting import wait_until
from feed.connection.state import ConnectionState, Phase
from feed.feeds import Feed
from feed.running import RunningFeed
from feed.settings import FeedSettings
from feed.standing import Standings, write_standings
from feed.ticklog import TickLog

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
# One that ended by an error nobody foresaw is taken up again after so long.
REVIVE_AFTER_S = 10.0
_NOTE_EVERY_S = 1.0
_END_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class _Death:
    feed: Feed
    at_s: float
    state: ConnectionState


class Feeding:
    """Keeps a thread for every feed that is enabled, and lets others know how each stands."""

    def __init__(self, home: Home, settings: FeedSettings, feeds: Feeds, log: TickLog) -> None:
        self._home, self._settings, self._feeds, self._log = home, settings, feeds, log
        self._version: int | None = None
        self._wished: Mapping[str, Feed] = {}
        self._running: dict[str, RunningFeed] = {}
        self._died: dict[str, _Death] = {}
        self._note_at_s = 0.0

    def step(self) -> None:
        """Look once: follow what was changed, take up what died, and note how all stand."""
        try:
            self._follow()
            for name, running in list(self._running.items()):
                if running.ended:
                    self._bury(name, running)
        except sqlite3.Error as error:
            logger.warning("What is to be done with the feeds cannot be told now (%s); they go on as they are.", error)
        for name, feed in self._wished.items():
            if name not in self._running and self._may_start(feed):
                self._running[name] = RunningFeed(feed, self._settings, self._home)
        if time.monotonic() >= self._note_at_s:
            self._note()

    def stop(self) -> None:
        """End all feeds, waiting for each a little; what hangs is left to end with the process."""
        for running in self._running.values():
            running.stop()
        wait_until(lambda: all(one.ended for one in self._running.values()), _END_TIMEOUT_S)

    def _follow(self) -> None:
        """Read what is wished, if anything was written since the last look."""
        version = self._feeds.db.conn.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return
        self._wished = {feed.name: feed for feed in self._feeds.all() if feed.enabled}
        for name, running in self._running.items():
            if self._wished.get(name) != running.feed:
                running.stop()
        # At once, whatever a connection still waits for: their bars can close.
        self._log.end_other_sources(self._wished)
        self._version = version

    def _bury(self, name: str, running: RunningFeed) -> None:
        """Forget a feed whose thread has ended; one that was not told to has died."""
        del self._running[name]
        if self._wished.get(name) == running.feed:
            at_ms = now_ms()
            logger.error("The feed %s ended by an error of its own; see above.", name)
            state = ConnectionState(Phase.BROKEN, _DIED, at_ms, at_ms + round(1_000 * REVIVE_AFTER_S))
            self._died[name] = _Death(running.feed, time.monotonic(), state)
            self._log.report_problem(name, _DIED)
        else:
            self._log.end_other_sources(self._wished)  # it may have taken its source up in its last moment

    def _may_start(self, feed: Feed) -> bool:
        death = self._died.get(feed.name)
        return death is None or death.feed != feed or time.monotonic() - death.at_s >= REVIVE_AFTER_S

    def _note(self) -> None:
        states = {name: self._state(name) for name in self._wished}
        self._note_at_s = time.monotonic() + _NOTE_EVERY_S
        try:
            write_standings(self._home, Standings(now_ms(), states))
        except OSError as error:  # a full disk, say: the prices matter more than this
            logger.warning("How the feeds stand cannot be noted: %s", error)

    def _state(self, name: str) -> ConnectionState:
        running = self._running.get(name)
        if running is None:
            return self._died[name].state
        if running.stopping:
            return ConnectionState(Phase.WAITING, "It was changed; its old connection is about to end.", now_ms())
        return running.state


_DIED = "It ended by an error of its own; log/ingest.log says more. It is taken up again by itself."
