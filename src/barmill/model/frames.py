"""Time frames: the lengths a bar can have, such as `1s`, `1m`, `4h` or `1w`. Weeks start on Monday."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from typing import TypeVar

import polars as pl

from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE, MS_PER_S

_WEEK_MS = 7 * MS_PER_DAY
_UNITS_MS = {"w": _WEEK_MS, "d": MS_PER_DAY, "h": MS_PER_HOUR, "m": MS_PER_MINUTE, "s": MS_PER_S}
_PATTERN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
# The epoch was a Thursday; the first Monday after it is four days later.
_MONDAY_MS = 4 * MS_PER_DAY

Time = TypeVar("Time", int, pl.Expr, pl.Series)


class FrameError(ValueError):
    """The text is not a time frame. Write a whole number and one of s, m, h, d, w, such as 15m."""


@dataclass(frozen=True, order=True)
class Frame:
    """A time frame. Bars start at multiples of `length_ms` since the UTC epoch; whole weeks start on a Monday."""

    length_ms: int

    @property
    def text(self) -> str:
        """Return the canonical name, in the largest unit that divides the length: 60s becomes 1m, 7d becomes 1w."""
        unit, unit_ms = next((unit, ms) for unit, ms in _UNITS_MS.items() if self.length_ms % ms == 0)
        return f"{self.length_ms // unit_ms}{unit}"

    @property
    def offset_ms(self) -> int:
        """Return the time from the epoch to the start of the first bar, in ms."""
        return 0 if self.length_ms % _WEEK_MS else _MONDAY_MS

    def start_ms(self, at_ms: Time) -> Time:
        """Return the start of the bar that contains a time (ms since the epoch)."""
        return self.slot(at_ms) * self.length_ms + self.offset_ms

    def slot(self, at_ms: Time) -> Time:
        """Return the grid index of the bar that contains a time (ms since the epoch). The first bar is 0."""
        return (at_ms - self.offset_ms) // self.length_ms

    def first_start_ms(self, from_ms: int) -> int:
        """Return the start of the first bar that starts at or after a time (ms since the epoch)."""
        return self.start_ms(from_ms + self.length_ms - 1)

    def divides(self, longer: "Frame") -> bool:
        """Return whether every bar of the other frame is a whole number of bars of this frame."""
        return longer.length_ms % self.length_ms == 0 and (longer.offset_ms - self.offset_ms) % self.length_ms == 0


def parse_frame(text: str) -> Frame:
    """Parse one frame: a whole number of s, m, h, d or w, from 1 to 999,999. Raise FrameError for other texts."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise FrameError(f"'{text}' is not a time frame: write a whole number and one of s, m, h, d, w, such as 15m.")
    return Frame(int(match[1]) * _UNITS_MS[match[2]])


def parse_frames(text: str) -> tuple[Frame, ...]:
    """Parse a comma-separated list of frames. Return them shortest first, without repeats.

    Raise FrameError if a part of the list is not a frame.
    """
    return tuple(sorted({parse_frame(part) for part in text.split(",")}))


# Commonly used frames. A store usually holds only a few of them.
USUAL_FRAMES = parse_frames("5s,15s,30s,1m,5m,15m,30m,1h,4h,1d,1w")


def partial_length_ms(frames: Iterable[Frame]) -> int:
    """Return the length in ms of the longest bucket, at most one hour, that divides every frame."""
    common_ms = gcd(*(part_ms for frame in frames for part_ms in (frame.length_ms, frame.offset_ms)))
    return next(common_ms // parts for parts in range(1, common_ms + 1) if _is_bucket_count(common_ms, parts))


def _is_bucket_count(common_ms: int, parts: int) -> bool:
    return common_ms % parts == 0 and common_ms // parts <= MS_PER_HOUR
