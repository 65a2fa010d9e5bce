"""When instruments last moved, how often, and which have gone silent."""

from collections.abc import Sequence
from contextlib import closing

import pytest

from barmill.audit.roles import Actor
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.feeds.instrument_listing import Listing, filter_instruments, list_instruments, with_activity
from barmill.ingest.instruments.changes import change_selection
from barmill.ingest.instruments.store import Instrument, Instruments
from barmill.platform.home import Home
from barmill.storage.reader import BarReader
from tests.support.stores import Stores, Trade

NOW_MS = 1_764_072_000_400
QUICK = [(NOW_MS - 100_000 + 500 * n, "QUICK", 10 + n / 100, 1.0) for n in range(200)]
SLOW = [(NOW_MS - 1_000 * s, "SLOW", 5.0, None) for s in (400, 340, 280, 220, 160)]


def catalogue(*names: str) -> list[Instrument]:
    return [Instrument("market", name, f"About {name.lower()}", 2, True, True) for name in names]


def at(home: Home, trades: Sequence[Trade], now_ms: int, instruments: list[Instrument]) -> dict[str, Listing]:
    stores = Stores(home)
    stores.write(trades, closed_to_ms=now_ms)
    stores.close()
    with closing(BarReader.open(home.bars_db)) as reader:
        return {entry.instrument: entry for entry in with_activity("market", instruments, reader, now_ms)}


def test_last_tick_price_and_rate_come_from_the_shortest_bars(home: Home) -> None:
    seen = at(home, [*QUICK, *SLOW], NOW_MS, catalogue("QUICK", "SLOW", "NEVER"))
    # The window starts at the full second 60.4 s ago and holds two ticks of each second since.
    assert seen["QUICK"] == Listing(
        "market", "QUICK", "About quick", True, NOW_MS - 500, 11.99, 120 * 1_000 / 60_400, False
    )
    assert (seen["SLOW"].last_tick_ms, seen["SLOW"].last_price) == (NOW_MS - 160_000, 5.0)
    assert seen["SLOW"].ticks_per_s == 0
    assert seen["NEVER"] == Listing("market", "NEVER", "About never", True)


@pytest.mark.parametrize(
    ("later_s", "stale"),
    [(0, set()), (59, set()), (61, {"QUICK"}), (400, {"QUICK"}), (500, {"QUICK", "SLOW"})],
)
def test_each_instrument_is_judged_by_its_own_rhythm(home: Home, later_s: int, stale: set[str]) -> None:
    """SLOW ticks once a minute, so ten minutes of silence are needed before that is strange."""
    instruments = catalogue("QUICK", "SLOW", "NEVER")
    seen = at(home, [*QUICK, *SLOW], NOW_MS + 1_000 * later_s, instruments)
    assert {name for name, listing in seen.items() if listing.stale} == stale


def test_what_is_disabled_may_be_silent(home: Home) -> None:
    off = [Instrument("market", "QUICK", "", 2, True, False)]
    assert not at(home, QUICK, NOW_MS + 3_600_000, off)["QUICK"].stale


def test_a_home_without_bars_lists_its_catalogue(home: Home) -> None:
    assert list_instruments(home, "market") == []
    with Instruments.open(home) as instruments:
        instruments.save_catalogue("market", [CatalogueEntry("AAA", "Alpha")], None)
        change_selection(instruments, Actor("ada"), "market", [(1, "AAA")], enable=False)
    assert list_instruments(home, "market") == [Listing("market", "AAA", "Alpha", enabled=False)]
    home.bars_db.touch()
    assert len(list_instruments(home, "market")) == 1


def test_of_files_what_has_bars_is_the_catalogue_and_their_own_time_counts(home: Home) -> None:
    stores = Stores(home, "replay")
    stores.write([*QUICK, *SLOW], closed_to_ms=NOW_MS)
    stores.close()
    seen = list_instruments(home, "replay")
    assert [(listing.instrument, listing.enabled, listing.stale) for listing in seen] == [
        ("QUICK", True, False),
        ("SLOW", True, False),
    ]
    assert seen[0].ticks_per_s == pytest.approx(2.0, rel=0.02)


def test_searching_looks_for_every_word_in_name_and_description() -> None:
    rows = [Listing("market", "OAKR/USD", "Oakroot Timber", True), Listing("market", "GLFN/USD", "Lanterns", False)]
    assert filter_instruments(rows) == rows
    assert filter_instruments(rows, "oak usd") == rows[:1]
    assert filter_instruments(rows, "TIMBER") == rows[:1]
    assert filter_instruments(rows, "usd") == rows
    assert filter_instruments(rows, "usd", enabled=False) == rows[1:]
    assert filter_instruments(rows, "usd eur") == []
