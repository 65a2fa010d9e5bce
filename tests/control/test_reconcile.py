"""The steady work: one run of a job that should run, none of one that should not."""

from dataclasses import replace

import pytest

from control.flink.model import JobState
from control.jobs.decisions import Cancel, Close, Submit, Wait
from control.jobs.model import Desired, JobRun, State
from control.jobs.planner import EARLY_FAILURE_MS, MAX_FAILURES, SUBMIT_GRACE_MS, decide
from tests.support.jobs import CHECKPOINT, JOB, NOW_MS, OLDER, RUN, ended, seen

FROM_THE_BEGINNING = Submit(None, "The job is being started from the beginning of the tick log.")
STOPPED = replace(JOB, desired=Desired.STOPPED)


def test_a_job_that_never_ran_is_started_from_the_beginning() -> None:
    assert decide(seen(restore_points=())) == Submit(
        None, "The job is being started from the beginning of the tick log."
    )


def test_nothing_is_done_while_the_cluster_does_not_answer() -> None:
    decision = decide(seen(RUN, incarnation=None))
    assert isinstance(decision, Wait)
    assert decision.state is State.UNKNOWN  # not "failed": the outcome is unknown


def test_nothing_is_started_without_a_taskmanager() -> None:
    assert decide(seen(taskmanagers=0)) == Wait(State.WAITING, "The job waits for a TaskManager.")


def test_a_running_job_is_left_alone() -> None:
    for state in JobState:
        if not state.is_terminal:
            assert decide(seen(RUN, state=state)) == Wait(State(state.value), state.sentence)


def test_a_run_that_ended_is_closed_first_and_followed_by_one_from_its_newest_checkpoint() -> None:
    for state in (JobState.FAILED, JobState.CANCELED, JobState.FINISHED):
        assert decide(seen(RUN, state=state)) == Close(RUN.id, State(state.value), state.sentence)
        decision = decide(seen(ended(State(state.value)), state=state))
        assert isinstance(decision, Submit)
        assert decision.restore == CHECKPOINT


def test_a_new_jobmanager_has_lost_the_run_and_gets_a_new_one_at_once() -> None:
    decision = decide(seen(RUN, incarnation="jm-2"))
    assert isinstance(decision, Close)
    assert decision.end is State.LOST
    assert isinstance(decide(seen(ended(State.LOST, lived_ms=1_000), incarnation="jm-2")), Submit)


def test_a_submit_without_an_answer_is_given_time_before_it_counts_as_lost() -> None:
    young = replace(RUN, created_ms=NOW_MS - SUBMIT_GRACE_MS)
    assert isinstance(decide(seen(young)), Wait)
    assert isinstance(decide(seen(replace(young, created_ms=young.created_ms - 1))), Close)


def test_a_run_that_shows_up_late_is_cancelled_before_anything_is_started() -> None:
    late = "b" * 32
    for runs in ((RUN,), (ended(State.LOST),), ()):
        decision = decide(seen(*runs, active_runs=[late]))
        assert isinstance(decision, Cancel)
        assert decision.run_id == late
    # Given up on too early: the run itself is the stray.
    again = decide(seen(ended(State.LOST), state=JobState.RUNNING))
    assert isinstance(again, Cancel)
    assert again.run_id == RUN.id


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.CREATED, JobState.RESTARTING])
def test_a_job_that_should_not_run_is_cancelled(state: JobState) -> None:
    assert decide(seen(RUN, state=state, job=STOPPED)) == Cancel(RUN.id, JobState.CANCELLING.sentence)
    assert decide(seen(RUN, state=JobState.CANCELLING, job=STOPPED)) == Wait(
        State.CANCELLING, JobState.CANCELLING.sentence
    )
    assert isinstance(decide(seen(RUN, state=JobState.CANCELED, job=STOPPED)), Close)
    assert decide(seen(ended(State.CANCELED), job=STOPPED)) == Wait(State.STOPPED, State.STOPPED.sentence)


def failures(
    count: int, *, cause: str = "ValueError: no such column", restored_from: str | None = None
) -> list[JobRun]:
    return [ended(State.FAILED, lived_ms=1_000, cause=cause, restored_from=restored_from) for _ in range(count)]


def test_runs_that_fail_at_once_are_repeated_more_and_more_slowly() -> None:
    waits = []
    for count in range(1, MAX_FAILURES):
        decision = decide(seen(*failures(count), restore_points=()))
        assert isinstance(decision, Wait)
        assert decision.state is State.WAITING
        assert decision.sentence.endswith("ValueError: no such column.")
        waits.append(int(decision.sentence.split(" in ")[1].split()[0]))
    assert waits == [2, 4, 8, 16]
    later = seen(*failures(MAX_FAILURES - 1), at_ms=NOW_MS + 16_000)
    assert isinstance(decide(later), Submit)


def test_a_job_that_keeps_failing_is_given_up_on_and_says_why_and_what_to_do() -> None:
    for _ in range(2):
        decision = decide(seen(*failures(MAX_FAILURES), at_ms=NOW_MS + 3_600_000))
        assert decision == Wait(
            State.FAILED,
            "The job failed 5 times in a row and is not restarted: ValueError: no such column."
            " Fix the cause, then start it again: ./barmill job start bars",
        )
    wanted_again = replace(JOB, failures_after_run=1)
    assert isinstance(decide(seen(*failures(MAX_FAILURES), job=wanted_again)), Submit)


def test_a_lost_cluster_is_not_the_jobs_fault() -> None:
    lost = failures(9, cause="org.apache.flink.runtime: TaskManager with id 127.0.0.1:1 is no longer reachable")
    assert isinstance(decide(seen(*lost)), Submit)
    assert isinstance(decide(seen(*[ended(State.LOST, lived_ms=1)] * 9)), Submit)


def test_a_long_life_makes_the_next_start_quick_again() -> None:
    assert isinstance(decide(seen(ended(State.FAILED, lived_ms=EARLY_FAILURE_MS), *failures(5))), Submit)


def test_a_checkpoint_from_which_runs_kept_failing_is_passed_over() -> None:
    later_ms = NOW_MS + 60_000
    once = decide(seen(*failures(1, restored_from=CHECKPOINT), at_ms=later_ms))
    twice = decide(seen(*failures(2, restored_from=CHECKPOINT), at_ms=later_ms))
    both = decide(seen(*failures(2, restored_from=OLDER), *failures(2, restored_from=CHECKPOINT), at_ms=later_ms))
    assert [decision.restore for decision in (once, twice, both) if isinstance(decision, Submit)] == [
        CHECKPOINT,
        OLDER,
        None,
    ]


def test_a_job_that_was_stopped_for_good_forgets_what_was_before() -> None:
    fresh = replace(JOB, fresh_after_run=1)
    assert decide(seen(job=fresh)) == FROM_THE_BEGINNING


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_sentence(state: State) -> None:
    assert state.sentence.endswith(".")
    assert State.UNKNOWN.is_terminal is False


@pytest.mark.parametrize("back_ms", [1_000, 8 * 86_400_000])
def test_a_clock_that_was_set_back_keeps_nothing_waiting(back_ms: int) -> None:
    earlier_ms = NOW_MS - EARLY_FAILURE_MS - back_ms
    assert isinstance(decide(seen(*failures(2), at_ms=earlier_ms)), Submit)
    assert isinstance(decide(seen(RUN, at_ms=RUN.created_ms - back_ms)), Close)
