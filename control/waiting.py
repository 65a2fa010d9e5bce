"""Wait for something outside this process, with a deadline."""

import threading
import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    *,
    every_s: float = 0.05,
    stop: threading.Event | None = None,
) -> bool:
    """Return True as soon as the condition holds, False when the time is up or `stop` is set."""
    pause = stop or threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0 or pause.wait(min(every_s, left)):
            return False
    return True
