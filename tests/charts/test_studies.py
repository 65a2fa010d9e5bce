"""Studies: how a link writes them, and that their lines are what the textbook says."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, pstdev

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from barmill.charts.studies import (
    STUDIES,
    Study,
    StudyError,
    StudyLine,
    parse_studies,
    studies_text,
    study_lines,
    warm_up,
)
from tests.support.chart_bars import DAY_MS, MIDNIGHT_MS, bars_of
from tests.support.page_bars import NO_BARS, THREE_BARS

EVERY_STUDY = "sma:20,ema:50,bb:20:2,vwap,rsi:14,macd:12:26:9,atr:14,volavg:20"
PRICES = [round(100 + 5 * math.sin(place / 7) + math.sin(place), 3) for place in range(120)]


def lines(text: str, bars: pl.DataFrame, earlier: pl.DataFrame | None = None) -> dict[str, StudyLine]:
    return {line.label: line for line in study_lines(bars, parse_studies(text), earlier)}


def values(text: str, closes: Sequence[float]) -> list[float | None]:
    (line,) = study_lines(bars_of(closes), parse_studies(text))
    return line.values


def averaged(closes: Sequence[float], first: float, weight: float) -> list[float]:
    """Return the exponential average that begins with `first` and then takes in each of the closes."""
    average = [first]
    for close in closes:
        average.append(average[-1] + weight * (close - average[-1]))
    return average[1:]


def test_the_text_of_studies_reads_back_as_the_same() -> None:
    studies = parse_studies(EVERY_STUDY)
    assert [study.name for study in studies] == list(STUDIES)
    assert studies_text(studies) == EVERY_STUDY
    assert parse_studies(studies_text(studies)) == studies


def test_numbers_left_out_are_the_usual_ones_and_nothing_is_there_twice() -> None:
    assert studies_text(parse_studies(" SMA, rsi:7,macd:5,sma:20,bb:30:2.50,")) == "sma:20,rsi:7,macd:5:26:9,bb:30:2.5"
    assert parse_studies("") == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wma:3", "'wma' is not a study; choose from sma, ema, bb, vwap, rsi, macd, atr, volavg."),
        ("sma:1", "'1' is not valid for the length: write a whole number from 2 to 500."),
        ("sma:2.5", "'2.5' is not valid for the length: write a whole number from 2 to 500."),
        ("ema:501", "'501' is not valid for the length: write a whole number from 2 to 500."),
        ("bb:20:nan", "'nan' is not valid for the deviations: write a number from 0.1 to 10."),
        ("rsi:14:2", "'rsi:14:2' has too many numbers; write it like rsi:14."),
        ("vwap:5", "'vwap:5' has too many numbers; write it like vwap."),
        ("macd:26:12:9", "'macd:26:12:9' is invalid: the fast length must be smaller than the slow length."),
        (",".join(f"sma:{length}" for length in range(2, 15)), "There are 13 studies; choose at most 12."),
    ],
)
def test_what_names_no_study_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(StudyError) as refused:
        parse_studies(text)
    assert str(refused.value) == sentence


@given(st.lists(st.sampled_from(list(STUDIES)), max_size=12), st.data())
def test_any_choice_of_studies_survives_the_link(names: list[str], data: st.DataObject) -> None:
    studies = []
    for name in names:
        spans = [
            st.integers(int(max(parameter.minimum, 1)), int(parameter.maximum))
            for parameter in STUDIES[name].parameters
        ]
        studies.append(Study(name, tuple(float(data.draw(span)) for span in spans)))
    fits = dict.fromkeys(study for study in studies if study.name != "macd" or study.numbers[0] < study.numbers[1])
    assert parse_studies(studies_text(tuple(fits))) == tuple(fits)


def test_every_line_says_what_it_is_and_where_it_belongs() -> None:
    assert [
        (line.label, line.pane, line.kind) for line in study_lines(bars_of(PRICES), parse_studies(EVERY_STUDY))
    ] == [
        ("SMA 20", "price", "line"),
        ("EMA 50", "price", "line"),
        ("BB 20 2 upper", "price", "line"),
        ("BB 20 2 middle", "price", "line"),
        ("BB 20 2 lower", "price", "line"),
        ("VWAP", "price", "line"),
        ("RSI 14", "rsi:14", "line"),
        ("MACD 12 26 9", "macd:12:26:9", "line"),
        ("MACD 12 26 9 signal", "macd:12:26:9", "line"),
        ("MACD 12 26 9 histogram", "macd:12:26:9", "histogram"),
        ("ATR 14", "atr:14", "line"),
        ("Volume average 20", "volume", "line"),
    ]


@pytest.mark.parametrize("bars", [NO_BARS, THREE_BARS[:1], THREE_BARS, bars_of(PRICES)])
def test_every_line_is_as_long_as_the_bars(bars: pl.DataFrame) -> None:
    assert {len(line.values) for line in study_lines(bars, parse_studies(EVERY_STUDY))} == {bars.height}


def test_the_simple_average_is_the_mean_of_the_last_closes() -> None:
    assert values("sma:3", [1, 2, 6, 10]) == [None, None, 3, 6]


def test_the_exponential_average_begins_with_the_simple_one() -> None:
    expected = averaged(PRICES[10:], fmean(PRICES[:10]), 2 / 11)
    assert values("ema:10", PRICES)[10:] == pytest.approx(expected, rel=1e-9)


def test_bollinger_bands_are_so_many_deviations_from_the_mean() -> None:
    found, last = lines("bb:20:2.5", bars_of(PRICES)), PRICES[-20:]
    assert found["BB 20 2.5 middle"].values[-1] == pytest.approx(fmean(last))
    assert found["BB 20 2.5 upper"].values[-1] == pytest.approx(fmean(last) + 2.5 * pstdev(last))
    assert found["BB 20 2.5 lower"].values[-1] == pytest.approx(fmean(last) - 2.5 * pstdev(last))


def test_the_relative_strength_index_compares_smoothed_gains_and_losses() -> None:
    moves = [after - before for before, after in pairwise(PRICES)]
    gains, losses = ([max(sign * move, 0) for move in moves] for sign in (1, -1))
    up, down = (averaged(side[14:], fmean(side[:14]), 1 / 14) for side in (gains, losses))
    expected = [100 * gain / (gain + loss) for gain, loss in zip(up, down, strict=True)]
    assert values("rsi:14", PRICES)[15:] == pytest.approx(expected, rel=1e-9)
    assert values("rsi:14", PRICES)[:14] == [None] * 14


def test_macd_is_the_distance_of_two_averages_and_its_histogram_that_to_its_own() -> None:
    found = {label.removeprefix("MACD 12 26 9"): line.values for label, line in lines("macd", bars_of(PRICES)).items()}
    # TA-Lib begins both averages at the same bar, the 26th.
    fast = averaged(PRICES[26:], fmean(PRICES[14:26]), 2 / 13)
    slow = averaged(PRICES[26:], fmean(PRICES[:26]), 2 / 27)
    expected = [value - other for value, other in zip(fast, slow, strict=True)]
    assert found[""][33:] == pytest.approx(expected[7:], rel=1e-7)
    assert found[""][:33] == [None] * 33
    for line, signal, histogram in zip(*(found[name][33:] for name in ("", " signal", " histogram")), strict=True):
        assert line is not None
        assert signal is not None
        assert histogram == pytest.approx(line - signal, abs=1e-8)


def test_the_true_range_reaches_back_to_the_close_before() -> None:
    # Each bar reaches half a unit beyond its opening and its closing price, and opens where the one before closed.
    ranges = [abs(after - before) + 1 for before, after in pairwise(PRICES)]
    expected = averaged(ranges[14:], fmean(ranges[:14]), 1 / 14)
    assert values("atr:14", PRICES)[15:] == pytest.approx(expected, rel=1e-9)


def test_a_volume_that_is_not_known_does_not_count() -> None:
    bars = bars_of([1, 1, 1, 1, 1], volumes=[2.0, 4.0, None, 8.0, 0.0])
    assert lines("volavg:2", bars)["Volume average 2"].values == [None, 3, None, 6, 4]
    nothing = bars_of([1, 1, 1], volumes=[None] * 3)
    assert lines("volavg:2,vwap", nothing)["Volume average 2"].values == [None] * 3


def test_vwap_weighs_by_volume_and_begins_anew_at_midnight() -> None:
    bars = bars_of([10, 20, 30, 40, 50], volumes=[1.0, 3.0, 5.0, None, 2.0], from_ms=MIDNIGHT_MS + DAY_MS - 2 * 60_000)
    assert lines("vwap", bars)["VWAP"].values == [10, 17.5, 30, 30, pytest.approx(250 / 7)]


def test_vwap_begins_with_what_was_traded_earlier_that_day() -> None:
    bars, noon = bars_of(PRICES, volumes=[1 + place % 5 for place in range(120)]), 60
    whole = lines("vwap", bars)["VWAP"].values
    assert lines("vwap", bars[noon:])["VWAP"].values != whole[noon:]
    assert lines("vwap", bars[noon:], bars[:noon])["VWAP"].values == whole[noon:]


def test_without_volume_there_is_no_vwap() -> None:
    assert lines("vwap", bars_of([1, 2], volumes=[None, None]))["VWAP"].values == [None, None]


@pytest.mark.parametrize("study", [text for text in EVERY_STUDY.split(",") if text != "vwap"])
def test_the_warm_up_makes_the_lines_independent_of_where_reading_begins(study: str) -> None:
    studies = parse_studies(study)
    before = warm_up(studies)
    prices = [100 + 5 * math.sin(place / 7) + math.sin(place) for place in range(before + 400)]
    bars = bars_of(prices, volumes=[1 + place % 5 for place in range(len(prices))])
    shown = before + 300
    for all_of_it, enough in zip(study_lines(bars, studies), study_lines(bars[shown - before :], studies), strict=True):
        assert None not in enough.values[before:]
        assert enough.values[before:] == pytest.approx(all_of_it.values[shown:], rel=1e-7, abs=1e-8)


def test_no_studies_need_no_bars_before() -> None:
    assert warm_up(()) == warm_up(parse_studies("vwap")) == 0
    assert warm_up(parse_studies("sma:20,sma:50")) == 50
