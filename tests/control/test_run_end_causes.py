"""Why a run ended: never from an exception that it had recovered from."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.jobs.decisions import Close
from control.jobs.model import Kind, Operation, OperationParameters, Outcome, State, StopMode
from control.jobs.views import RunEnd, explain_end
from tests.support.jobs import NOW_MS, RUN, asked, ended

OLD = "Traceback:\nValueError: an old one"
AT = "1970-01-01 02:46:39 UTC"


def over(operation: Operation, *, ago_ms: int = 0, **changes: object) -> Operation:
    changed = replace(operation, ended_ms=NOW_MS - ago_ms, outcome=Outcome.DONE)
    return replace(changed, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("end", "operation", "sentence"),
    [
        (State.STOPPED, over(asked(Kind.RESTART)), f"Restarted by ada, requested at {AT}."),
        (State.STOPPED, over(asked(Kind.STOP)), f"Stopped by ada, requested at {AT}."),
        (State.CANCELED, over(asked(Kind.STOP, mode=StopMode.LAST_STATE)), f"Cancelled by ada, requested at {AT}."),
        (State.CANCELED, over(asked(Kind.DELETE)), f"Deleted by ada, requested at {AT}."),
        (State.STOPPED, asked(Kind.UPGRADE), f"Upgraded by ada, requested at {AT}."),
        (
            State.CANCELED,
            over(asked(Kind.UPGRADE), run=RUN.id, problem="Version 2 did not become stable."),
            f"The upgrade by ada, requested at {AT} was rolled back: Version 2 did not become stable.",
        ),
        (State.CANCELED, over(asked(Kind.RESCALE)), "It was cancelled; no operation was recorded."),
        (State.STOPPED, over(asked(Kind.STOP), ago_ms=1), "It was stopped; no operation was recorded."),
    ],
)
def test_a_run_that_was_asked_to_end_says_by_whom(end: State, operation: Operation, sentence: str) -> None:
    """What an earlier version wrote down as its cause, an exception of an hour before, is not it."""
    assert explain_end(ended(end, cause=OLD), [operation]) == RunEnd(sentence)


def test_the_last_of_two_operations_ended_it() -> None:
    gentle = over(asked(Kind.STOP, ago_ms=9_000), ago_ms=0)
    at_once = Operation("e" * 32, "bars", Kind.DELETE, OperationParameters(), "eve", NOW_MS - 500)
    found = explain_end(ended(State.CANCELED), [gentle, at_once])
    assert found is not None
    assert found.sentence.startswith("Deleted by eve,")


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_was_set_hides_nobody(hours: int) -> None:
    """The operation that was open counts, whatever the times; here the clock is set while the job is stopped."""
    stop, later = (
        over(asked(Kind.STOP)),
        Operation("e" * 32, "bars", Kind.RESTART, OperationParameters(), "eve", NOW_MS - 1),
    )
    run = ended(State.STOPPED, ago_ms=hours * 3_600_000, ended_by=stop.id)
    assert explain_end(run, [later, stop]) == RunEnd(f"Stopped by ada, requested at {AT}.")
    alone = replace(run, ended_by="")
    assert explain_end(alone, [later, stop]) == RunEnd("It was stopped; no operation was recorded.")


def test_a_run_that_failed_says_what_failed() -> None:
    failed = ended(State.FAILED, cause=OLD)
    assert explain_end(failed, [over(asked(Kind.RESTART))]) == RunEnd("ValueError: an old one.", OLD)
    assert explain_end(ended(State.LOST), []) == RunEnd(State.LOST.sentence)
    assert explain_end(ended(State.FINISHED), []) == RunEnd("It ended in the state finished; the cause is unknown.")
    assert explain_end(RUN, []) is None


def test_only_a_run_that_failed_is_asked_for_its_exception() -> None:
    ends = {end for end in State if end.is_terminal or end is State.STOPPED}
    failed = {end for end in ends if Close(RUN.id, end, "").failed}
    assert ends - failed == {State.STOPPED, State.CANCELED, State.FINISHED}


TIMES = st.integers(NOW_MS - 5_000, NOW_MS + 5_000)
OPERATIONS = st.builds(
    lambda kind, at_ms, took_ms, mode: replace(
        asked(kind, mode=mode), requested_ms=at_ms, ended_ms=None if took_ms is None else at_ms + took_ms
    ),
    st.sampled_from(Kind),
    TIMES,
    st.none() | st.integers(0, 5_000),
    st.sampled_from(StopMode),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OPERATIONS, max_size=5), st.sampled_from([State.STOPPED, State.CANCELED]))
def test_a_reason_always_names_an_operation_of_that_moment(operations: list[Operation], end: State) -> None:
    found = explain_end(ended(end, cause=OLD), operations)
    assert found is not None
    assert "ValueError" not in found.sentence + found.trace
    ending = (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)
    at_that_time = [
        operation
        for operation in operations
        if operation.kind in ending
        and operation.requested_ms <= NOW_MS
        and (operation.ended_ms is None or operation.ended_ms >= NOW_MS)
    ]
    assert ("by ada" in found.sentence) == bool(at_that_time)
