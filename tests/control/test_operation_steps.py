"""Operations, step by step: what is done next, and that nothing is done twice."""

from dataclasses import replace

import pytest

from control.flink.model import JobState, SavepointState, SavepointStatus, Vertex
from control.jobs.decisions import Advance, Cancel, Close, Finish, KeepSavepoint, Rescale, Submit, TakeSavepoint, Wait
from control.jobs.model import Kind, Outcome, Phase, State, StopMode
from control.jobs.planner import STABLE_AFTER_MS, UNSTABLE_AFTER_MS, decide
from tests.support.jobs import NOW_MS, RUN, asked, ended, running, seen

SAVEPOINT = "file:/home/flink/savepoints/fff/savepoint-1"
DONE = SavepointStatus(SavepointState.COMPLETED, SAVEPOINT)
UNDER_WAY = SavepointStatus(SavepointState.IN_PROGRESS)
NOT_KNOWN = SavepointStatus(SavepointState.UNKNOWN)
STOP = asked(Kind.STOP)
NEW_RUN = replace(RUN, id="b" * 32, version=2, restored_from=SAVEPOINT, created_ms=NOW_MS - 1_000)


def test_a_stop_takes_one_savepoint_keeps_it_and_waits_for_the_end() -> None:
    assert decide(running(STOP, savepoint=NOT_KNOWN)) == TakeSavepoint(RUN.id, True, "A savepoint is being taken.")
    assert isinstance(decide(running(STOP, savepoint=UNDER_WAY)), Wait)
    assert decide(running(STOP, savepoint=DONE)) == KeepSavepoint(SAVEPOINT)
    kept = replace(STOP, savepoint=SAVEPOINT)
    assert isinstance(decide(running(kept, savepoint=DONE)), Wait)
    assert decide(seen(RUN, state=JobState.FINISHED, operation=kept, savepoint=DONE)) == Close(
        RUN.id, State.STOPPED, "The job is stopped."
    )
    assert decide(seen(ended(State.STOPPED), operation=kept)) == Finish(
        Outcome.DONE, "Stopped with a savepoint.", {"desired": "stopped"}
    )


def test_a_savepoint_that_fails_leaves_the_job_running() -> None:
    failed = SavepointStatus(SavepointState.FAILED, cause="java.io.IOException: Permission denied")
    decision = decide(running(STOP, savepoint=failed))
    assert decision == Finish(
        Outcome.FAILED, "The savepoint failed: java.io.IOException: Permission denied. The job keeps running."
    )


def test_a_savepoint_that_was_finished_before_the_jobmanager_died_counts() -> None:
    assert decide(seen(RUN, operation=STOP, savepoint=DONE, incarnation="jm-2")) == KeepSavepoint(SAVEPOINT)
    kept = replace(STOP, savepoint=SAVEPOINT)
    assert isinstance(decide(seen(RUN, operation=kept, incarnation="jm-2")), Close)


def test_a_job_lost_while_it_was_being_stopped_stays_stopped() -> None:
    assert isinstance(decide(seen(RUN, operation=STOP, savepoint=NOT_KNOWN, incarnation="jm-2")), Close)
    decision = decide(seen(ended(State.LOST), operation=STOP, incarnation="jm-2"))
    assert isinstance(decision, Finish)
    assert (decision.outcome, decision.job) == (Outcome.DONE, {"desired": "stopped"})


def test_a_job_that_cannot_take_a_savepoint_yet_is_waited_for_but_not_for_ever() -> None:
    waiting = decide(seen(RUN, state=JobState.RESTARTING, operation=STOP, savepoint=NOT_KNOWN))
    assert isinstance(waiting, Wait)
    old = asked(Kind.STOP, ago_ms=120_001)
    decision = decide(seen(RUN, state=JobState.RESTARTING, operation=old, savepoint=NOT_KNOWN))
    assert isinstance(decision, Finish)
    assert decision.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        (StopMode.LAST_STATE, {"desired": "stopped"}),
        (StopMode.STATELESS, {"desired": "stopped", "fresh_after_run": 1}),
    ],
)
def test_other_stops_cancel_at_once(mode: StopMode, changes: dict[str, object]) -> None:
    stop = asked(Kind.STOP, mode=mode)
    assert isinstance(decide(running(stop)), Cancel)
    assert isinstance(decide(seen(RUN, state=JobState.CANCELED, operation=stop)), Close)
    finished = decide(seen(ended(State.CANCELED), operation=stop))
    assert isinstance(finished, Finish)
    assert finished.job == changes


def test_a_start_goes_on_from_what_was_chosen_and_ends_when_the_job_runs() -> None:
    start = asked(Kind.START, restore=SAVEPOINT)
    assert decide(seen(ended(State.STOPPED), operation=start)) == Submit(
        SAVEPOINT, "The job is being started from a savepoint."
    )
    ours = replace(start, run=NEW_RUN.id)
    assert isinstance(decide(seen(NEW_RUN, state=JobState.INITIALIZING, operation=ours)), Wait)
    assert decide(seen(NEW_RUN, state=JobState.RUNNING, operation=ours)) == Finish(Outcome.DONE, "The job is running.")
    assert decide(running(start)) == Finish(Outcome.DONE, "The job was already running.")


def test_a_start_that_fails_says_why_and_one_that_gets_lost_is_repeated() -> None:
    start = replace(asked(Kind.START), run=RUN.id)
    refused = decide(seen(ended(State.REFUSED, cause="ValueError: no frames"), operation=start))
    assert refused == Finish(Outcome.FAILED, "It did not start: ValueError: no frames.")
    assert isinstance(decide(seen(ended(State.LOST), operation=start)), Submit)


def test_a_restart_goes_on_from_the_savepoint_it_took() -> None:
    restart = asked(Kind.RESTART)
    assert isinstance(decide(running(restart, savepoint=NOT_KNOWN)), TakeSavepoint)
    kept = replace(restart, savepoint=SAVEPOINT)
    assert decide(seen(ended(State.STOPPED), operation=kept)) == Advance(
        Phase.STARTING, "Stopped; starting again.", {"desired": "running"}
    )
    starting = replace(kept, phase=Phase.STARTING)
    submitted = decide(seen(ended(State.STOPPED), operation=starting))
    assert isinstance(submitted, Submit)
    assert submitted.restore == SAVEPOINT


UPGRADE = replace(asked(Kind.UPGRADE, from_version=1, to_version=2), savepoint=SAVEPOINT)
SETTLING = replace(UPGRADE, phase=Phase.SETTLING, run=NEW_RUN.id)


def test_an_upgrade_is_done_when_the_new_version_is_stable() -> None:
    first = decide(seen(ended(State.STOPPED), operation=UPGRADE))
    assert first == Advance(Phase.STARTING, "Stopped; starting version 2.", {"desired": "running", "version": 2})
    starting = replace(UPGRADE, phase=Phase.STARTING, run=NEW_RUN.id)
    runs = decide(seen(NEW_RUN, state=JobState.RUNNING, operation=starting))
    assert isinstance(runs, Advance)
    assert (runs.phase, runs.run) == (Phase.SETTLING, NEW_RUN.id)
    young = seen(NEW_RUN, state=JobState.RUNNING, operation=SETTLING, checkpoints=3, restores=1)
    assert isinstance(decide(young), Wait)
    old_enough = replace(young, at_ms=NEW_RUN.created_ms + STABLE_AFTER_MS + 1)
    assert decide(old_enough) == Finish(Outcome.DONE, "Version 2 runs and is stable.")
    assert isinstance(decide(replace(old_enough, checkpoints=0)), Wait)


def test_an_upgrade_whose_new_version_restarts_before_it_was_seen_running_goes_back() -> None:
    starting = replace(UPGRADE, phase=Phase.STARTING, run=NEW_RUN.id)
    restarting = seen(NEW_RUN, state=JobState.RESTARTING, operation=starting, restores=2)
    back = decide(restarting)
    assert isinstance(back, Advance)
    assert (back.phase, back.problem) == (
        Phase.ROLLING_BACK,
        "Version 2 did not become stable. It kept restarting.",
    )
    assert isinstance(decide(replace(restarting, restores=1)), Wait)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"restores": 2}, "It kept restarting."),
        ({"at_ms": NEW_RUN.created_ms + UNSTABLE_AFTER_MS + 1, "restores": 1}, "It made no checkpoint."),
    ],
)
def test_a_new_version_that_does_not_become_stable_is_taken_back(changes: dict[str, object], why: str) -> None:
    decision = decide(seen(NEW_RUN, state=JobState.RUNNING, operation=SETTLING, **changes))
    problem = f"Version 2 did not become stable. {why}"
    assert decision == Advance(
        Phase.ROLLING_BACK, f"{problem} Rolling back.", {"version": 1}, run=NEW_RUN.id, problem=problem
    )


def test_a_new_version_that_fails_is_taken_back_to_the_savepoint_of_the_old_one() -> None:
    dead = ended(State.FAILED, lived_ms=100, cause="KeyError: 'x'", id=NEW_RUN.id)
    for operation in (SETTLING, replace(SETTLING, phase=Phase.STARTING)):
        decision = decide(seen(dead, operation=operation))
        assert isinstance(decision, Advance)
        assert decision.phase is Phase.ROLLING_BACK
        assert decision.problem
        assert "KeyError: 'x'." in decision.problem


def test_going_back_cancels_the_new_run_once_and_starts_the_old_version_once() -> None:
    back = replace(SETTLING, phase=Phase.ROLLING_BACK, problem="Version 2 did not become stable. It ended.")
    assert decide(seen(NEW_RUN, state=JobState.RUNNING, operation=back)) == Cancel(
        NEW_RUN.id, JobState.CANCELLING.sentence
    )
    gone = ended(State.CANCELED, id=NEW_RUN.id)
    submitted = decide(seen(gone, operation=back))
    assert isinstance(submitted, Submit)
    assert submitted.restore == SAVEPOINT
    old = replace(RUN, id="c" * 32)
    assert isinstance(decide(seen(old, gone, state=JobState.INITIALIZING, operation=back)), Wait)
    assert decide(seen(old, gone, state=JobState.RUNNING, operation=back)) == Finish(
        Outcome.FAILED, "Version 2 did not become stable. It ended. Version 1 runs again."
    )
    dead = ended(State.REFUSED, id=old.id, cause="OSError: disk full")
    finished = decide(seen(dead, gone, operation=back))
    assert isinstance(finished, Finish)
    assert finished.sentence.endswith("Version 1 does not start: OSError: disk full.")


def vertices(have: int, wanted: int) -> list[Vertex]:
    return [Vertex("1", "wake", 1, 1, 1), Vertex("2", "poll and fold", have, wanted, 128), Vertex("3", "pub", 1, 1, 1)]


def test_rescaling_is_asked_for_once_and_pending_until_the_slots_are_there() -> None:
    rescale = asked(Kind.RESCALE, parallelism=4)
    assert decide(running(rescale, vertices=vertices(1, 1))) == Rescale(
        RUN.id, {"1": 1, "2": 4, "3": 1}, "The job is being rescaled to 4 slots."
    )
    pending = decide(running(rescale, vertices=vertices(2, 4)))
    assert pending == Wait(State.RUNNING, "Rescaling is pending: the job runs on 2 of 4 slots until more are free.")
    assert isinstance(decide(seen(RUN, state=JobState.RESTARTING, operation=rescale)), Wait)
    assert decide(running(rescale, vertices=vertices(4, 4))) == Finish(Outcome.DONE, "The job is running on 4 slots.")
    assert isinstance(decide(seen(ended(State.STOPPED), operation=rescale)), Finish)


def test_a_savepoint_of_a_running_job_is_taken_once_and_kept() -> None:
    take = asked(Kind.SAVEPOINT)
    assert decide(running(take, savepoint=NOT_KNOWN)) == TakeSavepoint(RUN.id, False, "A savepoint is being taken.")
    assert decide(running(take, savepoint=DONE)) == KeepSavepoint(SAVEPOINT)
    kept = replace(take, savepoint=SAVEPOINT)
    assert decide(running(kept)) == Finish(Outcome.DONE, "The savepoint is taken.")
    nothing = decide(seen(ended(State.STOPPED), operation=take))
    assert isinstance(nothing, Finish)
    assert nothing.outcome is Outcome.FAILED


def test_a_deleted_job_is_cancelled_first() -> None:
    delete = asked(Kind.DELETE)
    assert isinstance(decide(running(delete)), Cancel)
    finished = decide(seen(ended(State.CANCELED), operation=delete))
    assert isinstance(finished, Finish)
    assert finished.delete_job


@pytest.mark.parametrize("kind", Kind)
def test_no_operation_does_anything_while_the_cluster_does_not_answer(kind: Kind) -> None:
    decision = decide(seen(RUN, incarnation=None, operation=asked(kind, parallelism=2)))
    assert isinstance(decision, Wait)
    assert decision.state is State.UNKNOWN
