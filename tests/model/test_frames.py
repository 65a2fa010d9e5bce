"""Frames: what counts as one, their canonical names, and the bucket they share."""

from datetime import datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barmill.model.frames import FrameError, parse_frame, parse_frames, partial_length_ms


@pytest.mark.parametrize(
    ("text", "name", "length_ms"),
    [
        ("1s", "1s", 1_000),
        ("60s", "1m", 60_000),
        ("90m", "90m", 5_400_000),
        ("24h", "1d", 86_400_000),
        (" 5m ", "5m", 300_000),
        ("1w", "1w", 604_800_000),
        ("7d", "1w", 604_800_000),
        ("14d", "2w", 1_209_600_000),
    ],
)
def test_a_frame_has_one_name(text: str, name: str, length_ms: int) -> None:
    frame = parse_frame(text)
    assert (frame.text, frame.length_ms) == (name, length_ms)


@pytest.mark.parametrize("text", ["", "1", "s", "0s", "-1m", "1.5m", "1y", "1 m", "1M"])
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(FrameError, match="is not a time frame: write a whole number"):
        parse_frame(text)


def test_frames_come_shortest_first_and_once() -> None:
    assert [frame.text for frame in parse_frames("1h,60s,1s,1m")] == ["1s", "1m", "1h"]


@pytest.mark.parametrize(
    ("frames", "expected_ms"),
    [
        ("1s,1m,1h", 1_000),
        ("7s,1m", 1_000),
        ("5m,15m", 300_000),
        ("1d", 3_600_000),
        ("90m", 2_700_000),
        ("7h", 3_600_000),
        ("1w", 3_600_000),
    ],
)
def test_partials_are_as_long_as_all_frames_allow(frames: str, expected_ms: int) -> None:
    assert partial_length_ms(parse_frames(frames)) == expected_ms


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.sampled_from(["1w", "7d", "2w"]))
def test_weeks_start_on_monday(moment: datetime, text: str) -> None:
    at_ms = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
    frame = parse_frame(text)
    start_ms = frame.start_ms(at_ms)
    start = datetime(1970, 1, 1) + timedelta(milliseconds=start_ms)
    assert (start.isoweekday(), start.time()) == (1, time())
    assert start_ms <= at_ms < start_ms + frame.length_ms
    assert frame.start_ms(start_ms) == frame.first_start_ms(start_ms) == start_ms
    assert frame.slot(start_ms) * frame.length_ms + frame.offset_ms == start_ms


@pytest.mark.parametrize(("shorter", "longer"), [("1s", "1w"), ("1d", "1w"), ("8h", "1w"), ("1w", "2w"), ("1m", "1h")])
def test_a_frame_divides_one_whose_bars_are_whole_numbers_of_its_bars(shorter: str, longer: str) -> None:
    assert parse_frame(shorter).divides(parse_frame(longer))


@pytest.mark.parametrize(("shorter", "longer"), [("7h", "1w"), ("2h", "1h"), ("2w", "3w")])
def test_a_frame_does_not_divide_one_whose_bars_start_between_its_starts(shorter: str, longer: str) -> None:
    assert not parse_frame(shorter).divides(parse_frame(longer))
