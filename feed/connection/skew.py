"""The provider's clock against ours, from the times it puts into what it sends."""

from collections import deque
from statistics import median

_KEPT = 101
# An HTTP date names a second that has begun: on average it is half a second behind.
_WITHIN_DATE_MS = 500


class Skew:
    """The median of the newest differences: one late message, or one wrong stamp, moves it hardly at all."""

    def __init__(self) -> None:
        self._of_messages: deque[int] = deque(maxlen=_KEPT)
        self._of_dates: deque[int] = deque(maxlen=_KEPT)

    def heard(self, server_ms: int, heard_ms: int) -> None:
        """Take note of a time in a message and of when it was heard, by our clock."""
        self._of_messages.append(server_ms - heard_ms)

    def dated(self, date_ms: int, heard_ms: int) -> None:
        """Take note of an HTTP date, which counts only where messages carry no time."""
        self._of_dates.append(date_ms + _WITHIN_DATE_MS - heard_ms)

    @property
    def ms(self) -> float | None:
        """Return by how much the provider's clock is ahead of ours, what the way takes included; None if unknown."""
        differences = self._of_messages or self._of_dates
        return float(median(differences)) if differences else None
