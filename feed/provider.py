"""A provider: the outside world turned into batches of raw rows that ingest can check and append."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from feed.connection.state import Phase


class ProviderError(Exception):
    """The source cannot be read now; ingest shows the sentence and tries again after a while.

    phase: how the connection stands with it; one that needs a person says so.
    """

    phase = Phase.WAITING


@dataclass(frozen=True)
class Batch:
    """What a provider delivers at once.

    ticks: raw rows with any of time, instrument, price_open, price_close (or price), volume, id, line; typed or text.
    cursor: where to go on after this batch; ingest stores it in the same transaction as the ticks.
    complete_to_ms: the provider has delivered everything it had up to this time of the source, or None if unknown.
    broken: rows that could not even be split into columns (line, reason and detail), to be kept as rejects.
    origin: what inside the provider they come from, such as a file; None for the provider itself.
    share: how much of the whole source is delivered with this batch, 0 to 1, or None where there is no end.
    rising_ids: ids are numbers that rise per instrument, so they order ticks of one time.
    """

    ticks: pl.DataFrame
    cursor: str
    complete_to_ms: int | None = None
    broken: pl.DataFrame = field(default_factory=pl.DataFrame)
    origin: str | None = None
    share: float | None = None
    rising_ids: bool = False


@dataclass(frozen=True)
class Listed:
    """One instrument as a provider's catalogue describes it; None where the provider does not say."""

    instrument: str
    description: str = ""
    price_decimals: int | None = None
    has_volume: bool | None = None


class Provider(Protocol):
    """A source of prices.

    name tells sources apart in the tick log. live says that the source's clock is the wall clock, so time stamps
    ahead of it are rejects.
    """

    @property
    def name(self) -> str:
        """Name of the source in the tick log."""
        ...

    @property
    def live(self) -> bool:
        """Whether the source's clock is the wall clock."""
        ...

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield batches from where `cursor` says (None: from the start) until the source ends or `stop` is set."""
        ...

    def catalogue(self) -> Sequence[Listed] | None:
        """Return what the source offers, or None if what it delivers is all there is; raise ProviderError if it fails.

        May be called while batches are read, from another thread.
        """
        ...
