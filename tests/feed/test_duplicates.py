"""Repeats: by exact id within the window, never by content, and remembered over a restart."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from feed.duplicates import RecentIds
from feed.intake import Intake
from feed.provider import Batch
from feed.ticklog import TickLog
from tests.bars.ticks import NS_PER_MS, START_MS, ticks


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


def test_ids_are_remembered_over_a_restart(tmp_path: Path) -> None:
    rows = pl.DataFrame({"time": [START_MS, START_MS + 1], "instrument": "A", "price": 1.0, "id": [1, 2]})
    for expected in ((2, 0), (0, 2)):
        with TickLog.open(tmp_path / "ticks.sqlite") as log:
            done = list(Intake(log, Repeating(rows)).run(threading.Event()))
            assert [(one.accepted, one.rejected) for one in done] == [expected]
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        assert log.rejects_by_reason() == {"duplicate": 2}
        assert log.rejects()["id"].to_list() == ["1", "2"]
