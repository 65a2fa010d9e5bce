"""Feeds for pages and commands: each feed, the state of its connection, and what it has delivered."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from barmill.ingest.connection.state import ConnectionState, Phase, read_feed_states
from barmill.ingest.feeds.feed import Feed, feeds_of
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.tick_log import Source, TickLog

# Ingest writes the states every second; older states say nothing about the present.
SILENT_AFTER_MS = 5_000
RATE_OVER_MS = 5_000
# Each feed writes about ten blocks per second at most.
_MAX_BLOCKS = 2_000
NOT_RUNNING = "not running"


@dataclass(frozen=True)
class FeedView:
    """One feed at one moment.

    state: None if unknown, because the feed is disabled, or ingest does not run or has not started it yet. source: None
    if the feed never ran.
    ticks_per_s: over the last 5 seconds.
    """

    feed: Feed
    state: ConnectionState | None
    source: Source | None
    ticks_per_s: float

    @property
    def phase(self) -> str:
        """Return the current activity in one or two words."""
        if not self.feed.enabled:
            return "disabled"
        return self.state.phase.value if self.state else NOT_RUNNING

    @property
    def sentence(self) -> str:
        """Return the current situation, and any action needed."""
        if not self.feed.enabled:
            return "The feed is disabled; enable it to read it."
        if self.state is None:
            return "The ingest process is not running, or has not started this feed yet; see ./barmill status."
        return self.state.sentence

    @property
    def needs_action(self) -> bool:
        """Return whether the feed delivers nothing and may need action: it is refused, broken or resting."""
        return self.state is not None and self.state.phase in (Phase.REFUSED, Phase.BROKEN, Phase.RESTING)

    def as_json(self) -> dict[str, object]:
        """Return the view as JSON values for programs, without the settings."""
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
            "reused_ids": self.source.reused_ids if self.source else 0,
            **state,
        }


def feed_views(home: Home) -> list[FeedView]:
    """Return the views of all feeds of a home; raise SettingsError if feed.json is invalid."""
    at_ms = now_ms()
    states = current_states(home, at_ms)
    sources, rates = _sources_and_rates(home, at_ms)
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
    """Return the connection states of the enabled feeds by name; empty if the file is older than SILENT_AFTER_MS."""
    feed_states = read_feed_states(home)
    return feed_states.states if abs(at_ms - feed_states.at_ms) < SILENT_AFTER_MS else {}


def _sources_and_rates(home: Home, at_ms: int) -> tuple[Mapping[str, Source], Mapping[str, float]]:
    """Return sources, and ticks per second over the last RATE_OVER_MS, by feed."""
    newest = "SELECT source, rows, received_ms FROM blocks ORDER BY first_sequence DESC LIMIT ?"
    query = f"SELECT source, sum(rows) FROM ({newest}) WHERE received_ms > ? GROUP BY source"
    sources, rows = dict[str, Source](), []
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        sources = {source.name: source for source in log.sources()}
        rows = log.db.conn.execute(query, (_MAX_BLOCKS, at_ms - RATE_OVER_MS)).fetchall()
    # A name that is not a source is a file or a topic of the source without a prefix.
    first = next((name for name, source in sources.items() if not source.prefix and not source.ended), "")
    rates = dict[str, float]()
    for name, count in rows:
        owner = name if name in sources else first
        rates[owner] = rates.get(owner, 0.0) + count * 1_000 / RATE_OVER_MS
    return sources, rates
