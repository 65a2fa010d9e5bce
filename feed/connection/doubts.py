"""Gaps that a provider cannot count: where rows may be missing, shown for an hour and counted for ever."""

from collections.abc import Callable
from datetime import UTC, datetime

_SHOWN_MS = 3_600_000
_MOST_SHOWN = 3
_MOST_KEPT = 1_000
_NS_PER_S = 1_000_000_000


class Doubts:
    """What may be missing, by what it is about; count is of all that were ever noted."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._noted: dict[str, tuple[int, str]] = {}
        self.count = 0

    def note(self, about: str, sentence: str, count: int = 1) -> None:
        """Count a gap, or with 0 one that is counted elsewhere; the sentence replaces an earlier one about the same."""
        self._noted.pop(about, None)
        self._noted[about] = (self._clock_ms(), sentence)
        self.count += count
        if len(self._noted) > _MOST_KEPT:
            del self._noted[next(iter(self._noted))]

    @property
    def sentence(self) -> str:
        """Say what may be missing of the last hour, the newest first; empty where nothing is."""
        now_ms = self._clock_ms()
        shown = [text for at_ms, text in reversed(self._noted.values()) if now_ms - at_ms < _SHOWN_MS]
        more = len(shown) - _MOST_SHOWN
        return " ".join([*shown[:_MOST_SHOWN], *([f"And {more:,} more."] if more > 0 else [])])


def span(from_ns: int, to_ns: int) -> str:
    """Return a stretch of time in words, in UTC to the second."""
    first, last = (datetime.fromtimestamp(at_ns // _NS_PER_S, UTC) for at_ns in (from_ns, to_ns))
    return f"between {first:%Y-%m-%d %H:%M:%S} and {last:%Y-%m-%d %H:%M:%S} UTC"
