"""What people ask of jobs: checked, authorised, recorded and written down. The controller does the rest."""

from contextlib import AbstractContextManager
from typing import Self

from bar.clock import now_ms
from control.actions import Change, action
from control.audit import Stage
from control.flink import retained
from control.home import Home
from control.jobs.ledger import Job, JobLedger, Savepoint
from control.jobs.operations import Kind, Operation, Outcome, StopMode, Wanted
from control.jobs.specs import DEFAULT_JOB, JobError, check_spec, read_spec, stored, written
from control.jobs.states import Desired
from control.kafka.settings import KafkaSettings
from control.people.roles import Actor, Permission
from flink_jobs.spec import BarsJobSpec

BEGINNING = "beginning"
LAST_CHECKPOINT = "last-checkpoint"


class JobBook:
    """The jobs of one home, on behalf of one actor."""

    def __init__(self, ledger: JobLedger, actor: Actor) -> None:
        self.ledger, self._actor = ledger, actor

    @classmethod
    def open(cls, home: Home, actor: Actor) -> Self:
        """Open the job tables, making them where there are none."""
        return cls(JobLedger.open(home), actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def ensure_default_job(self) -> None:
        """Make the job `bars`, which should run, in a home that never had a job; with Kafka, from there to there."""
        if self.ledger.jobs() or self.ledger.operations(DEFAULT_JOB, 1):
            return
        ends = {"source": "kafka", "sink": "kafka"} if KafkaSettings.read(self.ledger.home).used else {}
        spec = check_spec({"name": DEFAULT_JOB, **ends}, self.ledger.home)
        with self._action("create", spec.name, Permission.MANAGE_JOBS) as change:
            self._insert(spec, Desired.RUNNING)
            change.after = written(spec)

    def create(self, text: str, name: str | None = None) -> BarsJobSpec:
        """Make a stopped job of a spec in JSON, under the name it says or under `name`."""
        spec = read_spec(text, self.ledger.home, name)
        with self._action("create", spec.name, Permission.MANAGE_JOBS) as change:
            if any(job.name == spec.name for job in self.ledger.jobs()):
                raise JobError(f"There is a job {spec.name} already; choose another name, or edit that one.")
            self._insert(spec, Desired.STOPPED)
            change.after = written(spec)
        return spec

    def clone(self, name: str, new_name: str) -> BarsJobSpec:
        """Make a stopped job of the present spec of another one."""
        return self.create(stored(self._present(self.ledger.job(name))), new_name)

    def edit(self, name: str, text: str) -> Operation | None:
        """Make a new version of a job; one that should run is upgraded with its state, and goes back if that fails."""
        job, spec = self.ledger.job(name), read_spec(text, self.ledger.home)
        present = self._present(job)
        if spec.name != name:
            raise JobError(f"The spec is of {spec.name}, not of {name}; a job keeps its name, but can be cloned.")
        if spec.shards != present.shards:
            raise JobError(f"{name} keeps its {present.shards} shards for life; clone it to have another number.")
        _check_what_kafka_keeps(present, spec)
        if spec == present:
            raise JobError(f"That is what {name} is already; nothing was changed.")
        with self._action("edit", name, Permission.MANAGE_JOBS) as change:
            change.before, change.after = written(present), written(spec)
            version = self._add_version(spec)
            if job.desired is Desired.STOPPED:
                self.ledger.change_job(name, version=version)
                return None
            return self._issue(change, job, Kind.UPGRADE, Wanted(from_version=job.version, to_version=version))

    def start(self, name: str, restore: str | None = None) -> Operation:
        """Have a job run, from its newest state or from another: a savepoint's id, `last-checkpoint`, `beginning`."""
        job = self.ledger.job(name)
        wanted = Wanted(restore=self._restore_uri(job, restore))
        with self._action("start", name, _needs_to_restore(restore)) as change:
            newest = self.ledger.newest_run_number(name)
            changes: dict[str, object] = {"desired": Desired.RUNNING.value, "failures_after_run": newest}
            if restore == BEGINNING:
                changes["fresh_after_run"] = newest
            change.before, change.after = {"desired": job.desired.value}, {**changes, "from": restore or "newest"}
            operation = self._issue(change, job, Kind.START, wanted)
            self.ledger.change_job(name, **changes)
        return operation

    def stop(self, name: str, mode: StopMode = StopMode.SAVEPOINT, savepoint_dir: str | None = None) -> Operation:
        """Have a job stop, and stay stopped."""
        job = self.ledger.job(name)
        gentle = mode is StopMode.SAVEPOINT
        with self._action("stop", name, Permission.OPERATE_JOBS if gentle else Permission.MANAGE_JOBS) as change:
            change.before = {"desired": job.desired.value}
            change.after = {"desired": Desired.STOPPED.value, "mode": mode.value}
            wanted = Wanted(mode=mode, savepoint_dir=savepoint_dir)
            return self._issue(change, job, Kind.STOP, wanted, at_once=not gentle)

    def restart(self, name: str, restore: str | None = None) -> Operation:
        """Have a job stop and run again: with a savepoint and from it, or from another state it is to go on from."""
        job = self.ledger.job(name)
        mode = StopMode.SAVEPOINT
        if restore is not None:
            mode = StopMode.STATELESS if restore == BEGINNING else StopMode.LAST_STATE
        wanted = Wanted(mode=mode, restore=self._restore_uri(job, restore))
        with self._action("restart", name, _needs_to_restore(restore)) as change:
            change.before, change.after = {"desired": job.desired.value}, {"from": restore or "a new savepoint"}
            operation = self._issue(change, job, Kind.RESTART, wanted)
            self.ledger.change_job(name, failures_after_run=self.ledger.newest_run_number(name))
        return operation

    def rescale(self, name: str, parallelism: int) -> Operation:
        """Have a job run on another number of slots; it takes them as they become free."""
        job = self.ledger.job(name)
        present = self._present(job)
        spec = check_spec({**written(present), "parallelism": parallelism}, self.ledger.home)
        with self._action("rescale", name, Permission.OPERATE_JOBS) as change:
            change.before, change.after = {"parallelism": present.parallelism}, {"parallelism": parallelism}
            operation = self._issue(change, job, Kind.RESCALE, Wanted(parallelism=parallelism))
            if spec != present:
                self.ledger.change_job(name, version=self._add_version(spec))
        return operation

    def take_savepoint(self, name: str) -> Operation:
        """Have a savepoint taken of a job that goes on running."""
        job = self.ledger.job(name)
        with self._action("savepoint", name, Permission.OPERATE_JOBS) as change:
            return self._issue(change, job, Kind.SAVEPOINT, Wanted())

    def delete(self, name: str) -> Operation:
        """Have a job cancelled, where it runs, and deleted; its bars and savepoints stay."""
        job = self.ledger.job(name)
        with self._action("delete", name, Permission.MANAGE_JOBS) as change:
            change.before = written(self._present(job))
            return self._issue(change, job, Kind.DELETE, Wanted(mode=StopMode.LAST_STATE), at_once=True)

    def dispose_of(self, savepoint_id: str) -> Savepoint:
        """Delete a savepoint and its files."""
        savepoint = self.ledger.savepoint(savepoint_id)
        if savepoint is None:
            raise JobError(f"There is no savepoint {savepoint_id}; ./barmill job show NAME lists them.")
        with self._action("dispose", savepoint.job, Permission.MANAGE_JOBS) as change:
            change.before = {"savepoint": savepoint.id, "path": savepoint.path}
            operation = self.ledger.open_operation(savepoint.job)
            if operation is not None and savepoint.path in (operation.savepoint, operation.wanted.restore):
                raise JobError(f"The savepoint is in use: {operation.kind} of {operation.job} is under way.")
            try:
                retained.dispose_of(savepoint.path)
            except OSError as error:
                raise JobError(f"The savepoint at {savepoint.path} cannot be deleted: {error.strerror}.") from error
            self.ledger.mark_disposed(savepoint.id)
        return savepoint

    def _action(self, name: str, job: str, needs: Permission) -> AbstractContextManager[Change]:
        return action(self.ledger.db, self._actor, f"job.{name}", job, needs=needs)

    def _present(self, job: Job) -> BarsJobSpec:
        return self.ledger.spec(job.name, job.version)

    def _insert(self, spec: BarsJobSpec, desired: Desired) -> None:
        version = self._add_version(spec)
        self.ledger.add_job(Job(spec.name, version, desired, now_ms()))

    def _add_version(self, spec: BarsJobSpec) -> int:
        return self.ledger.add_version(spec.name, stored(spec), self._actor.name)

    def _issue(self, change: Change, job: Job, kind: Kind, wanted: Wanted, *, at_once: bool = False) -> Operation:
        """Write an operation down; the same one again, while it is open, is the first one.

        at_once: it takes the place of whatever is under way.
        """
        under_way = self.ledger.open_operation(job.name)
        if under_way is not None:
            if (under_way.kind, under_way.wanted) == (kind, wanted):
                change.result = f"Joined the {kind.value} that is under way, {under_way.id}."
                return under_way
            if not at_once and under_way.kind is not Kind.RESCALE:
                raise JobError(f"A {under_way.kind.value} of {job.name} is under way; wait for it, or cancel the job.")
            self.ledger.finish(under_way, Outcome.SUPERSEDED, f"A {kind.value} took its place.", {})
        change.stage = Stage.ISSUED
        operation = Operation(change.trace_id, job.name, kind, wanted, self._actor.name, now_ms())
        self.ledger.add_operation(operation)
        return operation

    def _restore_uri(self, job: Job, restore: str | None) -> str | None:
        """Return the URI that people mean; None where the newest state, or none, is meant."""
        if restore is None or restore == BEGINNING:
            return None
        if restore == LAST_CHECKPOINT:
            runs = {run.id: run.number for run in self.ledger.runs(job.name, 12)}
            newest = next(iter(retained.checkpoints(self.ledger.home, runs)), None)
            if newest is None:
                raise JobError(f"{job.name} has no checkpoint to go on from; start it without naming one.")
            return newest.uri
        savepoint = self.ledger.savepoint(restore)
        if savepoint is None or savepoint.job != job.name:
            raise JobError(f"{job.name} has no savepoint {restore}; ./barmill job show {job.name} lists them.")
        return savepoint.path


def _check_what_kafka_keeps(present: BarsJobSpec, spec: BarsJobSpec) -> None:
    """Raise JobError where an edit needs what was read or published before to be undone, which Kafka does not do."""
    name = present.name
    if (spec.source, spec.sink) != (present.source, present.sink):
        raise JobError(f"{name} keeps its source and its sink for life; clone it to have others.")
    if not spec.uses_kafka:
        return
    if not {*spec.frame_list} <= {*present.frame_list}:
        raise JobError(f"{name} uses Kafka, so it cannot gain frames; make another job with only the new ones.")
    if spec.lateness_ms > present.lateness_ms:
        raise JobError(f"{name} uses Kafka, so its lateness cannot become longer; make another job that waits longer.")


def _needs_to_restore(restore: str | None) -> Permission:
    return Permission.OPERATE_JOBS if restore is None else Permission.MANAGE_JOBS
