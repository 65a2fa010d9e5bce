"""The reconciler, which observes the jobs, decides for each (see planner.py), and acts.

Nothing else sends commands to the home's Flink cluster.
Observing changes nothing, a decision is stored before it is carried out, and every action can be repeated. So after a
crash at any point, the next round continues the work.
"""

import logging
import uuid
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec

from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate
from control.flink import restore_points
from control.flink.model import (
    ClusterUnreachableError,
    FlinkError,
    JobState,
    NoSuchFlinkJobError,
    SavepointState,
    SavepointStatus,
    SubmitFailedError,
    SubmitUnknownError,
    Vertex,
    reason,
)
from control.flink.model import (
    Job as FlinkJob,
)
from control.flink.rest import FlinkRest
from control.jobs.decisions import (
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
from control.jobs.model import Desired, Job, JobRun, Kind, Operation, Phase, State
from control.jobs.planner import decide
from control.jobs.repository import JobRepository
from control.jobs.specs import BARS_PROGRAM, write_spec_file

logger = logging.getLogger(__name__)
P = ParamSpec("P")

_RUNS_REMEMBERED = 12
_RUNS_WITH_CHECKPOINTS = 3


@dataclass(frozen=True)
class ClusterView:
    """The cluster at one time: the JobManager that responded (None if none did), its TaskManagers and its jobs."""

    incarnation: str | None = None
    taskmanagers: int = 0
    jobs: tuple[FlinkJob, ...] = ()


class Reconciler:
    """The reconciler of a home, which keeps all jobs in their desired states."""

    def __init__(self, home: Home, flink: FlinkRest, repository: JobRepository, program: Path = BARS_PROGRAM) -> None:
        self._home, self._flink, self._repository, self._program = home, flink, repository, program
        self._first_job: str = ""

    def reconcile_jobs(self) -> dict[str, Decision]:
        """Take one step for each job and return the decisions by job name; a submission, being slow, ends the round."""
        view, jobs = self.read_cluster(), self._repository.jobs()
        self._cancel_orphans(view, {job.name for job in jobs})
        decisions: dict[str, Decision] = {}
        # Start after the job that was submitted last, so that every job gets its turn.
        for job in sorted(jobs, key=lambda job: (job.name < self._first_job, job.name)):
            decisions[job.name] = self.reconcile(job, view)
            if isinstance(decisions[job.name], Submit):
                self._first_job = job.name + "\0"
                break
        return decisions

    def reconcile(self, job: Job, view: ClusterView) -> Decision:
        """Observe, decide and act once for one job; return the decision."""
        observation = self.observe(job, view)
        decision = decide(observation)
        self.act(decision, observation)
        return decision

    def read_cluster(self) -> ClusterView:
        """Return the state of the whole cluster; empty if the JobManager does not respond."""
        try:
            return ClusterView(self._flink.incarnation(), self._flink.taskmanagers(), tuple(self._flink.jobs()))
        except FlinkError:
            return ClusterView()

    def observe(self, job: Job, view: ClusterView) -> Observation:
        """Return the observation of one job from the cluster, the disk and the database."""
        runs = self._repository.runs(job.name, _RUNS_REMEMBERED)
        operation = self._repository.open_operation(job.name)
        own_runs = {run.id for run in runs}
        states = {
            flink_job.id: flink_job.state
            for flink_job in view.jobs
            if flink_job.name == job.name or flink_job.id in own_runs
        }
        newest = runs[0] if runs else None
        savepoints = [
            restore_points.RestorePoint(savepoint.run_number, savepoint.created_ms, savepoint.path)
            for savepoint in self._repository.savepoints(job.name)
        ]
        checkpoints = restore_points.checkpoints(self._home, {run.id: run.number for run in runs})
        observation = Observation(
            at_ms=now_ms(),
            job=job,
            incarnation=view.incarnation,
            taskmanagers=view.taskmanagers,
            state=states.get(newest.id) if newest else None,
            active_runs=[run_id for run_id, run_state in states.items() if not run_state.is_terminal],
            runs=runs,
            restore_points=sorted([*checkpoints, *savepoints], reverse=True),
            operation=operation,
        )
        return (
            self._with_run(observation, operation, newest)
            if operation and newest and newest.end is None
            else observation
        )

    def act(self, decision: Decision, observation: Observation) -> None:
        """Carry out a decision."""
        job, operation = observation.job, observation.operation
        run_id = observation.runs[0].id if observation.runs else None
        match decision:
            case Wait(state, sentence):
                self._repository.set_status(job.name, state.value, sentence, run_id, operation)
                if state is State.RUNNING and operation is None:
                    self._delete_old_checkpoints(observation.runs)
            case Submit(restore, sentence):
                self._submit(restore, sentence, observation)
            case Cancel(unwanted_run, sentence):
                logger.info("%s: %s (%s)", job.name, sentence, unwanted_run)
                self._repository.set_status(job.name, State.CANCELLING.value, sentence, run_id, operation)
                self._request(self._flink.cancel, unwanted_run)
            case Close(ended_run, end, sentence):
                cause = self._cause(ended_run) if decision.failed else ""
                logger.info("%s: %s %s", job.name, sentence, cause)
                self._repository.end_run(ended_run, end.value, cause)
                self._repository.set_status(job.name, end.value, _with_cause(sentence, cause), ended_run)
            case TakeSavepoint(target_run, stop, sentence):
                assert operation is not None
                shown_state = State.STOPPING if stop else State.RUNNING
                request_savepoint = self._flink.stop_with_savepoint if stop else self._flink.take_savepoint
                self._repository.set_status(job.name, shown_state.value, sentence, run_id, operation)
                self._request(request_savepoint, target_run, self._savepoint_folder(operation).as_uri(), operation.id)
            case KeepSavepoint(path):
                assert operation is not None
                self._repository.keep_savepoint(operation, observation.runs[0], path)
            case Rescale(target_run, parallelism, sentence):
                self._repository.set_status(job.name, State.RUNNING.value, sentence, run_id, operation)
                self._request(self._flink.rescale, target_run, parallelism)
            case Advance(phase, sentence, changes, run, problem):
                assert operation is not None
                with immediate(self._repository.db):
                    if changes:
                        self._repository.change_job(job.name, **changes)
                    self._repository.advance(operation, phase=phase, sentence=sentence, run=run, problem=problem)
            case Finish(outcome, sentence, changes, delete_job):
                assert operation is not None
                self._repository.finish(operation, outcome, sentence, changes, delete_job=delete_job)
                if delete_job:
                    restore_points.delete_checkpoints(self._home, [known_run.id for known_run in observation.runs])
                elif changes.get("desired") == Desired.STOPPED:
                    self._repository.set_status(job.name, State.STOPPED.value, sentence, run_id)
                elif observation.state is JobState.RUNNING:
                    self._repository.set_status(job.name, State.RUNNING.value, JobState.RUNNING.sentence, run_id)

    def _with_run(self, observation: Observation, operation: Operation, run: JobRun) -> Observation:
        """Return the observation with the facts about the newest run that only an open operation needs."""
        savepoint, vertices, completed, restores = None, list[Vertex](), 0, 0
        try:
            if operation.takes_savepoint and operation.phase is Phase.FIRST:
                savepoint = self._flink.savepoint_status(run.id, operation.id)
                if savepoint.state is SavepointState.UNKNOWN:
                    # A JobManager that died may have finished the savepoint first.
                    retained_savepoint = restore_points.savepoint_in(self._savepoint_folder(operation))
                    savepoint = (
                        SavepointStatus(SavepointState.COMPLETED, retained_savepoint.uri)
                        if retained_savepoint
                        else savepoint
                    )
            if operation.kind is Kind.RESCALE and observation.state is JobState.RUNNING:
                vertices = self._flink.vertices(run.id)
            if operation.kind is Kind.UPGRADE and operation.phase in (Phase.STARTING, Phase.SETTLING):
                checkpoints = self._flink.checkpoints(run.id)
                completed, restores = checkpoints.completed, checkpoints.restored
        except FlinkError as error:
            logger.info("%s: %s", observation.job.name, error)  # the next round reads it again
        return replace(observation, savepoint=savepoint, vertices=vertices, checkpoints=completed, restores=restores)

    def _savepoint_folder(self, operation: Operation) -> Path:
        folder = operation.parameters.savepoint_dir
        # A separate folder per operation, so that the savepoint can be found without Flink.
        return (Path(folder) if folder else self._home.flink / "savepoints") / operation.id

    def _submit(self, restore: str | None, sentence: str, observation: Observation) -> None:
        job, spec = observation.job, self._repository.spec(observation.job.name, observation.job.version)
        run = JobRun(uuid.uuid4().hex, job.name, observation.at_ms, str(observation.incarnation), restore, job.version)
        self._repository.start_run(run, observation.operation)
        self._repository.set_status(job.name, State.SUBMITTING.value, sentence, run.id)
        logger.info("%s: %s Run %s, %s", job.name, sentence, run.id, restore or "no checkpoint")
        arguments = ["--spec", str(write_spec_file(self._home, spec, job.version))]
        try:
            self._flink.submit(
                self._program, arguments, parallelism=spec.parallelism, job_id=run.id, savepoint_path=restore
            )
        except SubmitFailedError as error:
            logger.error("%s: %s\n%s", job.name, error, error.traceback)
            self._repository.end_run(run.id, State.REFUSED.value, error.traceback or str(error))
            self._repository.set_status(job.name, State.REFUSED.value, f"The job could not be started: {error}", run.id)
        except (SubmitUnknownError, ClusterUnreachableError) as error:
            logger.warning("%s: %s", job.name, error)  # the run is recorded: the next round finds its state

    def _cancel_orphans(self, view: ClusterView, job_names: Set[str]) -> None:
        """Cancel runs whose job was deleted while they were being submitted. job_names: the names of all jobs."""
        for flink_job in view.jobs:
            if (
                flink_job.name not in job_names
                and not flink_job.state.is_terminal
                and self._repository.run(flink_job.id) is not None
            ):
                logger.warning("Run %s no longer belongs to a job and is cancelled.", flink_job.id)
                self._request(self._flink.cancel, flink_job.id)

    def _request(self, call: Callable[P, None], *arguments: P.args, **keywords: P.kwargs) -> None:
        """Send a request to Flink; if it fails, the next round makes the same decision."""
        try:
            call(*arguments, **keywords)
        except FlinkError as error:
            logger.warning("%s", error)

    def _cause(self, run_id: str) -> str:
        try:
            return self._flink.failure_cause(run_id)
        except NoSuchFlinkJobError:
            return ""
        except FlinkError as error:
            return str(error)

    def _delete_old_checkpoints(self, runs: Sequence[JobRun]) -> None:
        """Delete checkpoints that no later run will need, once the newest run has a checkpoint."""
        if restore_points.checkpoints(self._home, {runs[0].id: 0}):
            restore_points.delete_checkpoints(self._home, [run.id for run in runs[_RUNS_WITH_CHECKPOINTS:]])


def _with_cause(sentence: str, cause: str) -> str:
    return f"{sentence} {reason(cause)}" if cause else sentence
