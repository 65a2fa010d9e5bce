"""Feeds as they are shown: what each is, how its connection stands, and what has come of it."""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bar.clock import now_ms
from bar.sqlite_file import StoreMissingError
from control.feeds.store import feeds_of
from control.home import Home
from feed.connection.state import ConnectionState, Phase
from feed.feeds import Feed
from feed.standing import read_standings
from feed.ticklog import Source, TickLog

# Ingest says every second how all stand; what is older than this says nothing of now.
SILENT_AFTER_MS = 5_000
RATE_OVER_MS = 5_000
# Each feed writes at most some ten blocks a second.
_BLOCKS_LOOKED_AT = 2_000
NOT_RUNNING = "not running"


@dataclass(frozen=True)
class FeedView:
    """One feed at one moment.

    state: None where nobody knows: it is disabled, or ingest does not run. source: None where it never delivered.
    """

    feed: Feed
    state: ConnectionState | None
    source: Source | None
    ticks_per_s: float

    @property
    def phase(self) -> str:
        """Return what it is doing, in a word or two."""
        if not self.feed.enabled:
            return "disabled"
        return self.state.phase.value if self.state else NOT_RUNNING

    @property
    def sentence(self) -> str:
        """Say what is so, and what to do where something is to be done."""
        if not self.feed.enabled:
            return "Nobody reads it until it is enabled."
        if self.state is None:
            return "The feed process does not run, or does not know of it yet; ./barmill status says more."
        return self.state.sentence

    @property
    def needs_somebody(self) -> bool:
        """Tell whether it does not deliver and cannot mend that by itself."""
        return self.state is not None and self.state.phase in (Phase.REFUSED, Phase.BROKEN, Phase.RESTING)

    def as_json(self) -> dict[str, object]:
        """Return it for a program to read; the settings not included."""
        state = asdict(self.state) if self.state else {}
        state.pop("phase", None)
        state.pop("sentence", None)
        return {
            "name": self.feed.name,
            "kind": self.feed.kind,
            "enabled": self.feed.enabled,
            "key": self.feed.key,
            "phase": self.phase,
            "sentence": self.sentence,
            "ticks_per_s": self.ticks_per_s,
            "ticks": self.source.accepted if self.source else 0,
            "refused": self.source.rejected if self.source else 0,
            **state,
        }


def feed_views(home: Home) -> list[FeedView]:
    """Look at every feed of a home; raise SettingsError where feed.json is broken."""
    at_ms = now_ms()
    states = current_states(home, at_ms)
    sources, rates = _delivered(home, at_ms)
    return [
        FeedView(
            feed,
            states.get(feed.name) if feed.enabled else None,
            sources.get(feed.name),
            rates.get(feed.name, 0.0),
        )
        for feed in feeds_of(home)
    ]


def current_states(home: Home, at_ms: int) -> Mapping[str, ConnectionState]:
    """Return how the connection of each feed that runs stands, as far as that is known at this moment."""
    standings = read_standings(home)
    return standings.states if abs(at_ms - standings.at_ms) < SILENT_AFTER_MS else {}


def _delivered(home: Home, at_ms: int) -> tuple[Mapping[str, Source], Mapping[str, float]]:
    """Return sources, and ticks a second over the last seconds, by feed."""
    newest = "SELECT source, rows, received_ms FROM blocks ORDER BY first_sequence DESC LIMIT ?"
    query = f"SELECT source, sum(rows) FROM ({newest}) WHERE received_ms > ? GROUP BY source"
    try:
        with TickLog.read_only(home.ticks_db) as log:
            sources = {source.name: source for source in log.sources()}
            rows = log.db.conn.execute(query, (_BLOCKS_LOOKED_AT, at_ms - RATE_OVER_MS)).fetchall()
    except (StoreMissingError, sqlite3.OperationalError):  # not there yet, or its tables are not
        return {}, {}
    # What bears another name is something inside the one source without a prefix: a file, or a topic.
    first = next((name for name, source in sources.items() if not source.prefix and not source.ended), "")
    rates = dict[str, float]()
    for name, count in rows:
        owner = name if name in sources else first
        rates[owner] = rates.get(owner, 0.0) + count * 1_000 / RATE_OVER_MS
    return sources, rates
