"""The study figure: exactly what is drawn, in which pane, and the same in words."""

import json
from itertools import pairwise
from typing import Any

import polars as pl

from barmill.charts.studies import parse_studies, study_lines
from barmill.charts.study_figure import Gap, describe_study, study_figure
from barmill.model.bar import BarState
from barmill.model.frames import parse_frame
from tests.support.chart_bars import bars_of
from tests.support.page_bars import NO_BARS, NOON_MS, THREE_BARS

MINUTE = parse_frame("1m")
_MIN_MS = 60_000


def drawn(
    bars: pl.DataFrame, studies: str = "", gaps: list[Gap] | None = None, zone: str = "UTC"
) -> tuple[dict[str, Any], Any]:
    """Return the traces by name, and the layout."""
    lines = study_lines(bars, parse_studies(studies))
    figure = json.loads(study_figure(bars, MINUTE, lines, gaps or [], zone).to_json())
    return {trace["name"]: trace for trace in figure["data"]}, figure["layout"]


def test_candles_are_drawn_at_their_start_with_the_forming_one_apart() -> None:
    traces, _ = drawn(THREE_BARS)
    bars, forming = traces["bars"], traces["forming"]
    assert {name: bars[name] for name in ("type", "x", "open", "high", "low", "close", "yaxis")} == {
        "type": "candlestick",
        "x": [NOON_MS, NOON_MS + 2 * _MIN_MS],
        "open": [10.5, 11.0],
        "high": [11.25, 11.0],
        "low": [10.0, 10.125],
        "close": [11.0, 10.25],
        "yaxis": "y",
    }
    assert (forming["x"], forming["close"]) == ([NOON_MS + 3 * _MIN_MS], [10.5])
    assert forming["opacity"] < bars["opacity"]


def test_revised_bars_are_marked_with_how_often() -> None:
    traces, _ = drawn(THREE_BARS)
    revised = traces["revised"]
    assert (revised["x"], revised["y"], revised["customdata"]) == ([NOON_MS + 2 * _MIN_MS], [11.0], [2])
    assert "revised" not in drawn(THREE_BARS[:1])[0]


def test_made_up_bars_look_like_no_others() -> None:
    synthetic = THREE_BARS.with_columns(state=pl.lit(BarState.SYNTHETIC.value))
    traces, _ = drawn(pl.concat([THREE_BARS[:1], synthetic[1:]]))
    assert traces["no ticks, filled"]["x"] == [NOON_MS + 2 * _MIN_MS, NOON_MS + 3 * _MIN_MS]
    assert traces["bars"]["x"] == [NOON_MS]
    assert traces["no ticks, filled"]["increasing"] == traces["no ticks, filled"]["decreasing"]
    assert traces["bars"]["increasing"] != traces["bars"]["decreasing"]


def test_volume_has_a_pane_of_its_own_below() -> None:
    traces, layout = drawn(THREE_BARS)
    assert (traces["volume"]["type"], traces["volume"]["yaxis"]) == ("bar", "y2")
    assert traces["volume"]["y"] == [30.0, 2.5, None]
    assert layout["yaxis2"]["domain"][1] < layout["yaxis"]["domain"][0]


def test_every_study_is_drawn_in_its_pane() -> None:
    bars = bars_of([10 + place % 7 / 4 for place in range(60)])
    traces, layout = drawn(bars, "sma:5,vwap,volavg:5,rsi:14,macd:12:26:9")
    assert {name: trace.get("yaxis") for name, trace in traces.items()} == {
        "bars": "y",
        "volume": "y2",
        "SMA 5": "y",
        "VWAP": "y",
        "Volume average 5": "y2",
        "RSI 14": "y3",
        "MACD 12 26 9": "y4",
        "MACD 12 26 9 signal": "y4",
        "MACD 12 26 9 histogram": "y4",
    }
    assert [layout[axis]["title"]["text"] for axis in ("yaxis", "yaxis2", "yaxis3", "yaxis4")] == [
        "Price",
        "Volume",
        "RSI 14",
        "MACD 12 26 9",
    ]
    lines = {line.label: line for line in study_lines(bars, parse_studies("sma:5,macd:12:26:9"))}
    assert traces["SMA 5"]["y"] == lines["SMA 5"].values
    assert traces["SMA 5"]["x"] == bars["start_ms"].to_list()
    histogram = traces["MACD 12 26 9 histogram"]
    assert (histogram["type"], histogram["y"]) == ("bar", lines["MACD 12 26 9 histogram"].values)


def test_panes_fill_the_height_and_do_not_overlap() -> None:
    _, layout = drawn(THREE_BARS, "rsi:14,atr:14")
    domains = [layout[axis]["domain"] for axis in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert (domains[0][1], domains[-1][0]) == (1, 0)
    assert all(upper[0] > lower[1] for upper, lower in pairwise(domains))
    assert drawn(THREE_BARS)[1]["height"] < layout["height"]


def test_one_axis_of_time_has_the_crosshair_of_all_panes() -> None:
    _, layout = drawn(THREE_BARS, "rsi:14")
    assert (layout["hovermode"], layout["hoversubplots"]) == ("x unified", "axis")
    assert (layout["xaxis"]["showspikes"], layout["xaxis"]["spikemode"]) == (True, "across")
    assert not layout["xaxis"]["rangeslider"]["visible"]
    assert "xaxis2" not in layout


def test_a_line_is_broken_where_many_bars_are_missing() -> None:
    bars = pl.concat([bars_of([1, 2, 3]), bars_of([4, 5], from_ms=bars_of([1])["start_ms"][0] + 10 * _MIN_MS)])
    traces, _ = drawn(bars, "sma:2")
    assert traces["SMA 2"]["y"] == [None, 1.5, 2.5, None, 3.5, 4.5]
    assert traces["SMA 2"]["x"][3] == bars["start_ms"][3] - 1
    few = pl.concat([bars_of([1, 2, 3]), bars_of([4, 5], from_ms=bars["start_ms"][2] + 6 * _MIN_MS)])
    assert drawn(few, "sma:2")[0]["SMA 2"]["y"] == [None, 1.5, 2.5, 3.5, 4.5]


def test_a_gap_says_why_nothing_is_there() -> None:
    gap = (NOON_MS + _MIN_MS, NOON_MS + 2 * _MIN_MS, "feed down")
    traces, _ = drawn(THREE_BARS, gaps=[gap])
    assert (traces["no bars"]["x"], traces["no bars"]["y"]) == ([NOON_MS + 1.5 * _MIN_MS], [11.0])
    assert traces["no bars"]["customdata"] == ["feed down"]
    assert "no bars" not in drawn(THREE_BARS)[0]


def test_times_are_those_of_the_zone_and_the_axis_says_which() -> None:
    gap = (NOON_MS + _MIN_MS, NOON_MS + 2 * _MIN_MS, "no ticks")
    traces, layout = drawn(THREE_BARS, "vwap", [gap], "Asia/Kolkata")
    ahead_ms = 330 * _MIN_MS
    assert traces["bars"]["x"][0] == NOON_MS + ahead_ms
    assert traces["no bars"]["x"] == [NOON_MS + 1.5 * _MIN_MS + ahead_ms]
    assert traces["VWAP"]["x"][0] == NOON_MS + ahead_ms
    assert layout["xaxis"]["title"]["text"] == "Asia/Kolkata"


def test_prices_are_printed_with_all_their_decimals() -> None:
    assert drawn(THREE_BARS)[1]["yaxis"]["hoverformat"] == ".3f"


def test_the_legend_names_each_study_once() -> None:
    traces, _ = drawn(bars_of(range(40)), "bb:20:2,rsi:14")
    assert [name for name, trace in traces.items() if trace["showlegend"]] == ["BB 20 2 upper"]


def test_no_bars_make_an_empty_figure() -> None:
    traces, _ = drawn(NO_BARS, "sma:20,vwap,rsi:14")
    assert [len(trace["x"]) for trace in traces.values()] == [0] * len(traces)


def test_the_figure_in_words() -> None:
    lines = study_lines(THREE_BARS, parse_studies("sma:2,rsi:14"))
    assert describe_study(THREE_BARS, "AAA/USD", MINUTE, lines) == (
        "Candles of AAA/USD, 3 bars of 1m from 12:00 to 12:03 UTC: unchanged at 0.00 percent to 10.500, between 10.000"
        " and 11.250; the newest bar is forming. At the end: SMA 2 10.375, RSI 14 no value yet."
    )
    assert describe_study(NO_BARS, "AAA/USD", MINUTE) == "A chart of AAA/USD in 1m bars; there are none yet."
