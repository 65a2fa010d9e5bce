"""The feeds of a home: what people have made, beside the one that feed.json names.

    feeds   name, kind, settings (JSON), key, enabled, made_ms, changed_ms

The first feed has a row only once somebody has disabled it or enabled it again.
"""

import sqlite3
from types import TracebackType
from typing import Self

from bar.sqlite import Database, Migrations
from bar.sqlite_file import StoreMissingError
from control.audit import audit_migrations
from control.database import open_control_db, read_control_db
from control.home import Home
from control.instruments.store import instrument_migrations
from control.keys.records import keystore_migrations
from control.people.accounts import account_migrations
from feed.feeds import Feed
from feed.names import FIRST_NAMES
from feed.settings import FeedSettings

_COLUMNS = "name, kind, settings, key, enabled, made_ms, changed_ms"
_migrations = Migrations("feeds")


@_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
    db.table("feeds").create(
        {"name": str, "kind": str, "settings": str, "key": str, "enabled": int, "made_ms": int, "changed_ms": int},
        pk="name",
        not_null={"kind", "settings", "enabled", "made_ms", "changed_ms"},
        strict=True,
    )


class Feeds:
    """The table, in the control database, and the name of the first feed. One thread at a time."""

    def __init__(self, db: Database, first: str) -> None:
        self.db, self.first = db, first

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing, making the tables where there are none; raise SettingsError where feed.json is broken."""
        rooms = (audit_migrations, account_migrations, keystore_migrations, instrument_migrations, _migrations)
        return cls(open_control_db(home, *rooms), FeedSettings.read(home).provider)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self.db.conn.close()

    def all(self) -> list[Feed]:
        """Return every feed, the first one first and the others by name."""
        return with_first(self.first, _rows(self.db))

    def find(self, name: str) -> Feed | None:
        """Return the feed of this name."""
        return next((one for one in self.all() if one.name == name), None)

    def write(self, feed: Feed) -> None:
        """Store a feed, instead of the one that had its name."""
        values = (feed.name, feed.kind, feed.settings, feed.key, feed.enabled, feed.made_ms, feed.changed_ms)
        self.db.conn.execute(f"INSERT OR REPLACE INTO feeds ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def drop(self, name: str) -> None:
        """Forget a feed."""
        self.db.conn.execute("DELETE FROM feeds WHERE name = ?", (name,))


def feeds_of(home: Home) -> list[Feed]:
    """Return the feeds of a home as `Feeds.all`, also where nobody has made the table yet."""
    try:
        db = read_control_db(home)
    except StoreMissingError:
        return with_first(FeedSettings.read(home).provider, [])
    try:
        rows = _rows(db)
    except sqlite3.OperationalError:  # nothing has made the table
        rows = []
    finally:
        db.conn.close()
    return with_first(FeedSettings.read(home).provider, rows)


def with_first(first: str, rows: list[Feed]) -> list[Feed]:
    """Put the first feed before those that people have made; what feed.json named before is no feed any more."""
    stored = next((one for one in rows if one.name == first), Feed(first, first))
    return [stored, *(one for one in rows if one.name not in FIRST_NAMES)]


def _rows(db: Database) -> list[Feed]:
    found = db.conn.execute(f"SELECT {_COLUMNS} FROM feeds ORDER BY name")
    return [Feed(n, kind, settings, key, bool(enabled), *times) for n, kind, settings, key, enabled, *times in found]
