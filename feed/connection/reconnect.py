"""When to try a provider again: sooner after one failure, later after many, and when it says so itself.

Written here and not taken from a retry library: those count the attempts of one call, while a connection that has stood
for a while starts to count anew, and what is waited for is shown meanwhile.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from feed.connection.errors import LimitedError, QuestionError
from feed.connection.state import Phase

_MAX_DOUBLINGS = 30  # beyond any pause, and within what a float holds


@dataclass(frozen=True)
class Patience:
    """How long to wait between attempts.

    first_s, longest_s: after the first failure, doubled with each up to the longest. steady_s: a connection that stood
    for so long makes the next failure a first one. rest_after, rest_s: after so many failures in a row there is only
    one trial every so often. limited_s: after a rate limit that does not say for how long.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    steady_s: float = 10.0
    rest_after: int = 12
    rest_s: float = 300.0
    limited_s: float = 30.0


@dataclass(frozen=True)
class Pause:
    """What to do until the next attempt."""

    phase: Phase
    seconds: float


Spread = Callable[[float, float], float]


def backoff_s(failures: int, first_s: float, longest_s: float, spread: Spread = random.uniform) -> float:
    """Return how long to wait after so many failures in a row: twice as long each time, with jitter."""
    most = min(longest_s, first_s * 2 ** min(failures - 1, _MAX_DOUBLINGS))
    return spread(most / 2, most)


class Attempts:
    """The failures of one connection, and what follows from them: back-off, and a circuit breaker."""

    def __init__(self, patience: Patience, spread: Spread = random.uniform) -> None:
        self._patience, self._spread = patience, spread
        self.failures = 0

    def failed(self, error: QuestionError, stood_s: float = 0.0) -> Pause:
        """Take note of a failure after the connection had stood for `stood_s`; say how long to wait, and as what."""
        patience = self._patience
        self.failures = 1 if stood_s >= patience.steady_s else self.failures + 1
        pause_s = backoff_s(self.failures, patience.first_s, patience.longest_s, self._spread)
        if isinstance(error, LimitedError):
            asked_s = patience.limited_s if error.retry_after_s is None else error.retry_after_s
            return Pause(Phase.LIMITED, max(pause_s, asked_s))
        if self.failures >= patience.rest_after:
            return Pause(Phase.RESTING, self._spread(patience.rest_s, patience.rest_s * 1.2))
        return Pause(Phase.WAITING, pause_s)
