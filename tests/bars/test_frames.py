"""Frames: what counts as one, their canonical names, and the bucket they share."""

import pytest

from bar.frames import FrameError, parse_frame, parse_frames, partial_length_ms


@pytest.mark.parametrize(
    ("text", "name", "length_ms"),
    [
        ("1s", "1s", 1_000),
        ("60s", "1m", 60_000),
        ("90m", "90m", 5_400_000),
        ("24h", "1d", 86_400_000),
        (" 5m ", "5m", 300_000),
    ],
)
def test_a_frame_has_one_name(text: str, name: str, length_ms: int) -> None:
    frame = parse_frame(text)
    assert (frame.text, frame.length_ms) == (name, length_ms)


@pytest.mark.parametrize("text", ["", "1", "s", "0s", "-1m", "1.5m", "1w", "1 m", "1M"])
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
    ],
)
def test_partials_are_as_long_as_all_frames_allow(frames: str, expected_ms: int) -> None:
    assert partial_length_ms(parse_frames(frames)) == expected_ms
