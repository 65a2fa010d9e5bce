"""The list of instruments for pages and commands: the catalogue entry, and the activity of each instrument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from barmill.ingest.connection.state import stale_after_ms
from barmill.ingest.feeds.feed import feeds_of
from barmill.ingest.instruments.names import prefix_of
from barmill.ingest.instruments.store import (
    RECORDED,
    CatalogueState,
    Instrument,
    Instruments,
    delivered_without_selection,
)
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.reader import BarReader

_RATE_WINDOW_MS = 60_000


@dataclass(frozen=True)
class Listing:
    """An instrument in the list, with its activity.

    last_tick_ms, last_price: from the newest bar; None without bars. ticks_per_s: over the last minute, extended back
    to the start of a bar of the shortest timeframe. stale: the instrument is enabled and has been silent for far longer
    than usual.
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


def list_instruments(home: Home, provider: str) -> list[Listing]:
    """Return all instruments of the provider by name; without a catalogue, all that have bars."""
    catalogue, state = catalogue_of(home, provider)
    with if_ready(), BarReader.open(home.bars_db) as reader:
        if delivered_without_selection(provider, state) is not None:
            catalogue = [
                Instrument(provider, name, "", None, None, True) for name in _own_instruments(home, provider, reader)
            ]
        return with_activity(provider, catalogue, reader, now_ms())
    return [_without_activity(instrument) for instrument in catalogue]


def catalogue_of(home: Home, provider: str) -> tuple[list[Instrument], CatalogueState]:
    """Return the provider's catalogue and its state; empty if it was never fetched."""
    with if_ready(), Instruments.read_only(home) as instruments:
        return instruments.catalogue(provider), instruments.state(provider)
    return [], CatalogueState()


def catalogue_size(home: Home, provider: str) -> int:
    """Return the number of instruments in the provider's catalogue."""
    with if_ready(), Instruments.read_only(home) as instruments:
        return instruments.size(provider)
    return 0


def with_activity(provider: str, catalogue: Sequence[Instrument], reader: BarReader, now_ms: int) -> list[Listing]:
    """Join a catalogue with the activity of its instruments in the bars at `now_ms`, in the order of the catalogue."""
    instruments_with_bars = reader.instruments()
    if provider in RECORDED:
        # The current time of a recording is that of its newest tick.
        now_ms = max((shard.newest_tick_ms or 0 for shard in reader.progress()), default=0) or now_ms
    if not instruments_with_bars:
        return [_without_activity(instrument) for instrument in catalogue]
    shortest_frame = reader.current_frames_first(instruments_with_bars[0])[0]
    from_ms = shortest_frame.start_ms(now_ms - _RATE_WINDOW_MS)
    activity = reader.activity([instrument.instrument for instrument in catalogue], shortest_frame.text, from_ms)
    return [
        Listing(
            provider=instrument.provider,
            instrument=instrument.instrument,
            description=instrument.description,
            enabled=instrument.enabled,
            last_tick_ms=last_tick_ms,
            last_price=last_price,
            ticks_per_s=ticks * 1_000 / (now_ms - from_ms),
            stale=instrument.enabled
            and last_tick_ms is not None
            and now_ms - last_tick_ms > stale_after_ms(usual_gap_ms),
        )
        for instrument, (_, last_tick_ms, last_price, ticks, usual_gap_ms) in zip(
            catalogue, activity.iter_rows(), strict=True
        )
    ]


def filter_instruments(listings: Iterable[T], text: str = "", *, enabled: bool | None = None) -> list[T]:
    """Return the items whose name or description contains every word of `text`, filtered by `enabled` if given."""
    words = text.casefold().split()
    return [
        item
        for item in listings
        if (enabled is None or item.enabled == enabled)
        and all(word in f"{item.instrument} {item.description}".casefold() for word in words)
    ]


def _own_instruments(home: Home, provider: str, reader: BarReader) -> list[str]:
    """Return the instruments with bars that have this feed's prefix; for the first feed, no other feed's prefix."""
    prefix = prefix_of(provider)
    other_prefixes = tuple(prefix_of(feed.name) for feed in feeds_of(home) if not feed.is_first)
    return [
        name
        for name in reader.instruments()
        if (name.startswith(prefix) if prefix else not name.startswith(other_prefixes))
    ]


def _without_activity(instrument: Instrument) -> Listing:
    return Listing(instrument.provider, instrument.instrument, instrument.description, instrument.enabled)
