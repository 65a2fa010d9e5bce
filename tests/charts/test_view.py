from dataclasses import replace

import polars as pl
import pytest

from barmill.charts.candles import candles
from barmill.charts.studies import StudyLine, parse_studies
from barmill.charts.view import ChartView, count_revised
from barmill.model.bar import BarState
from barmill.model.frames import parse_frame
from barmill.storage.reader import BarQuery
from tests.support.page_bars import NO_BARS, NOON_MS, THREE_BARS

MINUTE = parse_frame("1m")
PLAIN = ChartView("AAA/USD", MINUTE)
FULL = ChartView(
    "AAA/USD", MINUTE, "line", parse_studies("sma:20,rsi"), "Asia/Kolkata", "log", True, NOON_MS, NOON_MS + 5, NOON_MS
)


def test_a_plain_chart_asks_for_no_more_than_it_needs() -> None:
    assert PLAIN.bars_parameters == {"instrument": "AAA/USD", "frame": "1m"}
    assert PLAIN.query == BarQuery("AAA/USD", MINUTE)


def test_a_chart_asks_for_bars_as_it_shows_them() -> None:
    assert FULL.bars_parameters == {
        "instrument": "AAA/USD",
        "frame": "1m",
        "studies": "sma:20,rsi:14",
        "as_of": str(NOON_MS),
        "fill": "1",
    }
    assert FULL.query == BarQuery("AAA/USD", MINUTE, as_of_ms=NOON_MS, fill=True)


def test_a_link_says_everything_so_that_no_preference_of_its_reader_counts() -> None:
    assert PLAIN.link_parameters == {
        "instrument": "AAA/USD",
        "frame": "1m",
        "studies": "",
        "fill": "0",
        "kind": "candles",
        "zone": "UTC",
        "scale": "linear",
    }


@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({"kind": "ohlc"}, False),
        ({"zone": "local"}, False),
        ({"scale": "log"}, False),
        ({"studies": parse_studies("sma")}, True),
        ({"fill": True}, True),
        ({"as_of_ms": NOON_MS}, True),
        ({"from_ms": NOON_MS, "to_ms": NOON_MS + 1}, True),
    ],
)
def test_an_edition_is_another_where_bars_or_lines_are(changes: dict[str, object], another: bool) -> None:
    assert (replace(PLAIN, **changes).edition != PLAIN.edition) == another  # type: ignore[arg-type]


@pytest.mark.parametrize(("from_ms", "to_ms"), [(None, None), (5, None), (None, 5), (5, 5), (6, 5)])
def test_half_a_range_or_one_without_time_in_it_is_none(from_ms: int | None, to_ms: int | None) -> None:
    assert replace(PLAIN, from_ms=from_ms, to_ms=to_ms).range_ms is None


def test_a_picture_is_titled_with_what_it_shows() -> None:
    assert FULL.title == "AAA/USD · 1m · Line · SMA 20 · RSI 14"


def test_studies_and_gaps_go_with_the_candles() -> None:
    line = StudyLine("sma:2", "SMA 2", "price", "line", [None, 10.625, 10.375])
    message = candles(THREE_BARS, "AAA/USD", MINUTE, 5, [line], [(NOON_MS + 60_000, NOON_MS + 120_000, "no ticks")])
    assert message["studies"] == [
        {"study": "sma:2", "label": "SMA 2", "pane": "price", "kind": "line", "values": [None, 10.625, 10.375]}
    ]
    assert message["gaps"] == [[29_401_201, 29_401_202, "no ticks"]]


def test_a_synthetic_bar_is_marked() -> None:
    made_up = THREE_BARS.with_columns(state=pl.lit(BarState.SYNTHETIC.value))
    assert candles(made_up, "AAA/USD", MINUTE, 5)["state"] == "sss"


def test_bars_that_changed_since_are_counted() -> None:
    later = THREE_BARS.with_columns(close=pl.when(pl.col("revision") == 2).then(9.0).otherwise("close"))
    assert count_revised(THREE_BARS, THREE_BARS) == 0
    assert count_revised(THREE_BARS, later) == 1
    assert count_revised(THREE_BARS[:1], later) == 0
    assert count_revised(NO_BARS, later) == 0


def test_a_volume_that_came_later_is_a_change_and_one_that_never_came_is_none() -> None:
    later = THREE_BARS.with_columns(volume=pl.col("volume").fill_null(1.5))
    assert count_revised(THREE_BARS, later) == 1
