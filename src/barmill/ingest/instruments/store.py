"""The last fetched catalogue of each provider, and which of its instruments are enabled.

    instrument_catalogues   provider, fetched_ms, tried_ms, problem, requested_ms, trace_id, everything
    instruments             provider, instrument, description, price_decimals, has_volume, fetched_ms
    instrument_picks        provider, instrument, enabled, changed_ms

The ingest process writes catalogues, because only it has the key; users write picks (see changes.py) and requests. An
instrument without a pick follows the default of its provider, even if it appears in the catalogue later. A provider has
the name of the feed that reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import record_outcome
from barmill.audit.roles import FEED
from barmill.audit.trail import audit_migrations
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, Store, immediate, open_control_db, read_control_db

# All instruments of these providers are enabled unless a user disables them.
ENABLED_BY_DEFAULT = frozenset({"market"})
# These providers have no catalogue and no selection: they deliver everything they have.
WITHOUT_CATALOGUE = {"replay": "its files hold", "kafka": "its topic holds"}
# The tick times of these providers are those of a recording, not of the wall clock.
RECORDED = frozenset({"replay"})

REFRESH = "instrument.refresh"
# Each file stores the names of its migrations, so the functions are never renamed.
instrument_migrations = Migrations("instruments")


@instrument_migrations()
def create(db: Database) -> None:
    """Create the first version of the tables."""
    db.conn.execute(
        "CREATE TABLE instrument_catalogues (provider TEXT PRIMARY KEY, fetched_ms INTEGER, tried_ms INTEGER,"
        " problem TEXT NOT NULL DEFAULT '', requested_ms INTEGER, trace_id TEXT)"
    )
    db.conn.execute(
        "CREATE TABLE instruments (provider TEXT, instrument TEXT, description TEXT NOT NULL, price_decimals INTEGER,"
        " has_volume INTEGER, fetched_ms INTEGER NOT NULL, PRIMARY KEY (provider, instrument)) WITHOUT ROWID"
    )
    db.conn.execute(
        "CREATE TABLE instrument_picks (provider TEXT, instrument TEXT, enabled INTEGER NOT NULL,"
        " changed_ms INTEGER NOT NULL, PRIMARY KEY (provider, instrument)) WITHOUT ROWID"
    )


@instrument_migrations()
def know_who_has_no_list(db: Database) -> None:
    """Add the column that marks providers without a catalogue, which deliver everything in their settings."""
    db.conn.execute("ALTER TABLE instrument_catalogues ADD COLUMN everything INTEGER NOT NULL DEFAULT 0")


@dataclass(frozen=True)
class Instrument:
    """One instrument of a provider's catalogue, and whether it is enabled.

    price_decimals, has_volume: None if the provider does not say.
    """

    provider: str
    instrument: str
    description: str
    price_decimals: int | None
    has_volume: bool | None
    enabled: bool


@dataclass(frozen=True)
class CatalogueState:
    """The state of a catalogue: when it was fetched, why the last attempt failed, and any pending request.

    Times are epoch milliseconds. requested_ms, trace_id: the time and trace of a pending request for a new catalogue.
    everything: the provider has no catalogue, and all instruments in its settings are enabled.
    """

    fetched_ms: int | None = None
    tried_ms: int | None = None
    problem: str = ""
    requested_ms: int | None = None
    trace_id: str | None = None
    everything: bool = False


def delivered_without_selection(provider: str, state: CatalogueState) -> str | None:
    """Return what a provider without a selection delivers, such as "its files hold"; None if it has a selection."""
    return "its settings name" if state.everything else WITHOUT_CATALOGUE.get(provider)


class Instruments(Store):
    """The instrument tables in the control database. Use from one thread at a time."""

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing and create missing tables."""
        return cls(open_control_db(home, audit_migrations, account_migrations, instrument_migrations))

    @classmethod
    def read_only(cls, home: Home) -> Self:
        """Open for reading; raise StoreMissingError if there is no control database."""
        return cls(read_control_db(home))

    def catalogue(self, provider: str) -> list[Instrument]:
        """Return all instruments of the catalogue, sorted by name."""
        rows = self.db.conn.execute(
            "SELECT instrument, description, price_decimals, has_volume, coalesce(enabled, ?)"
            " FROM instruments LEFT JOIN instrument_picks USING (provider, instrument)"
            " WHERE provider = ? ORDER BY instrument",
            (provider in ENABLED_BY_DEFAULT, provider),
        )
        return [
            Instrument(provider, name, description, decimals, None if volume is None else bool(volume), bool(enabled))
            for name, description, decimals, volume, enabled in rows
        ]

    def size(self, provider: str) -> int:
        """Return the number of instruments in the catalogue."""
        query = "SELECT count(*) FROM instruments WHERE provider = ?"
        return int(self.db.conn.execute(query, (provider,)).fetchone()[0])

    def state(self, provider: str) -> CatalogueState:
        """Return the state of the catalogue."""
        row = self.db.conn.execute(
            "SELECT fetched_ms, tried_ms, problem, requested_ms, trace_id, everything FROM instrument_catalogues"
            " WHERE provider = ?",
            (provider,),
        ).fetchone()
        if row is None:
            return CatalogueState()
        fetched_ms, tried_ms, problem, requested_ms, trace_id, everything = row
        return CatalogueState(fetched_ms, tried_ms, problem, requested_ms, trace_id, bool(everything))

    def enabled_names(self, provider: str) -> frozenset[str] | None:
        """Return the names of the enabled instruments, or None for everything the provider has."""
        if delivered_without_selection(provider, self.state(provider)) is not None:
            return None
        catalogue = self.catalogue(provider)
        names = frozenset(instrument.instrument for instrument in catalogue if instrument.enabled)
        # If no instrument is disabled, the provider's current list is newer than the stored catalogue.
        return None if provider in ENABLED_BY_DEFAULT and len(names) == len(catalogue) else names

    def save_catalogue(self, provider: str, listed: Sequence[CatalogueEntry] | None, trace_id: str | None) -> None:
        """Replace the catalogue with the fetched one.

        listed: None if the provider has no catalogue. trace_id: the trace of the request that this fetch fulfils, or
        None.
        """
        at_ms, everything = now_ms(), listed is None
        listed = listed or ()
        with immediate(self.db):
            self.db.conn.execute("DELETE FROM instruments WHERE provider = ?", (provider,))
            self.db.conn.executemany(
                "INSERT OR REPLACE INTO instruments VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (provider, item.instrument, item.description, item.price_decimals, item.has_volume, at_ms)
                    for item in listed
                ),
            )
            self._record_attempt(provider, at_ms, "", trace_id)
            self.db.conn.execute(
                "UPDATE instrument_catalogues SET fetched_ms = ?, everything = ? WHERE provider = ?",
                (at_ms, everything, provider),
            )
            if trace_id is not None:
                result = f"instruments in the catalogue: {len(listed):,}"
                record_outcome(self.db, FEED, REFRESH, provider, trace_id, failed=False, result=result)

    def save_problem(self, provider: str, problem: str, trace_id: str | None) -> None:
        """Record why the catalogue could not be fetched; the old catalogue remains."""
        with immediate(self.db):
            self._record_attempt(provider, now_ms(), problem, trace_id)
            if trace_id is not None:
                record_outcome(self.db, FEED, REFRESH, provider, trace_id, failed=True, result=problem)

    def _record_attempt(self, provider: str, now_ms: int, problem: str, trace_id: str | None) -> None:
        execute = self.db.conn.execute
        execute("INSERT OR IGNORE INTO instrument_catalogues (provider) VALUES (?)", (provider,))
        execute(
            "UPDATE instrument_catalogues SET tried_ms = ?, problem = ? WHERE provider = ?", (now_ms, problem, provider)
        )
        # Keep a request that arrived during the fetch; this result does not fulfil it.
        execute(
            "UPDATE instrument_catalogues SET requested_ms = NULL, trace_id = NULL WHERE provider = ? AND trace_id = ?",
            (provider, trace_id),
        )


def delete_catalogue(db: Database, provider: str) -> None:
    """Delete the catalogue and the picks of a deleted provider in the caller's transaction."""
    for table in ("instruments", "instrument_picks", "instrument_catalogues"):
        db.conn.execute(f"DELETE FROM {table} WHERE provider = ?", (provider,))
