"""Instruments as they are shown: what the catalogue says of each, and when and how often it last moved."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from bar.clock import now_ms
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from control.feeds.store import feeds_of
from control.home import Home
from control.instruments.store import RECORDED, CatalogueState, Instrument, Instruments, what_it_has
from feed.names import prefix_of

_RATE_OVER_MS = 60_000
# A quiet instrument is stale when it has been silent for so many of its own usual gaps, and for a minute at least.
_STALE_AFTER_GAPS = 10
_STALE_AFTER_MS = 60_000


@dataclass(frozen=True)
class Listing:
    """One line of the list.

    last_tick_ms, last_price: of its newest bar, None without bars. ticks_per_s: over the last minute, or over the
    shortest bars there are where those are longer. stale: it is enabled and has been silent for far longer than usual.
    """

    provider: str
    instrument: str
    description: str
    enabled: bool
    last_tick_ms: int | None = None
    last_price: float | None = None
    ticks_per_s: float = 0.0
    stale: bool = False


T = TypeVar("T", Listing, Instrument)


def look(home: Home, provider: str) -> list[Listing]:
    """Return every instrument of the provider, by name; of one without a catalogue, every one that has bars."""
    catalogue, state = catalogue_of(home, provider)
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            if what_it_has(provider, state) is not None:
                catalogue = [
                    Instrument(provider, name, "", None, None, True) for name in _its_own(home, provider, reader)
                ]
            return listing(provider, catalogue, reader, now_ms())
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return [_silent(one) for one in catalogue]


def catalogue_of(home: Home, provider: str) -> tuple[list[Instrument], CatalogueState]:
    """Return the provider's catalogue and how it is; one that was never fetched is empty."""
    try:
        with Instruments.read_only(home) as instruments:
            return instruments.catalogue(provider), instruments.state(provider)
    except (StoreMissingError, sqlite3.OperationalError):
        return [], CatalogueState()


def catalogue_size(home: Home, provider: str) -> int:
    """Return how many instruments the provider's catalogue has."""
    try:
        with Instruments.read_only(home) as instruments:
            return instruments.size(provider)
    except (StoreMissingError, sqlite3.OperationalError):
        return 0


def listing(provider: str, catalogue: Sequence[Instrument], reader: BarReader, now_ms: int) -> list[Listing]:
    """Join a catalogue with what the bars say of its instruments at `now_ms`."""
    with_bars = reader.instruments()
    if provider in RECORDED:
        # The time of a recording is that of its newest tick.
        now_ms = max((one.newest_tick_ms or 0 for one in reader.progress()), default=0) or now_ms
    if not with_bars:
        return [_silent(one) for one in catalogue]
    shortest = reader.made_first(with_bars[0])[0]
    from_ms = shortest.start_ms(now_ms - _RATE_OVER_MS)
    activity = reader.activity([one.instrument for one in catalogue], shortest.text, from_ms)
    return [
        Listing(
            provider=one.provider,
            instrument=one.instrument,
            description=one.description,
            enabled=one.enabled,
            last_tick_ms=last_tick_ms,
            last_price=last_price,
            ticks_per_s=ticks * 1_000 / (now_ms - from_ms),
            stale=one.enabled and last_tick_ms is not None and now_ms - last_tick_ms > patience_ms(usual_gap_ms),
        )
        for one, (_, last_tick_ms, last_price, ticks, usual_gap_ms) in zip(catalogue, activity.iter_rows(), strict=True)
    ]


def matching(found: Iterable[T], text: str = "", *, enabled: bool | None = None) -> list[T]:
    """Return those whose name or description has every word of `text`, and which are enabled, or not, as asked."""
    words = text.casefold().split()
    return [
        one
        for one in found
        if (enabled is None or one.enabled == enabled)
        and all(word in f"{one.instrument} {one.description}".casefold() for word in words)
    ]


def _its_own(home: Home, provider: str, reader: BarReader) -> list[str]:
    """Return the instruments with bars that bear the name of this feed, or for the first one, of none."""
    own = prefix_of(provider)
    others = tuple(prefix_of(one.name) for one in feeds_of(home) if not one.first)
    return [name for name in reader.instruments() if (name.startswith(own) if own else not name.startswith(others))]


def _silent(one: Instrument) -> Listing:
    return Listing(one.provider, one.instrument, one.description, one.enabled)


def patience_ms(usual_gap_ms: float | None) -> float:
    """Return after how long a silence an instrument is stale that ticks so often."""
    return float(max(_STALE_AFTER_MS, _STALE_AFTER_GAPS * (usual_gap_ms or 0)))
