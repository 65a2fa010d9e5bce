"""The reconciler: observes the jobs, decides for each (see reconcile.py), and acts. The one that talks to Flink.

Observing changes nothing, a decision is written down before it is acted upon, and every action may be repeated: so
whatever dies in the middle, another look goes on where this one was.
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bar.clock import now_ms
from control.database import immediate
from control.flink import retained
from control.flink.model import (
    ClusterUnreachable,
    FlinkError,
    JobState,
    NoSuchJob,
    SavepointState,
    SavepointStatus,
    SubmitFailed,
    SubmitUnknown,
    Vertex,
)
from control.flink.model import (
    Job as FlinkJob,
)
from control.flink.rest import FlinkRest
from control.flink.traces import reason
from control.home import Home
from control.jobs.ledger import Job, JobLedger, JobRun
from control.jobs.operation_steps import decide
from control.jobs.operations import Kind, Operation, Phase
from control.jobs.reconcile import (
    Advance,
    Cancel,
    Close,
    Decision,
    Finish,
    KeepSavepoint,
    Observation,
    Rescale,
    Submit,
    TakeSavepoint,
    Wait,
)
from control.jobs.specs import BARS_PROGRAM, write_spec_file
from control.jobs.states import Desired, State

logger = logging.getLogger(__name__)

_RUNS_REMEMBERED = 12
_RUNS_WITH_CHECKPOINTS = 3


@dataclass(frozen=True)
class ClusterView:
    """The cluster at one moment: which JobManager answered (None: none did), and what runs there."""

    incarnation: str | None = None
    taskmanagers: int = 0
    jobs: tuple[FlinkJob, ...] = ()


class Reconciler:
    """Keeps all jobs of one home as they should be."""

    def __init__(self, home: Home, flink: FlinkRest, ledger: JobLedger, program: Path = BARS_PROGRAM) -> None:
        self._home, self._flink, self._ledger, self._program = home, flink, ledger, program
        self._next_first: str = ""

    def round(self) -> dict[str, Decision]:
        """Make one step for each job and return the decisions; a submit, which takes long, ends the round early."""
        view = self.look()
        self._cancel_orphans(view)
        decisions: dict[str, Decision] = {}
        for job in self._in_turn():
            decisions[job.name] = self.step(job, view)
            if isinstance(decisions[job.name], Submit):
                self._next_first = job.name + "\0"
                break
        return decisions

    def step(self, job: Job, view: ClusterView) -> Decision:
        """Observe, decide and act once for one job; return the decision."""
        seen = self.observe(job, view)
        decision = decide(seen)
        self.act(decision, seen)
        return decision

    def look(self) -> ClusterView:
        """Look at the cluster as a whole."""
        try:
            return ClusterView(self._flink.incarnation(), self._flink.taskmanagers(), tuple(self._flink.jobs()))
        except FlinkError:
            return ClusterView()

    def observe(self, job: Job, view: ClusterView) -> Observation:
        """Look at cluster, disk and our own notes for one job."""
        runs = self._ledger.runs(job.name, _RUNS_REMEMBERED)
        operation = self._ledger.open_operation(job.name)
        ours = {run.id for run in runs}
        states = {one.id: one.state for one in view.jobs if one.name == job.name or one.id in ours}
        newest = runs[0] if runs else None
        state = states.get(newest.id) if newest else None
        seen = Observation(
            at_ms=now_ms(),
            job=job,
            incarnation=view.incarnation,
            taskmanagers=view.taskmanagers,
            state=state,
            active=[run_id for run_id, one in states.items() if not one.terminal],
            runs=runs,
            restore_points=self._restore_points(job, runs),
            operation=operation,
        )
        return self._for_operation(seen) if operation and newest and newest.end is None else seen

    def act(self, decision: Decision, seen: Observation) -> None:
        """Do what was decided."""
        job, operation = seen.job, seen.operation
        run_id = seen.runs[0].id if seen.runs else None
        match decision:
            case Wait(state, sentence):
                self._say(seen, state, sentence)
                if state is State.RUNNING:
                    self._forget_old_checkpoints(seen)
            case Submit(restore, sentence):
                self._submit(restore, sentence, seen)
            case Cancel(unwanted, sentence):
                logger.info("%s: %s (%s)", job.name, sentence, unwanted)
                self._say(seen, State.CANCELLING, sentence)
                self._try(lambda: self._flink.cancel(unwanted))
            case Close(ended, end, sentence):
                cause = self._cause(ended) if decision.failed else ""
                logger.info("%s: %s %s", job.name, sentence, cause)
                self._ledger.end_run(ended, end.value, cause)
                self._ledger.set_status(job.name, end.value, _with_cause(sentence, cause), ended)
            case TakeSavepoint(running, stop, sentence):
                assert operation is not None
                self._say(seen, State.STOPPING if stop else State.RUNNING, sentence)
                self._take_savepoint(operation, running, stop=stop)
            case KeepSavepoint(path):
                assert operation is not None
                self._ledger.keep_savepoint(operation, seen.runs[0], path)
            case Rescale(running, parallelism, sentence):
                self._say(seen, State.RUNNING, sentence)
                self._try(lambda: self._flink.rescale(running, parallelism))
            case Advance(phase, sentence, changes, run, problem):
                assert operation is not None
                self._advance(operation, phase, sentence, changes, run, problem)
            case Finish(outcome, sentence, changes, forget):
                assert operation is not None
                self._ledger.finish(operation, outcome, sentence, changes, forget=forget)
                if forget:
                    retained.forget_checkpoints(self._home, [one.id for one in seen.runs])
                elif changes.get("desired") == Desired.STOPPED:
                    self._ledger.set_status(job.name, State.STOPPED.value, sentence, run_id)
                elif seen.state is JobState.RUNNING:
                    self._ledger.set_status(job.name, State.RUNNING.value, JobState.RUNNING.sentence, run_id)

    def _in_turn(self) -> list[Job]:
        """Return all jobs, beginning behind the one that was submitted last, so that every job gets its turn."""
        jobs = self._ledger.jobs()
        return sorted(jobs, key=lambda job: (job.name < self._next_first, job.name))

    def _restore_points(self, job: Job, runs: list[JobRun]) -> list[retained.RestorePoint]:
        savepoints = [
            retained.RestorePoint(one.run_number, one.created_ms, one.path) for one in self._ledger.savepoints(job.name)
        ]
        return sorted(
            [*retained.checkpoints(self._home, {run.id: run.number for run in runs}), *savepoints], reverse=True
        )

    def _for_operation(self, seen: Observation) -> Observation:
        """Add what only an open operation needs to know of the newest run."""
        operation, run_id = seen.operation, seen.runs[0].id
        assert operation is not None
        savepoint, vertices, completed, restores = None, list[Vertex](), 0, 0
        try:
            if operation.takes_savepoint and operation.phase is Phase.FIRST:
                savepoint = self._savepoint_status(operation, run_id)
            if operation.kind is Kind.RESCALE and seen.state is JobState.RUNNING:
                vertices = self._flink.vertices(run_id)
            if operation.kind is Kind.UPGRADE and operation.phase in (Phase.STARTING, Phase.SETTLING):
                checkpoints = self._flink.checkpoints(run_id)
                completed, restores = checkpoints.completed, checkpoints.restored
        except FlinkError as error:
            logger.info("%s: %s", seen.job.name, error)  # the next look finds out
        return replace(seen, savepoint=savepoint, vertices=vertices, checkpoints=completed, restores=restores)

    def _savepoint_status(self, operation: Operation, run_id: str) -> SavepointStatus:
        status = self._flink.savepoint_status(run_id, operation.id)
        if status.state is SavepointState.UNKNOWN:
            # A JobManager that died may have finished it first.
            found = retained.savepoint_in(self._savepoint_folder(operation))
            if found is not None:
                return SavepointStatus(SavepointState.COMPLETED, found.uri)
        return status

    def _savepoint_folder(self, operation: Operation) -> Path:
        chosen = operation.wanted.savepoint_dir
        # A folder of its own, so that it can be found without Flink's help.
        return (Path(chosen) if chosen else self._home.flink / "savepoints") / operation.id

    def _say(self, seen: Observation, state: State, sentence: str) -> None:
        """Note how the job is, and the same for what is being done about it."""
        self._ledger.set_status(seen.job.name, state.value, sentence, seen.runs[0].id if seen.runs else None)
        if seen.operation is not None and seen.operation.sentence != sentence:
            self._ledger.advance(seen.operation, sentence=sentence)

    def _submit(self, restore: str | None, sentence: str, seen: Observation) -> None:
        job, spec = seen.job, self._ledger.spec(seen.job.name, seen.job.version)
        run = JobRun(uuid.uuid4().hex, job.name, seen.at_ms, str(seen.incarnation), restore, job.version)
        self._ledger.start_run(run, seen.operation)
        self._ledger.set_status(job.name, State.SUBMITTING.value, sentence, run.id)
        logger.info("%s: %s Run %s, %s", job.name, sentence, run.id, restore or "no checkpoint")
        arguments = ["--spec", str(write_spec_file(self._home, spec, job.version))]
        try:
            self._flink.submit(
                self._program, arguments, parallelism=spec.parallelism, job_id=run.id, savepoint_path=restore
            )
        except SubmitFailed as error:
            logger.error("%s: %s\n%s", job.name, error, error.traceback)
            self._ledger.end_run(run.id, State.REFUSED.value, error.traceback or str(error))
            self._ledger.set_status(job.name, State.REFUSED.value, f"The job could not be started: {error}", run.id)
        except (SubmitUnknown, ClusterUnreachable) as error:
            logger.warning("%s: %s", job.name, error)  # the run is noted: the next look finds out what became of it

    def _take_savepoint(self, operation: Operation, run_id: str, *, stop: bool) -> None:
        folder = self._savepoint_folder(operation).as_uri()
        ask = self._flink.stop_with_savepoint if stop else self._flink.take_savepoint
        self._try(lambda: ask(run_id, folder, operation.id))

    def _advance(
        self,
        operation: Operation,
        phase: Phase,
        sentence: str,
        changes: Mapping[str, object],
        run: str | None,
        problem: str | None,
    ) -> None:
        with immediate(self._ledger.db):
            if changes:
                self._ledger.change_job(operation.job, **changes)
            self._ledger.advance(operation, phase=phase, sentence=sentence, run=run, problem=problem)

    def _cancel_orphans(self, view: ClusterView) -> None:
        """Cancel runs of ours whose job was deleted while they were on their way."""
        known = {job.name for job in self._ledger.jobs()}
        for one in view.jobs:
            if one.name not in known and not one.state.terminal and self._ledger.run(one.id) is not None:
                logger.warning("Run %s belongs to no job any more and is cancelled.", one.id)
                self._try(lambda orphan=one.id: self._flink.cancel(orphan))  # type: ignore[misc]

    def _try(self, call: Callable[[], None]) -> None:
        """Ask Flink for something; if it cannot be asked now, the next look comes to the same decision."""
        try:
            call()
        except FlinkError as error:
            logger.warning("%s", error)

    def _cause(self, run_id: str) -> str:
        try:
            return self._flink.failure_cause(run_id)
        except NoSuchJob:
            return ""
        except FlinkError as error:
            return str(error)

    def _forget_old_checkpoints(self, seen: Observation) -> None:
        """Delete what no later run will need, once the newest run has a checkpoint of its own."""
        if seen.operation is None and retained.checkpoints(self._home, {seen.runs[0].id: 0}):
            retained.forget_checkpoints(self._home, [run.id for run in seen.runs[_RUNS_WITH_CHECKPOINTS:]])


def _with_cause(sentence: str, cause: str) -> str:
    return f"{sentence} {reason(cause)}" if cause else sentence
