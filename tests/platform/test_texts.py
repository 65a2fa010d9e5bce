import pytest

from barmill.charts.candles import describe_chart, utc_time
from barmill.model.frames import parse_frame
from barmill.platform.texts import age, change
from tests.support.page_bars import NO_BARS, NOON_MS, THREE_BARS


@pytest.mark.parametrize(
    ("age_ms", "text"),
    [
        (-3, "0.0 s"),
        (440, "0.4 s"),
        (9_999, "10.0 s"),
        (10_000, "10 s"),
        (119_999, "119 s"),
        (120_000, "2 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 d"),
    ],
)
def test_age(age_ms: int, text: str) -> None:
    assert age(age_ms) == text


@pytest.mark.parametrize(
    ("frame", "text"), [("1s", "12:00:00"), ("5m", "12:00"), ("1h", "12:00"), ("1d", "2025-11-25")]
)
def test_times_are_no_finer_than_the_frame(frame: str, text: str) -> None:
    assert utc_time(NOON_MS, parse_frame(frame)) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.0123, "▲ +1.23 %"),
        (-0.5, "▼ −50.00 %"),
        (0.0, "■ +0.00 %"),
        (-0.00001, "■ +0.00 %"),
        (0.00001, "■ +0.00 %"),
        (-0.0001, "▼ −0.01 %"),
    ],
)
def test_changes_read_without_colours(ratio: float, text: str) -> None:
    assert change(ratio) == text


def test_a_chart_in_words() -> None:
    assert describe_chart(THREE_BARS, "AAA/USD", parse_frame("1m")) == (
        "Candles of AAA/USD, 3 bars of 1m from 12:00 to 12:03 UTC: unchanged at 0.00 percent to 10.500,"
        " between 10.000 and 11.250; the newest bar is forming."
    )


def test_an_empty_chart_in_words() -> None:
    assert describe_chart(NO_BARS, "AAA/USD", parse_frame("1m")) == "A chart of AAA/USD in 1m bars; there are none yet."
