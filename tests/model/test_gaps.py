"""Gaps among bars: where they are, and flat bars that fill them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from barmill.model.bar import BAR_SCHEMA, Gap, gaps
from barmill.model.frames import parse_frame
from barmill.storage.reader import BarQuery, BarReader
from tests.support.rollup import MINUTE_MS, NAME, read, seconds, stored

SECOND = parse_frame("1s")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[BarReader]:
    """Bars of the seconds 0, 1, 4 and 8."""
    with closing(stored(tmp_path / "bars.sqlite", seconds((0, 5.0), (1, 6.0), (4, 7.0), (8, 8.0)))) as reader:
        yield reader


def at(second: int) -> int:
    return MINUTE_MS + second * 1_000


def places(bars: pl.DataFrame) -> list[tuple[int, float, str]]:
    rows = bars.select("start_ms", "close", pl.col("state").str.head(1)).rows()
    return [((start - MINUTE_MS) // 1_000, close, letter) for start, close, letter in rows]


def test_gaps_lie_between_bars(reader: BarReader) -> None:
    bars = read(reader, "1s")
    expected = [Gap(at(2), at(4)), Gap(at(5), at(8))]
    assert gaps(bars, SECOND) == expected
    assert gaps(bars, SECOND, at(9) + 999) == expected
    assert gaps(bars, SECOND, at(11) + 1) == [*expected, Gap(at(9), at(11))]
    assert gaps(read(reader, "1s", fill=True), SECOND) == expected
    assert gaps(bars[:0], SECOND, at(11)) == []


def test_filled_bars_are_flat_and_say_so(reader: BarReader) -> None:
    filled = read(reader, "1s", fill=True)
    assert places(filled) == [
        *((0, 5.0, "c"), (1, 6.0, "c"), (2, 6.0, "s"), (3, 6.0, "s"), (4, 7.0, "c")),
        *((5, 7.0, "s"), (6, 7.0, "s"), (7, 7.0, "s"), (8, 8.0, "c")),
    ]
    assert filled.schema == pl.Schema(BAR_SCHEMA)
    assert filled.filter(pl.col("state") != "synthetic").equals(read(reader, "1s"))
    flat = filled.row(2, named=True)
    assert flat == {
        **{"instrument": NAME, "frame": "1s", "start_ms": at(2), "end_ms": at(3)},
        **dict.fromkeys(("open", "high", "low", "close"), 6.0),
        **{"volume": 0.0, "vwap": None, "ticks": 0, "first_tick_ms": None, "last_tick_ms": None},
        **{"state": "synthetic", "revision": 0, "changed_ms": filled["changed_ms"][1]},
    }


def test_without_volumes_a_flat_bar_has_none(tmp_path: Path) -> None:
    bars = seconds((0, 5.0), (2, 6.0)).with_columns(volume=pl.lit(None, pl.Float64), vwap=pl.lit(None, pl.Float64))
    with closing(stored(tmp_path / "bars.sqlite", bars)) as reader:
        assert read(reader, "1s", fill=True)["volume"].to_list() == [None, None, None]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"newest": 3}, [6, 7, 8]),
        ({"newest": 20}, list(range(9))),
        ({"newest": 2, "to_ms": at(6)}, [4, 5]),
        ({"from_ms": at(2), "to_ms": at(4)}, [2, 3]),
        ({"from_ms": at(3), "to_ms": at(6)}, [3, 4, 5]),
        ({"from_ms": at(6)}, [6, 7, 8]),
        ({"from_ms": at(-5), "to_ms": at(2)}, [0, 1]),
        ({"from_ms": at(8), "to_ms": at(20)}, [8]),
        ({"from_ms": at(9), "to_ms": at(20)}, []),
        ({"to_ms": at(0)}, []),
    ],
)
def test_pages_of_filled_bars_join_without_a_hole(
    reader: BarReader, asked: dict[str, int], expected: list[int]
) -> None:
    found = places(read(reader, "1s", fill=True, **asked))
    assert [second for second, *_ in found] == expected
    assert found == [place for place in places(read(reader, "1s", fill=True)) if place[0] in expected]


def test_rolled_up_bars_are_filled_too(reader: BarReader) -> None:
    assert places(read(reader, "2s", fill=True)) == [
        (0, 6.0, "c"),
        (2, 6.0, "s"),
        (4, 7.0, "c"),
        (6, 7.0, "s"),
        (8, 8.0, "c"),
    ]


def test_nobody_has_no_gaps(reader: BarReader) -> None:
    assert reader.read(BarQuery("unknown", SECOND, fill=True)).height == 0
