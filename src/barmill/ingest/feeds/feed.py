"""Feeds: named sources of prices, and the stored feeds of a home. For their settings, see settings.py.

The first feed is the one in feed.json: its kind is also its name, and its settings are in that file. All other feeds
are added on the Feeds page or by `barmill instrument feed add`, and are stored in the control database.

    feeds   name, kind, settings (JSON), key, enabled, made_ms, changed_ms

The first feed has a row only after a user has disabled or enabled it.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Self

from barmill.audit.accounts import account_migrations
from barmill.audit.trail import audit_migrations
from barmill.ingest.instruments.names import FIRST_FEED_NAMES, prefix_of
from barmill.ingest.instruments.store import instrument_migrations
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, Store, if_ready, open_control_db, read_control_db
from barmill.secrets.records import keystore_migrations


class FeedError(ControlError):
    """A feed with these values is not possible; the message says what to write instead."""


# The kinds that can be added, with a short description of each.
KINDS = {
    "market": "another demo market on this machine",
    "kafka": "a Kafka topic of other programs",
    "rest": "an HTTP API that is polled for prices",
    "websocket": "a provider that streams prices over WebSocket",
    "ccxt": "public trades of an exchange, through the library ccxt",
}
# The names in READY_MADE of changes.py, for commands that do not need the settings.
READY_MADE_NAMES = (
    "demo-market",
    "kafka-topic",
    "finnhub-quotes",
    "twelve-data-minutes",
    "alpaca-trades",
    "alpaca-latest",
    "oanda-prices",
    "massive-trades",
    "massive-last-trade",
    "binance",
    "coinbase",
    "kraken",
    "kraken-futures",
    "finnhub",
    "ccxt-binance",
    "ccxt-kraken",
    "ccxt-coinbase",
    "ccxt-bitstamp",
    "ccxt-okx",
)
# Ingest sets the connection state of feeds of these kinds; the providers of all other kinds report it.
STATE_SET_BY_INGEST = FIRST_FEED_NAMES


@dataclass(frozen=True)
class Feed:
    """One feed.

    settings: JSON for `settings_of`; '' for the first feed. key: the name of its key in the key store, or None.
    made_ms: when it was added, 0 for the first feed; a later feed with the same name starts from the beginning.
    changed_ms: when it was added or last changed, 0 if the first feed was never changed.
    """

    name: str
    kind: str
    settings: str = ""
    key: str | None = None
    enabled: bool = True
    made_ms: int = 0
    changed_ms: int = 0

    @property
    def is_first(self) -> bool:
        """Return whether this is the feed in feed.json."""
        return self.name in FIRST_FEED_NAMES

    @property
    def prefix(self) -> str:
        """Return the prefix of its instruments' names; '' for the first feed."""
        return prefix_of(self.name)


_COLUMNS = "name, kind, settings, key, enabled, made_ms, changed_ms"
# Each file stores the names of its migrations, so the functions are never renamed.
_migrations = Migrations("feeds")


@_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    db.table("feeds").create(
        {"name": str, "kind": str, "settings": str, "key": str, "enabled": int, "made_ms": int, "changed_ms": int},
        pk="name",
        not_null={"kind", "settings", "enabled", "made_ms", "changed_ms"},
        strict=True,
    )


class Feeds(Store):
    """The feeds table in the control database, and the name of the first feed. Use from one thread at a time."""

    def __init__(self, db: Database, first: str) -> None:
        super().__init__(db)
        self.first = first

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing and create missing tables; raise SettingsError if feed.json is invalid."""
        migrations = (audit_migrations, account_migrations, keystore_migrations, instrument_migrations, _migrations)
        return cls(open_control_db(home, *migrations), FeedSettings.read(home).provider)

    def all(self) -> list[Feed]:
        """Return all feeds: the first feed, then the others by name."""
        return with_first(self.first, _rows(self.db))

    def find(self, name: str) -> Feed | None:
        """Return the feed with this name, or None."""
        return next((feed for feed in self.all() if feed.name == name), None)

    def write(self, feed: Feed) -> None:
        """Store a feed in the caller's transaction; replace any feed with the same name."""
        values = (feed.name, feed.kind, feed.settings, feed.key, feed.enabled, feed.made_ms, feed.changed_ms)
        self.db.conn.execute(f"INSERT OR REPLACE INTO feeds ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def delete(self, name: str) -> None:
        """Delete a feed in the caller's transaction."""
        self.db.conn.execute("DELETE FROM feeds WHERE name = ?", (name,))


def feeds_of(home: Home) -> list[Feed]:
    """Return the feeds of a home like `Feeds.all`, even if the table does not exist yet.

    Raise SettingsError if feed.json is invalid.
    """
    rows: list[Feed] = []
    with if_ready():
        db = read_control_db(home)
        with closing(db.conn):
            rows = _rows(db)
    return with_first(FeedSettings.read(home).provider, rows)


def with_first(first: str, rows: list[Feed]) -> list[Feed]:
    """Return the first feed and the added feeds; a feed that feed.json named earlier is dropped."""
    stored = next((row for row in rows if row.name == first), Feed(first, first))
    return [stored, *(row for row in rows if row.name not in FIRST_FEED_NAMES)]


def _rows(db: Database) -> list[Feed]:
    rows = db.conn.execute(f"SELECT {_COLUMNS} FROM feeds ORDER BY name")
    return [Feed(n, kind, settings, key, bool(enabled), *times) for n, kind, settings, key, enabled, *times in rows]
