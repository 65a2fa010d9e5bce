"""Time frames: the lengths a bar can have, such as `1s`, `1m` or `4h`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
_PATTERN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_HOUR_MS = 3_600_000


class FrameError(ValueError):
    """The text is not a time frame; write a whole number and one of s, m, h, d, such as 15m."""


@dataclass(frozen=True, order=True)
class Frame:
    """One time frame; bars of it start at multiples of `length_ms` since the UTC epoch."""

    length_ms: int

    @property
    def text(self) -> str:
        """Return the canonical name: the largest unit that divides the length, so 60s reads 1m."""
        unit, unit_ms = next((unit, ms) for unit, ms in _UNITS_MS.items() if self.length_ms % ms == 0)
        return f"{self.length_ms // unit_ms}{unit}"


def parse_frame(text: str) -> Frame:
    """Read one frame; raise FrameError for anything but a whole number of s, m, h or d."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        raise FrameError(f"'{text}' is not a time frame: write a whole number and one of s, m, h, d, such as 15m.")
    return Frame(int(match[1]) * _UNITS_MS[match[2]])


def parse_frames(text: str) -> tuple[Frame, ...]:
    """Read a comma-separated list of frames, shortest first, each once."""
    return tuple(sorted({parse_frame(part) for part in text.split(",")}))


# The lengths people look at, of which a store usually holds only a few.
USUAL_FRAMES = parse_frames("5s,15s,30s,1m,5m,15m,30m,1h,4h,1d")


def partial_length_ms(frames: Iterable[Frame]) -> int:
    """Return the longest bucket, at most an hour, of which every frame is a whole number."""
    common_ms = gcd(*(frame.length_ms for frame in frames))
    return next(common_ms // parts for parts in range(1, common_ms + 1) if _fits(common_ms, parts))


def _fits(common_ms: int, parts: int) -> bool:
    return common_ms % parts == 0 and common_ms // parts <= _HOUR_MS
