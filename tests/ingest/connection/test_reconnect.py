"""Back-off, circuit breaker and rate limits, without any waiting."""

from barmill.ingest.connection.reconnect import (
    Attempts,
    LimitedError,
    Pause,
    ReconnectDelays,
    UnreachableError,
    backoff_s,
)
from barmill.ingest.connection.state import Phase

LOST = UnreachableError("It closed the connection.")
PATIENCE = ReconnectDelays(first_s=1, longest_s=10, steady_s=5, rest_after=6, rest_s=300, limited_s=30)


def longest(_low: float, high: float) -> float:
    return high


def test_pauses_double_up_to_the_longest_and_vary_by_half() -> None:
    assert [backoff_s(n, 1, 10, longest) for n in (1, 2, 3, 4, 5, 400)] == [1, 2, 4, 8, 10, 10]
    assert backoff_s(3, 1, 10, lambda low, _high: low) == 2


def test_many_failures_in_a_row_lead_to_rests_with_one_trial_each() -> None:
    attempts = Attempts(PATIENCE, longest)
    pauses = [attempts.next_pause(LOST) for _ in range(8)]
    assert pauses[:5] == [Pause(Phase.WAITING, s) for s in (1, 2, 4, 8, 10)]
    assert pauses[5:] == [Pause(Phase.RESTING, 360)] * 3


def test_a_connection_that_stood_makes_the_next_failure_a_first_one() -> None:
    attempts = Attempts(PATIENCE, longest)
    for _ in range(7):
        attempts.next_pause(LOST)
    assert attempts.next_pause(LOST, connected_s=4.9).phase is Phase.RESTING
    assert attempts.next_pause(LOST, connected_s=5) == Pause(Phase.WAITING, 1)
    assert attempts.next_pause(LOST) == Pause(Phase.WAITING, 2)


def test_a_rate_limit_is_waited_for_as_long_as_it_says_and_never_shorter_than_the_back_off() -> None:
    attempts = Attempts(PATIENCE, longest)
    assert attempts.next_pause(LimitedError("Too often.", 17.0)) == Pause(Phase.LIMITED, 17)
    assert attempts.next_pause(LimitedError("Too often.", 0.0)) == Pause(Phase.LIMITED, 2)
    assert attempts.next_pause(LimitedError("Too often.", None)) == Pause(Phase.LIMITED, 30)
