"""Instruments held against each other: exactly what is drawn, in numbers and in words."""

import json
from typing import Any

import polars as pl
import pytest

from barmill.charts.compare import IndexedPrices, compare_figure, compare_table, describe_comparison, index_prices
from tests.support.chart_bars import bars_of
from tests.support.page_bars import NO_BARS, NOON_MS, THREE_BARS

_MIN_MS = 60_000
FROM_MS, TO_MS = NOON_MS, NOON_MS + 5 * _MIN_MS


def drawn(lines: IndexedPrices) -> Any:
    return json.loads(compare_figure(lines, FROM_MS, TO_MS).to_json())


def test_a_line_begins_at_100_and_has_each_close_at_the_end_of_its_bar() -> None:
    line = index_prices(THREE_BARS)
    # The last bar still forms: its price is that of its last tick, two seconds into it.
    ends = [NOON_MS, NOON_MS + _MIN_MS, NOON_MS + 3 * _MIN_MS, NOON_MS + 3 * _MIN_MS + 2_000]
    assert line["time_ms"].to_list() == ends
    assert line["value"].to_list() == pytest.approx([100, 11 / 10.5 * 100, 10.25 / 10.5 * 100, 100], rel=1e-6)
    assert index_prices(NO_BARS).height == 0


def test_every_instrument_is_a_line_of_its_own() -> None:
    lines = {
        "AAA": index_prices(THREE_BARS),
        "BBB": index_prices(bars_of([4, 5, 6], from_ms=NOON_MS)),
        "CCC": index_prices(NO_BARS),
    }
    figure = drawn(lines)
    assert [(trace["name"], trace["x"], trace["y"]) for trace in figure["data"]] == [
        (name, line["time_ms"].to_list(), line["value"].to_list()) for name, line in lines.items()
    ]
    assert figure["data"][1]["y"] == [100, 100, 125, 150]


def test_the_figure_shows_all_of_the_range_and_all_values() -> None:
    layout = drawn({"BBB": index_prices(bars_of([4, 5, 2], from_ms=NOON_MS))})["layout"]
    assert layout["xaxis"]["autorangeoptions"]["include"] == [FROM_MS, TO_MS]
    low, high = layout["yaxis"]["range"]
    assert low < 50
    assert high > 125
    assert [shape["y0"] for shape in layout["shapes"]] == [100]


def test_a_price_that_stands_still_has_an_axis_all_the_same() -> None:
    low, high = drawn({"BBB": index_prices(bars_of([4, 4], from_ms=NOON_MS))})["layout"]["yaxis"]["range"]
    assert low < 100 < high


def test_the_table_has_a_row_for_each_instrument() -> None:
    assert compare_table({"AAA": THREE_BARS, "BBB": bars_of([4, 5]), "CCC": NO_BARS}) == [
        {
            "Instrument": "AAA",
            "Start": "10.500",
            "Last": "10.500",
            "Change": "■ +0.00 %",
            "High": "11.250",
            "Low": "10.000",
        },
        {"Instrument": "BBB", "Start": "4.0", "Last": "5.0", "Change": "▲ +25.00 %", "High": "5.5", "Low": "3.5"},
        {"Instrument": "CCC", "Start": "–", "Last": "–", "Change": "–", "High": "–", "Low": "–"},
    ]


def test_the_figure_in_words_tells_the_best_first() -> None:
    lines = {"AAA": index_prices(bars_of([4, 3])), "BBB": index_prices(bars_of([4, 5])), "CCC": index_prices(NO_BARS)}
    assert (
        describe_comparison(lines)
        == "Prices since the start of the range: BBB up 25.00 percent, AAA down 25.00 percent."
    )
    assert describe_comparison({"CCC": pl.DataFrame(schema=index_prices(NO_BARS).schema)}) == (
        "Prices of several instruments; none of them has bars in this range."
    )
