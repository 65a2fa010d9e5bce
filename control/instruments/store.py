"""The catalogue of each provider as last fetched, and which of its instruments are wanted.

    instrument_catalogues   provider, fetched_ms, tried_ms, problem, requested_ms, trace_id, everything
    instruments             provider, instrument, description, price_decimals, has_volume, fetched_ms
    instrument_picks        provider, instrument, enabled, changed_ms

The feed writes catalogues, since it alone holds the key; people write picks (see picks.py) and requests. An instrument
that nobody has picked or dropped follows the default of its provider, also when it appears in the catalogue later.
A provider is called like the feed that reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bar.clock import now_ms
from bar.sqlite import Database, Migrations
from control.actions import record_outcome
from control.audit import audit_migrations
from control.database import immediate, open_control_db, read_control_db
from control.home import Home
from control.people.accounts import account_migrations
from control.people.roles import FEED
from feed.provider import Listed

# Everything these offer is wanted until somebody says otherwise.
ENABLED_BY_DEFAULT = frozenset({"market"})
# These have no catalogue and nothing to pick: what arrives is what there is.
DELIVERS_WHAT_IT_HAS = {"replay": "its files hold", "kafka": "its topic holds"}
# Their time is that of what was recorded, not of the clock.
RECORDED = frozenset({"replay"})

REFRESH = "instrument.refresh"
instrument_migrations = Migrations("instruments")


@instrument_migrations()
def create(db: Database) -> None:
    """Make the first version of the tables."""
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
    """Tell a provider that offers a list from one that delivers what its settings name."""
    db.conn.execute("ALTER TABLE instrument_catalogues ADD COLUMN everything INTEGER NOT NULL DEFAULT 0")


@dataclass(frozen=True)
class Instrument:
    """One instrument of a provider's catalogue, and whether it is wanted.

    price_decimals, has_volume: None where the provider does not say.
    """

    provider: str
    instrument: str
    description: str
    price_decimals: int | None
    has_volume: bool | None
    enabled: bool


@dataclass(frozen=True)
class CatalogueState:
    """How a catalogue is: when it was fetched, why the last try failed, if it did, and what is still asked for.

    requested_ms, trace_id: when and under which trace somebody asked for a new one that the feed has yet to fetch.
    everything: there is none, and all that the settings name is wanted.
    """

    fetched_ms: int | None = None
    tried_ms: int | None = None
    problem: str = ""
    requested_ms: int | None = None
    trace_id: str | None = None
    everything: bool = False


def what_it_has(provider: str, state: CatalogueState) -> str | None:
    """Say what a provider delivers that offers nothing to pick, such as "its files hold"; None where it does."""
    return "its settings name" if state.everything else DELIVERS_WHAT_IT_HAS.get(provider)


class Instruments:
    """The tables, in the control database. One thread at a time."""

    def __init__(self, db: Database) -> None:
        self.db = db

    @classmethod
    def open(cls, home: Home) -> Self:
        """Open for writing, making the tables where there are none."""
        return cls(open_control_db(home, audit_migrations, account_migrations, instrument_migrations))

    @classmethod
    def read_only(cls, home: Home) -> Self:
        """Open for reading; raise StoreMissingError where there is no control database."""
        return cls(read_control_db(home))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self.db.conn.close()

    def catalogue(self, provider: str) -> list[Instrument]:
        """Return every instrument of the catalogue, by name."""
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
        """Return how many instruments the catalogue has."""
        query = "SELECT count(*) FROM instruments WHERE provider = ?"
        return int(self.db.conn.execute(query, (provider,)).fetchone()[0])

    def state(self, provider: str) -> CatalogueState:
        """Return how the catalogue is."""
        row = self.db.conn.execute(
            "SELECT fetched_ms, tried_ms, problem, requested_ms, trace_id, everything FROM instrument_catalogues"
            " WHERE provider = ?",
            (provider,),
        ).fetchone()
        if row is None:
            return CatalogueState()
        fetched_ms, tried_ms, problem, requested_ms, trace_id, everything = row
        return CatalogueState(fetched_ms, tried_ms, problem, requested_ms, trace_id, bool(everything))

    def wanted(self, provider: str) -> frozenset[str] | None:
        """Return the names to ask the provider for; None for everything it has."""
        if what_it_has(provider, self.state(provider)) is not None:
            return None
        catalogue = self.catalogue(provider)
        names = frozenset(one.instrument for one in catalogue if one.enabled)
        # Without a single exception the provider's own idea of everything is newer than our catalogue.
        return None if provider in ENABLED_BY_DEFAULT and len(names) == len(catalogue) else names

    def keep_catalogue(self, provider: str, listed: Sequence[Listed] | None, answers: str | None) -> None:
        """Replace the catalogue by what was just fetched; `answers`: the trace of the request that asked for it.

        listed: None where the provider has no list.
        """
        at_ms, everything = now_ms(), listed is None
        listed = listed or ()
        with immediate(self.db):
            self.db.conn.execute("DELETE FROM instruments WHERE provider = ?", (provider,))
            self.db.conn.executemany(
                "INSERT OR REPLACE INTO instruments VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (provider, one.instrument, one.description, one.price_decimals, one.has_volume, at_ms)
                    for one in listed
                ),
            )
            self._tried(provider, at_ms, "", answers)
            self.db.conn.execute(
                "UPDATE instrument_catalogues SET fetched_ms = ?, everything = ? WHERE provider = ?",
                (at_ms, everything, provider),
            )
            if answers is not None:
                result = f"instruments in the catalogue: {len(listed):,}"
                record_outcome(self.db, FEED, REFRESH, provider, answers, failed=False, result=result)

    def keep_problem(self, provider: str, problem: str, answers: str | None) -> None:
        """Note why the catalogue could not be fetched; the old one stays."""
        with immediate(self.db):
            self._tried(provider, now_ms(), problem, answers)
            if answers is not None:
                record_outcome(self.db, FEED, REFRESH, provider, answers, failed=True, result=problem)

    def _tried(self, provider: str, now_ms: int, problem: str, answers: str | None) -> None:
        execute = self.db.conn.execute
        execute("INSERT OR IGNORE INTO instrument_catalogues (provider) VALUES (?)", (provider,))
        execute(
            "UPDATE instrument_catalogues SET tried_ms = ?, problem = ? WHERE provider = ?", (now_ms, problem, provider)
        )
        # A request that came in meanwhile is not answered by what was fetched before it.
        execute(
            "UPDATE instrument_catalogues SET requested_ms = NULL, trace_id = NULL WHERE provider = ? AND trace_id = ?",
            (provider, answers),
        )


def forget(db: Database, provider: str) -> None:
    """Forget the catalogue and the picks of a provider that is no more."""
    for table in ("instruments", "instrument_picks", "instrument_catalogues"):
        db.conn.execute(f"DELETE FROM {table} WHERE provider = ?", (provider,))
