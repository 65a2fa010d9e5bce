"""Units of time, the wall clock, back-off, and waiting with a deadline for a condition outside this process."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
US_PER_S = 1_000_000
MS_PER_S = 1_000
MS_PER_MINUTE = 60_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000
_MAX_DOUBLINGS = 30  # exceeds any pause and stays within the range of a float
_Pause = TypeVar("_Pause", int, float)


def now_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // NS_PER_MS


def backoff(failures: int, first_pause: _Pause, max_pause: _Pause) -> _Pause:
    """Return the pause after this many failures in a row (at least 1): doubled each time, up to max_pause."""
    return min(max_pause, first_pause * (1 << min(failures - 1, _MAX_DOUBLINGS)))


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    *,
    every_s: float = 0.05,
    stop: threading.Event | None = None,
) -> bool:
    """Return True as soon as the condition, checked every `every_s`, holds; False on timeout or when `stop` is set."""
    pause = stop or threading.Event()
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0 or pause.wait(min(every_s, remaining_s)):
            return False
    return True
