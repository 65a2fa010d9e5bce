"""User requests for jobs: checked, authorised, audited and stored. The controller carries them out."""

from contextlib import AbstractContextManager
from typing import Self

from barmill.audit.actions import Change, action
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import Stage
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from control.flink import restore_points
from control.jobs.model import Desired, Job, Kind, Operation, OperationParameters, Outcome, Savepoint, StopMode
from control.jobs.repository import JobRepository
from control.jobs.specs import DEFAULT_JOB, JobError, check_spec, read_spec, spec_fields, stored_text

BEGINNING = "beginning"
LAST_CHECKPOINT = "last-checkpoint"


class JobService:
    """The jobs of a home, on behalf of one actor.

    All methods that change a job raise ControlError if the actor has no permission, and JobError, with nothing changed,
    if the request is invalid.
    """

    def __init__(self, repository: JobRepository, actor: Actor) -> None:
        self.repository, self._actor = repository, actor

    @classmethod
    def open(cls, home: Home, actor: Actor) -> Self:
        """Open the job tables; create missing ones."""
        return cls(JobRepository.open(home), actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.repository.close()

    def ensure_default_job(self) -> None:
        """Create and start the job `bars` if no job exists and it never existed. It uses Kafka if the home does."""
        if self.repository.jobs() or self.repository.operations(DEFAULT_JOB, 1):
            return
        kafka_fields = {"source": "kafka", "sink": "kafka"} if KafkaSettings.read(self.repository.home).is_used else {}
        spec = check_spec({"name": DEFAULT_JOB, **kafka_fields}, self.repository.home)
        with self._action("create", spec.name, Permission.MANAGE_JOBS) as change:
            self._insert(spec, Desired.RUNNING)
            change.after = spec_fields(spec)

    def create(self, text: str, name: str | None = None) -> BarsJobSpec:
        """Create a stopped job from a spec in JSON, under `name` if given, else under the spec's name."""
        spec = read_spec(text, self.repository.home, name)
        with self._action("create", spec.name, Permission.MANAGE_JOBS) as change:
            if any(job.name == spec.name for job in self.repository.jobs()):
                raise JobError(f"A job {spec.name} already exists; choose another name, or edit that job.")
            self._insert(spec, Desired.STOPPED)
            change.after = spec_fields(spec)
        return spec

    def clone(self, name: str, new_name: str) -> BarsJobSpec:
        """Create a stopped job with the current spec of another job."""
        return self.create(stored_text(self._current_spec(self.repository.job(name))), new_name)

    def edit(self, name: str, text: str) -> Operation | None:
        """Create a new version of a job. A running job is upgraded with its state, and rolled back if that fails.

        Return the upgrade, or None for a stopped job.
        """
        job, spec = self.repository.job(name), read_spec(text, self.repository.home)
        current = self._current_spec(job)
        if spec.name != name:
            raise JobError(
                f"The spec is for {spec.name}, not for {name}; a job cannot be renamed, but it can be cloned."
            )
        if spec.shards != current.shards:
            raise JobError(
                f"The number of shards of {name} ({current.shards}) cannot change; clone the job to use another number."
            )
        _check_kafka_edit(current, spec)
        if spec == current:
            raise JobError(f"{name} already has this spec; nothing was changed.")
        with self._action("edit", name, Permission.MANAGE_JOBS) as change:
            change.before, change.after = spec_fields(current), spec_fields(spec)
            version = self._add_version(spec)
            if job.desired is Desired.STOPPED:
                self.repository.change_job(name, version=version)
                return None
            return self._issue(
                change, job, Kind.UPGRADE, OperationParameters(from_version=job.version, to_version=version)
            )

    def start(self, name: str, restore: str | None = None) -> Operation:
        """Start a job from its newest state, or from `restore`: a savepoint's id, `last-checkpoint` or `beginning`."""
        job = self.repository.job(name)
        parameters = OperationParameters(restore=self._restore_uri(job, restore))
        with self._action("start", name, _restore_permission(restore)) as change:
            newest = self.repository.newest_run_number(name)
            changes: dict[str, object] = {"desired": Desired.RUNNING.value, "failures_after_run": newest}
            if restore == BEGINNING:
                changes["fresh_after_run"] = newest
            change.before, change.after = {"desired": job.desired.value}, {**changes, "from": restore or "newest"}
            operation = self._issue(change, job, Kind.START, parameters)
            self.repository.change_job(name, **changes)
        return operation

    def stop(self, name: str, mode: StopMode = StopMode.SAVEPOINT, savepoint_dir: str | None = None) -> Operation:
        """Stop a job and keep it stopped. Without a savepoint, the stop replaces any operation in progress.

        savepoint_dir: a folder other than the default.
        """
        job = self.repository.job(name)
        with_savepoint = mode is StopMode.SAVEPOINT
        with self._action(
            "stop", name, Permission.OPERATE_JOBS if with_savepoint else Permission.MANAGE_JOBS
        ) as change:
            change.before = {"desired": job.desired.value}
            change.after = {"desired": Desired.STOPPED.value, "mode": mode.value}
            parameters = OperationParameters(mode=mode, savepoint_dir=savepoint_dir)
            return self._issue(change, job, Kind.STOP, parameters, supersede=not with_savepoint)

    def restart(self, name: str, restore: str | None = None) -> Operation:
        """Stop a job and start it again, from a new savepoint or from `restore` (see start)."""
        job = self.repository.job(name)
        mode = StopMode.SAVEPOINT
        if restore is not None:
            mode = StopMode.STATELESS if restore == BEGINNING else StopMode.LAST_STATE
        parameters = OperationParameters(mode=mode, restore=self._restore_uri(job, restore))
        with self._action("restart", name, _restore_permission(restore)) as change:
            change.before, change.after = {"desired": job.desired.value}, {"from": restore or "a new savepoint"}
            operation = self._issue(change, job, Kind.RESTART, parameters)
            self.repository.change_job(name, failures_after_run=self.repository.newest_run_number(name))
        return operation

    def rescale(self, name: str, parallelism: int) -> Operation:
        """Set the number of slots of a job; it takes them as they become free."""
        job = self.repository.job(name)
        current = self._current_spec(job)
        spec = check_spec({**spec_fields(current), "parallelism": parallelism}, self.repository.home)
        with self._action("rescale", name, Permission.OPERATE_JOBS) as change:
            change.before, change.after = {"parallelism": current.parallelism}, {"parallelism": parallelism}
            operation = self._issue(change, job, Kind.RESCALE, OperationParameters(parallelism=parallelism))
            if spec != current:
                self.repository.change_job(name, version=self._add_version(spec))
        return operation

    def take_savepoint(self, name: str) -> Operation:
        """Take a savepoint of a job that keeps running."""
        job = self.repository.job(name)
        with self._action("savepoint", name, Permission.OPERATE_JOBS) as change:
            return self._issue(change, job, Kind.SAVEPOINT, OperationParameters())

    def delete(self, name: str) -> Operation:
        """Cancel a job if it runs, and delete it; its bars and savepoints remain."""
        job = self.repository.job(name)
        with self._action("delete", name, Permission.MANAGE_JOBS) as change:
            change.before = spec_fields(self._current_spec(job))
            return self._issue(change, job, Kind.DELETE, OperationParameters(mode=StopMode.LAST_STATE), supersede=True)

    def dispose_savepoint(self, savepoint_id: str) -> Savepoint:
        """Delete a savepoint and its files."""
        savepoint = self.repository.savepoint(savepoint_id)
        if savepoint is None:
            raise JobError(f"There is no savepoint {savepoint_id}; ./barmill job show NAME lists them.")
        with self._action("dispose", savepoint.job, Permission.MANAGE_JOBS) as change:
            change.before = {"savepoint": savepoint.id, "path": savepoint.path}
            operation = self.repository.open_operation(savepoint.job)
            if operation is not None and savepoint.path in (operation.savepoint, operation.parameters.restore):
                raise JobError(
                    f"The savepoint is in use: the {operation.kind} of {operation.job} is in progress; wait for it."
                )
            try:
                restore_points.dispose_savepoint(savepoint.path)
            except OSError as error:
                raise JobError(
                    f"The savepoint at {savepoint.path} cannot be deleted: {error.strerror}; correct the cause and try"
                    " again."
                ) from error
            self.repository.mark_disposed(savepoint.id)
        return savepoint

    def _action(self, name: str, job: str, needs: Permission) -> AbstractContextManager[Change]:
        return action(self.repository.db, self._actor, f"job.{name}", job, needs=needs)

    def _current_spec(self, job: Job) -> BarsJobSpec:
        return self.repository.spec(job.name, job.version)

    def _insert(self, spec: BarsJobSpec, desired: Desired) -> None:
        version = self._add_version(spec)
        self.repository.add_job(Job(spec.name, version, desired, now_ms()))

    def _add_version(self, spec: BarsJobSpec) -> int:
        return self.repository.add_version(spec.name, stored_text(spec), self._actor.name)

    def _issue(
        self, change: Change, job: Job, kind: Kind, parameters: OperationParameters, *, supersede: bool = False
    ) -> Operation:
        """Store an operation; return the open operation if the same one is already in progress.

        supersede: replace any other operation in progress.
        """
        open_operation = self.repository.open_operation(job.name)
        if open_operation is not None:
            if (open_operation.kind, open_operation.parameters) == (kind, parameters):
                change.result = f"Joined the {kind.value} in progress, {open_operation.id}."
                return open_operation
            if not supersede and open_operation.kind is not Kind.RESCALE:
                raise JobError(
                    f"The {open_operation.kind.value} of {job.name} is in progress; wait for it, or cancel the job."
                )
            self.repository.finish(
                open_operation, Outcome.SUPERSEDED, f"Replaced by another operation: {kind.value}.", {}
            )
        change.stage = Stage.ISSUED
        operation = Operation(change.trace_id, job.name, kind, parameters, self._actor.name, now_ms())
        self.repository.add_operation(operation)
        return operation

    def _restore_uri(self, job: Job, restore: str | None) -> str | None:
        """Return the URI that `restore` names, or None for the newest state or no state; raise JobError if unknown."""
        if restore is None or restore == BEGINNING:
            return None
        if restore == LAST_CHECKPOINT:
            runs = {run.id: run.number for run in self.repository.runs(job.name, 12)}
            newest = next(iter(restore_points.checkpoints(self.repository.home, runs)), None)
            if newest is None:
                raise JobError(f"{job.name} has no checkpoint to continue from; start it without specifying one.")
            return newest.uri
        savepoint = self.repository.savepoint(restore)
        if savepoint is None or savepoint.job != job.name:
            raise JobError(f"{job.name} has no savepoint {restore}; ./barmill job show {job.name} lists them.")
        return savepoint.path


def _check_kafka_edit(current: BarsJobSpec, spec: BarsJobSpec) -> None:
    """Raise JobError if an edit requires undoing what was read from or published to Kafka, which is impossible."""
    name = current.name
    if (spec.source, spec.sink) != (current.source, current.sink):
        raise JobError(f"{name} cannot change its source or sink; clone it to use others.")
    if not spec.uses_kafka:
        return
    if not {*spec.frame_list} <= {*current.frame_list}:
        raise JobError(f"{name} uses Kafka, so it cannot gain frames; create another job with only the new ones.")
    if spec.lateness_ms > current.lateness_ms:
        raise JobError(
            f"{name} uses Kafka, so its lateness cannot increase; create another job with a longer lateness."
        )


def _restore_permission(restore: str | None) -> Permission:
    return Permission.OPERATE_JOBS if restore is None else Permission.MANAGE_JOBS
