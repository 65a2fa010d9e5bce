"""Repeats: by exact id within the window, never by content, and remembered over a restart."""

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.ingest.connection.provider import Batch
from barmill.ingest.identity import RecentIds, hash_id
from barmill.ingest.intake import Intake
from barmill.platform.clock import NS_PER_MS
from barmill.storage.tick_log import TickLog
from tests.support.ticks import START_MS, ticks


def split(recent: RecentIds, *rows: tuple[float | str | None, ...]) -> tuple[list[object], list[object]]:
    new, repeats = recent.split(ticks(*rows).drop("sequence"))
    return new["id"].to_list(), repeats["id"].to_list()


def test_a_repeat_in_one_batch_and_in_the_next_is_found() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    assert split(recent, (0, "A", 1.0, None, 1), (1, "A", 1.0, None, 2), (0, "A", 1.0, None, 1)) == ([1, 2], [1])
    assert split(recent, (2, "A", 1.0, None, 3), (1, "A", 1.0, None, 2)) == ([3], [2])


def test_a_lower_id_that_was_never_seen_is_new() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    assert split(recent, (5, "A", 1.0, None, 10)) == ([10], [])
    assert split(recent, (4, "A", 1.0, None, 9)) == ([9], [])


def test_instruments_have_ids_of_their_own() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    assert split(recent, (0, "A", 1.0, None, 1), (0, "B", 1.0, None, 1)) == ([1, 1], [])


@pytest.mark.parametrize("first", ["1", "ETH-1", "9" * 30, '["a","1"]'])
def test_ids_of_any_kind_are_compared_as_sent(first: str) -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    row, other = (0, "A", 1.0, None, first), (0, "A", 1.0, None, f"0{first}")
    new, repeats = recent.split(ticks(row, other, row).drop("sequence"))
    assert (new["id_text"].to_list(), repeats["id_text"].to_list()) == ([first, f"0{first}"], [first])
    new, repeats = recent.split(ticks(row, other).drop("sequence"))
    assert (new.height, repeats.height) == (0, 2)
    assert recent.reused == 0


def test_a_number_and_its_text_are_one_id() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    recent.split(ticks((0, "A", 1.0, None, 7)).drop("sequence"))
    new, repeats = recent.split(ticks((0, "A", 1.0, None, "7")).drop("sequence"))
    assert (new.height, repeats.height) == (0, 1)


def test_a_counter_that_starts_again_swallows_no_trade() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    assert split(recent, (1, "A", 1.0, 5.0, 1), (10, "A", 1.0, 5.0, 2)) == ([1, 2], [])
    assert (recent.reused, recent.restarted) == (0, 0)
    # Later, or at another price, or of another size: another trade with the same number.
    assert split(recent, (20, "A", 1.0, 5.0, 1), (10, "A", 1.1, 5.0, 2), (10, "A", 1.0, 6.0, 2)) == ([1, 2, 2], [])
    assert (recent.reused, recent.restarted) == (3, 1)
    assert split(recent, (20, "A", 1.0, 5.0, 1), (30, "A", 1.0, 5.0, 3)) == ([3], [1])
    assert (recent.reused, recent.restarted) == (3, 1)


def test_the_same_trade_with_a_coarser_time_is_a_repeat() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    assert split(recent, (1.123456, "A", 1.0, 5.0, 1)) == ([1], [])
    assert split(recent, (1.0, "A", 1.0, 5.0, 1)) == ([], [1])
    assert split(recent, (1.2, "A", 1.0, 5.0, 1)) == ([1], [])
    assert split(recent, (-800.0, "A", 1.0, 5.0, 1)) == ([1], [])


def test_what_an_earlier_version_took_in_is_not_taken_again() -> None:
    recent = RecentIds(60_000 * NS_PER_MS)
    # They were kept as numbers, texts by a digest.
    recent.remember([ticks((1, "A", 1.0, 5.0, 7), (2, "A", 1.0, 5.0, hash_id("ETH-1"))).drop("sequence")])
    again = ticks((1, "A", 1.0, 5.0, "7"), (2, "A", 1.0, 5.0, "ETH-1"), (3, "A", 1.0, 5.0, "ETH-2")).drop("sequence")
    new, repeats = recent.split(again)
    assert (new["id_text"].to_list(), repeats["id_text"].to_list()) == (["ETH-2"], ["7", "ETH-1"])


EXAMPLES = int(os.environ.get("BARMILL_HUNT_EXAMPLES", "40"))
IDS = st.sampled_from([None, 1, 2, 2**63 - 1, "1", "01", "x", "a/b", "9" * 40, "8f14e45f-ceea-467f"]) | st.integers(
    1, 9
)
TRADES = st.tuples(
    st.integers(0, 3).map(lambda second: second + 0.000_5), st.sampled_from("AB"), st.sampled_from([1.0, 2.0]),
    st.sampled_from([None, 0.0, 3.0]), IDS,
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(TRADES, max_size=12), max_size=6))
def test_repeats_are_those_of_a_plain_comparison(
    batches: list[list[tuple[float, str, float, float | None, object]]],
) -> None:
    recent, seen, ids, reused = RecentIds(60_000 * NS_PER_MS), set[object](), set[object](), 0
    for batch in batches:
        expected = []
        for at, name, price, volume, tick_id in batch:
            trade = (at, name, price, volume, str(tick_id))
            is_new = tick_id is None or trade not in seen
            reused += tick_id is not None and is_new and (name, str(tick_id)) in ids
            expected += [(price, volume, str(tick_id))] if is_new else []
            if tick_id is not None:
                seen.add(trade)
                ids.add((name, str(tick_id)))
        arrived = ticks(*batch).drop("sequence") if batch else ticks((0, "A", 1.0)).drop("sequence").clear()
        new, repeats = recent.split(arrived)
        found = new.select(
            "price_open", "volume", pl.coalesce("id_text", pl.col("id").cast(pl.String)).fill_null("None")
        )
        assert found.rows() == expected
        assert new.height + repeats.height == len(batch)
    assert recent.reused == reused


def test_the_same_content_without_ids_is_two_trades() -> None:
    assert split(RecentIds(60_000 * NS_PER_MS), (0, "A", 1.0), (0, "A", 1.0)) == ([None, None], [])


def test_memory_is_bounded_by_the_window() -> None:
    recent = RecentIds(1_000 * NS_PER_MS)
    for at in range(0, 200_000, 100):
        split(recent, (at, "A", 1.0, None, at))
    assert sum(piece.height for piece in recent._pieces) < 200


@dataclass(frozen=True)
class Repeating:
    """A provider that sends what it is given and pays no heed to the cursor, as after a crash of the source."""

    rows: pl.DataFrame
    name: str = "repeating"
    live: bool = False

    def catalogue(self) -> None:
        return

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        yield Batch(self.rows, "end")


def test_a_restarted_counter_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = pl.DataFrame({"time": [START_MS, START_MS + 1], "instrument": "A", "price": [1.0, 2.0], "id": [1, 1]})
    with caplog.at_level(logging.WARNING), TickLog.open(tmp_path / "ticks.sqlite") as log:
        assert [ingested.accepted for ingested in Intake(log, Repeating(rows)).run(threading.Event())] == [2]
        assert [source.reused_ids for source in log.sources()] == [1]
    assert "1 ticks have an id that an earlier tick of their instrument had; they are kept." in caplog.text


def test_ids_are_remembered_over_a_restart(tmp_path: Path) -> None:
    rows = pl.DataFrame({"time": [START_MS, START_MS + 1], "instrument": "A", "price": 1.0, "id": [1, 2]})
    for expected in ((2, 0), (0, 2)):
        with TickLog.open(tmp_path / "ticks.sqlite") as log:
            done = list(Intake(log, Repeating(rows)).run(threading.Event()))
            assert [(ingested.accepted, ingested.rejected) for ingested in done] == [expected]
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        assert log.rejects_by_reason() == {"duplicate": 2}
        assert log.rejects()["id"].to_list() == ["1", "2"]
