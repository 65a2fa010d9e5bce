"""What the instruments of a feed are called: the feed's name, a colon, and the provider's own name. Pure.

So the same pair of two exchanges never mixes. The feed that feed.json names goes without: its instruments had their
names before there were others.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from feed.provider import Batch, Listed, Provider

# What feed.json may name; such a feed is called like its kind.
FIRST_NAMES = frozenset({"market", "replay", "kafka"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")


def can_be_a_name(text: str) -> bool:
    """Tell whether a feed could be called so."""
    return _NAME.fullmatch(text) is not None


def prefix_of(feed: str) -> str:
    """Return what the names of a feed's instruments begin with."""
    return "" if feed in FIRST_NAMES else f"{feed}:"


def without_prefix(names: frozenset[str] | None, prefix: str) -> frozenset[str] | None:
    """Return what the provider calls these instruments."""
    return names if names is None or not prefix else frozenset(name.removeprefix(prefix) for name in names)


@dataclass(frozen=True)
class Named:
    """A provider as the feed of this name: its instruments bear the prefix, and all it delivers is filed under it.

    Not for the feed that feed.json names.
    """

    name: str
    provider: Provider

    @property
    def live(self) -> bool:
        """Whether the source's clock is the wall clock."""
        return self.provider.live

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield the provider's batches."""
        for batch in self.provider.batches(cursor, stop):
            yield replace(batch, ticks=self._named(batch.ticks), broken=self._named(batch.broken), origin=None)

    def catalogue(self) -> Sequence[Listed] | None:
        """Return the provider's catalogue."""
        listed = self.provider.catalogue()
        prefix = prefix_of(self.name)
        return None if listed is None else [replace(one, instrument=prefix + one.instrument) for one in listed]

    def _named(self, table: pl.DataFrame) -> pl.DataFrame:
        if "instrument" not in table.columns:
            return table
        name = pl.col("instrument").cast(pl.String).str.strip_chars()
        # A row without a name stays without one, and is refused for it.
        return table.with_columns(instrument=pl.when(name != "").then(prefix_of(self.name) + name).otherwise(name))
