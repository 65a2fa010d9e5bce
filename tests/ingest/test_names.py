"""What the instruments of a feed are called."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pytest

from barmill.ingest.connection.provider import Batch, CatalogueEntry
from barmill.ingest.instruments.names import PrefixedProvider, is_feed_name, prefix_of, without_prefix
from barmill.model.tick import check


@dataclass
class Delivering:
    """A provider that delivers one batch."""

    batch: Batch
    name: str = "theirs"
    live: bool = False

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        yield self.batch

    def catalogue(self) -> Sequence[CatalogueEntry] | None:
        return [CatalogueEntry("BTC/USDT", "Bitcoin")]


@pytest.mark.parametrize(("text", "fits"), [("b", True), ("b-2", True), ("-b", False), ("B", False), ("b:c", False)])
def test_names(text: str, fits: bool) -> None:
    assert is_feed_name(text) == fits


def test_only_the_first_feed_goes_without() -> None:
    assert [prefix_of(name) for name in ("market", "replay", "kafka", "b")] == ["", "", "", "b:"]


def test_a_provider_is_asked_by_its_own_names() -> None:
    assert without_prefix(frozenset({"b:A", "b:b:C"}), "b:") == frozenset({"A", "b:C"})
    assert without_prefix(None, "b:") is None


def test_what_a_provider_delivers_bears_the_name_of_its_feed() -> None:
    ticks = pl.DataFrame({"time": [1_700_000_000_000] * 4, "instrument": ["A", " A ", "", None], "price": 1.0})
    broken = pl.DataFrame({"line": [1], "reason": ["broken_line"]})
    feed = PrefixedProvider("b", Delivering(Batch(ticks, "c", origin="a file", broken=broken)))
    (batch,) = feed.batches(None, threading.Event())
    assert (feed.name, feed.live, batch.origin, batch.cursor) == ("b", False, None, "c")
    checked = check(batch.ticks, None)
    assert checked.ticks["instrument"].to_list() == ["b:A", "b:A"]
    assert checked.rejects["reason"].to_list() == ["no_instrument", "no_instrument"]
    assert batch.broken.equals(broken)
    assert feed.catalogue() == [CatalogueEntry("b:BTC/USDT", "Bitcoin")]


def test_numbers_as_names_are_names_too() -> None:
    ticks = pl.DataFrame({"time": [1], "instrument": [7], "price": 1.0})
    (batch,) = PrefixedProvider("b", Delivering(Batch(ticks, ""))).batches(None, threading.Event())
    assert batch.ticks["instrument"].to_list() == ["b:7"]
