"""The provider interface: an external source read as batches of raw rows that ingest checks and appends."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from barmill.ingest.connection.state import Phase


class ProviderError(Exception):
    """The source cannot be read now; ingest shows the message and tries again later.

    phase: the phase of the connection after this error; some phases need action by an admin.
    """

    phase = Phase.WAITING


@dataclass(frozen=True)
class Batch:
    """The rows that a provider delivers at once.

    ticks: raw rows with any of time, instrument, price_open, price_close (or price), volume, id, line; typed or text.
    cursor: where to continue after this batch; ingest stores it in the same transaction as the ticks.
    complete_to_ms: the provider has delivered everything up to this time of the source, or None if unknown.
    broken: rows rejected before the checks (line, reason, detail, and any known columns), to be stored as rejects.
    origin: the part of the provider that the rows come from, such as a file; None for the provider as a whole.
    share: the share of the whole source delivered up to this batch, 0 to 1, or None if the source has no end.
    rising_ids: ids are numbers that rise per instrument, so they order ticks of the same time.
    """

    ticks: pl.DataFrame
    cursor: str
    complete_to_ms: int | None = None
    broken: pl.DataFrame = field(default_factory=pl.DataFrame)
    origin: str | None = None
    share: float | None = None
    rising_ids: bool = False


@dataclass(frozen=True)
class CatalogueEntry:
    """One instrument in a provider's catalogue; None where the provider does not say."""

    instrument: str
    description: str = ""
    price_decimals: int | None = None
    has_volume: bool | None = None


class Provider(Protocol):
    """A source of prices.

    name: identifies the source in the tick log. live: the source's clock is the wall clock, so ticks with a time too
    far ahead of it are rejected.
    """

    @property
    def name(self) -> str:
        """Return the name of the source in the tick log."""
        ...

    @property
    def live(self) -> bool:
        """Return whether the source's clock is the wall clock."""
        ...

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield batches from `cursor` on (None: from the start) until the source ends or `stop` is set.

        Raise ProviderError if the source cannot be read now.
        """
        ...

    def catalogue(self) -> Sequence[CatalogueEntry] | None:
        """Return the instruments on offer, or None if the source always delivers everything.

        Raise ProviderError on failure. May be called from another thread while batches are read.
        """
        ...


@dataclass(frozen=True)
class ReadyMade:
    """Predefined settings of a feed.

    settings: the settings of a feed of this kind, as JSON. needs_key: the provider requires a key. note: what to know
    before adding it.
    """

    label: str
    kind: str
    settings: str
    needs_key: bool = False
    note: str = ""
