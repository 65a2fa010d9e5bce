from hypothesis import given
from hypothesis import strategies as st

from barmill.platform.clock import backoff


def test_the_pause_doubles_up_to_the_longest() -> None:
    assert [backoff(failures, 0.5, 3.0) for failures in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert [backoff(failures, 200, 1_000) for failures in (1, 2, 3, 4)] == [200, 400, 800, 1_000]


@given(st.integers(1, 10**9))
def test_any_number_of_failures_has_a_pause_within_the_limits(failures: int) -> None:
    assert 5.0 <= backoff(failures, 5.0, 600.0) <= backoff(failures + 1, 5.0, 600.0) <= 600.0
