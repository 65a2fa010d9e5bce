"""Why a run ended: never from an exception that it had recovered from."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.jobs.endings import Ending, why_ended
from control.jobs.operations import Kind, Operation, Outcome, StopMode, Wanted
from control.jobs.reconcile import Close
from control.jobs.states import State
from tests.control.jobs import NOW_MS, RUN, asked, ended

OLD = "Traceback:\nValueError: an old one"
AT = "1970-01-01 02:46:39 UTC"


def over(operation: Operation, *, ago_ms: int = 0, **changes: object) -> Operation:
    changed = replace(operation, ended_ms=NOW_MS - ago_ms, outcome=Outcome.DONE)
    return replace(changed, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("end", "operation", "sentence"),
    [
        (State.STOPPED, over(asked(Kind.RESTART)), f"Restarted by ada, asked for at {AT}."),
        (State.STOPPED, over(asked(Kind.STOP)), f"Stopped by ada, asked for at {AT}."),
        (State.CANCELED, over(asked(Kind.STOP, mode=StopMode.LAST_STATE)), f"Cancelled by ada, asked for at {AT}."),
        (State.CANCELED, over(asked(Kind.DELETE)), f"Deleted by ada, asked for at {AT}."),
        (State.STOPPED, asked(Kind.UPGRADE), f"Upgraded by ada, asked for at {AT}."),
        (
            State.CANCELED,
            over(asked(Kind.UPGRADE), run=RUN.id, problem="Version 2 did not become stable."),
            f"The upgrade by ada, asked for at {AT} was undone: Version 2 did not become stable.",
        ),
        (State.CANCELED, over(asked(Kind.RESCALE)), "It was cancelled; no operation on record says by whom."),
        (State.STOPPED, over(asked(Kind.STOP), ago_ms=1), "It was stopped; no operation on record says by whom."),
    ],
)
def test_a_run_that_was_asked_to_end_says_by_whom(end: State, operation: Operation, sentence: str) -> None:
    """What an earlier version wrote down as its cause, an exception of an hour before, is not it."""
    assert why_ended(ended(end, cause=OLD), [operation]) == Ending(sentence)


def test_the_last_of_two_operations_ended_it() -> None:
    gentle = over(asked(Kind.STOP, ago_ms=9_000), ago_ms=0)
    at_once = Operation("e" * 32, "bars", Kind.DELETE, Wanted(), "eve", NOW_MS - 500)
    found = why_ended(ended(State.CANCELED), [gentle, at_once])
    assert found is not None
    assert found.sentence.startswith("Deleted by eve,")


def test_a_run_that_failed_says_what_failed() -> None:
    failed = ended(State.FAILED, cause=OLD)
    assert why_ended(failed, [over(asked(Kind.RESTART))]) == Ending("ValueError: an old one.", OLD)
    assert why_ended(ended(State.LOST), []) == Ending(State.LOST.sentence)
    assert why_ended(ended(State.FINISHED), []) == Ending("It ended as finished; no cause is known.")
    assert why_ended(RUN, []) is None


def test_only_a_run_that_failed_is_asked_for_its_exception() -> None:
    ends = {end for end in State if end.terminal or end is State.STOPPED}
    failed = {end for end in ends if Close(RUN.id, end, "").failed}
    assert ends - failed == {State.STOPPED, State.CANCELED, State.FINISHED}


TIMES = st.integers(NOW_MS - 5_000, NOW_MS + 5_000)
OPERATIONS = st.builds(
    lambda kind, at_ms, took_ms, mode: replace(
        asked(kind, mode=mode), asked_ms=at_ms, ended_ms=None if took_ms is None else at_ms + took_ms
    ),
    st.sampled_from(Kind),
    TIMES,
    st.none() | st.integers(0, 5_000),
    st.sampled_from(StopMode),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(OPERATIONS, max_size=5), st.sampled_from([State.STOPPED, State.CANCELED]))
def test_a_reason_always_names_an_operation_of_that_moment(operations: list[Operation], end: State) -> None:
    found = why_ended(ended(end, cause=OLD), operations)
    assert found is not None
    assert "ValueError" not in found.sentence + found.trace
    ending = (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)
    at_that_time = [
        one
        for one in operations
        if one.kind in ending and one.asked_ms <= NOW_MS and (one.ended_ms is None or one.ended_ms >= NOW_MS)
    ]
    assert ("by ada" in found.sentence) == bool(at_that_time)
