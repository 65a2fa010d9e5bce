"""How a measured value went: what is drawn, and what is said about it."""

import json
from typing import Any

import polars as pl
import pytest

from barmill.charts.history import Span, Unit, describe_history, history_figure, newest_values_text

NOW_MS = 1_764_072_000_000
SPAN = Span(NOW_MS - 3_600_000, NOW_MS, gap_ms=30_000)


def line(*values: float, every_ms: int = 5_000) -> pl.DataFrame:
    times = [NOW_MS - every_ms * back for back in range(len(values) - 1, -1, -1)]
    return pl.DataFrame({"time_ms": times, "value": list(values)}, {"time_ms": pl.Int64, "value": pl.Float64})


def drawn(unit: Unit = Unit.RATE, **lines: pl.DataFrame) -> Any:
    return json.loads(history_figure(lines, unit, SPAN).to_json())


def test_every_point_is_drawn_where_it_was_measured() -> None:
    figure = drawn(accepted=line(5, 7.123456, 6), refused=line(0, 0, 1))
    accepted, refused = figure["data"]
    assert accepted["x"] == [NOW_MS - 10_000, NOW_MS - 5_000, NOW_MS]
    assert accepted["y"] == [5, 7.1235, 6]
    assert (accepted["name"], refused["name"]) == ("accepted", "refused")
    assert figure["layout"]["xaxis"]["autorangeoptions"]["include"] == [SPAN.from_ms, SPAN.to_ms]


def test_where_nothing_was_measured_the_line_is_broken() -> None:
    gap = pl.concat([line(1, 2).with_columns(pl.col("time_ms") - 60_000), line(3, 4)])
    (trace,) = drawn(x=gap)["data"]
    assert trace["y"] == [1, 2, None, 3, 4]
    assert trace["x"][2] == NOW_MS - 5_000 - 1
    (trace,) = drawn(x=line(1, 2, 3, every_ms=30_000))["data"]
    assert trace["y"] == [1, 2, 3]


def test_new_data_leave_a_zoom_alone() -> None:
    first, later = drawn(x=line(1))["layout"], drawn(x=line(1, 2))["layout"]
    assert first["uirevision"] == later["uirevision"]
    assert "range" not in first["xaxis"]


def test_an_axis_begins_at_zero_and_reaches_far_enough_for_nothing_to_look_like_much() -> None:
    low, high = drawn(Unit.SHARE, x=line(0, 0.02))["layout"]["yaxis"]["range"]
    assert low == 0
    assert 1 <= high < 1.2
    assert drawn(Unit.RATE, x=line(0, 900))["layout"]["yaxis"]["range"][1] == pytest.approx(945)


def test_one_line_needs_no_legend() -> None:
    assert not drawn(x=line(1))["layout"]["showlegend"]
    assert drawn(x=line(1), y=line(2))["layout"]["showlegend"]


def test_days_are_told_by_their_date() -> None:
    week = Span(NOW_MS - 7 * 86_400_000, NOW_MS, 1)
    assert "%b" in history_figure({"x": line(1)}, Unit.RATE, week).layout.xaxis.tickformat
    assert "%H" in history_figure({"x": line(1)}, Unit.RATE, SPAN).layout.xaxis.tickformat


def test_the_figure_in_words() -> None:
    assert describe_history("Ticks in", {}, Unit.RATE) == "Ticks in: nothing was measured in this range."
    assert describe_history("Backlog", {"x": line(3, 1_200, 7)}, Unit.COUNT) == "Backlog. Now 7, between 3 and 1,200."
    two = {"accepted": line(100, 120), "refused": line(0, 0)}
    assert describe_history("Ticks in", two, Unit.RATE) == (
        "Ticks in. accepted: now 120/s, between 100/s and 120/s. refused: now 0/s, always 0/s."
    )


def test_the_newest_values_where_there_is_room_for_them() -> None:
    assert newest_values_text({}, Unit.RATE) == ""
    assert newest_values_text({"x": line(1, 25)}, Unit.RATE) == "25/s"
    assert newest_values_text({"in": line(1), "out": line(2)}, Unit.RATE) == "in 1.0/s, out 2.0/s"
    assert newest_values_text({f"process {n}": line(1) for n in range(9)}, Unit.RATE) == ""


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        (Unit.COUNT, 12_345, "12,345"),
        (Unit.RATE, 0, "0/s"),
        (Unit.RATE, 0.25, "0.2/s"),
        (Unit.RATE, 1_234.5, "1,234/s"),
        (Unit.SECONDS, 0.512, "0.51 s"),
        (Unit.SECONDS, 600, "10 min"),
        (Unit.SHARE, 0.456, "46 %"),
        (Unit.BYTES, 999, "999 B"),
        (Unit.BYTES, 1_536_000, "1.54 MB"),
        (Unit.BYTES, 5.1e10, "51 GB"),
        (Unit.CORES, 0.127, "0.13"),
    ],
)
def test_values_in_words(unit: Unit, value: float, words: str) -> None:
    assert unit.format(value) == words
