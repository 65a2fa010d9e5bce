"""Failures of requests to a provider, and reconnection: back-off, a circuit breaker, the rate limits of providers.

No retry library is used, because those count the attempts of one call. Here a connection that was up for some time
resets the count, and the pause is shown to users meanwhile.

RequestError                a request failed; the message is one sentence that contains no key
├── AddressRefusedError     feeds may not reach this address; an admin allows it or corrects it
├── UnreachableError        no response, or the connection broke; usually temporary
├── ServerError             the provider failed internally (5xx); usually temporary
├── LimitedError            too many requests; try again after `retry_after_s`
├── KeyRefusedError         the key, or the requested data, is not allowed (401, 403)
├── NotFoundError           the provider does not know the requested data (most other 4xx): wrong instrument or path
└── InvalidResponseError    the provider responded, but the response cannot be used
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from barmill.ingest.connection.state import Phase
from barmill.platform.clock import backoff


class RequestError(Exception):
    """A request to a provider failed; the message is one sentence that contains no key.

    is_temporary: the error is temporary; the same request may succeed later.
    """

    is_temporary = False


class AddressRefusedError(RequestError):
    """Feeds may not reach this address; correct it, or ask an admin to allow it."""


class UnreachableError(RequestError):
    """No response arrived, or the connection broke; try again later."""

    is_temporary = True


class ServerError(RequestError):
    """The provider failed internally; try again later."""

    is_temporary = True


class LimitedError(RequestError):
    """The provider received too many requests; try again after `retry_after_s` seconds, or later if it is None."""

    is_temporary = True

    def __init__(self, sentence: str, retry_after_s: float | None) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class KeyRefusedError(RequestError):
    """The key, or the data requested with it, is not allowed; store another key."""


class NotFoundError(RequestError):
    """The provider does not know the requested data; correct the instrument, the path or the query."""


class InvalidResponseError(RequestError):
    """The response cannot be used; the message says why."""


@dataclass(frozen=True)
class ReconnectDelays:
    """The delays between attempts to connect.

    first_s, longest_s: the pause after the first failure, doubled after each further failure up to the longest.
    steady_s: if the connection was up this long, the next failure counts as the first. rest_after, rest_s: after this
    many failures in a row, the pause is this long or up to a fifth longer. limited_s: the pause after a rate limit that
    does not state a time.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    steady_s: float = 10.0
    rest_after: int = 12
    rest_s: float = 300.0
    limited_s: float = 30.0


@dataclass(frozen=True)
class Pause:
    """The phase and length of the pause before the next attempt, in seconds."""

    phase: Phase
    seconds: float


Jitter = Callable[[float, float], float]


def backoff_s(failures: int, first_s: float, longest_s: float, jitter: Jitter = random.uniform) -> float:
    """Return the pause after this many failures in a row: doubled each time up to `longest_s`, with jitter."""
    max_pause_s = backoff(failures, first_s, longest_s)
    return jitter(max_pause_s / 2, max_pause_s)


class Attempts:
    """The failures of one connection, with back-off and a circuit breaker."""

    def __init__(self, delays: ReconnectDelays, jitter: Jitter = random.uniform) -> None:
        self._delays, self._jitter = delays, jitter
        self.failures = 0

    def next_pause(self, error: RequestError, connected_s: float = 0.0) -> Pause:
        """Record a failure of a connection that was up for `connected_s` seconds.

        Return the pause before the next attempt.
        """
        delays = self._delays
        self.failures = 1 if connected_s >= delays.steady_s else self.failures + 1
        pause_s = backoff_s(self.failures, delays.first_s, delays.longest_s, self._jitter)
        if isinstance(error, LimitedError):
            requested_s = delays.limited_s if error.retry_after_s is None else error.retry_after_s
            return Pause(Phase.LIMITED, max(pause_s, requested_s))
        if self.failures >= delays.rest_after:
            return Pause(Phase.RESTING, self._jitter(delays.rest_s, delays.rest_s * 1.2))
        return Pause(Phase.WAITING, pause_s)
