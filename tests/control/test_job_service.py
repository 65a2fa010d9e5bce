"""What people may ask of jobs, what is written down for the controller, and what is refused in which words."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from barmill.audit.roles import FIRST_START, GRANTS, Permission, Role
from barmill.audit.trail import Search, search
from barmill.platform.errors import NotAllowedError
from barmill.platform.home import Home
from control.jobs.model import Desired, Job, Kind, Operation, OperationParameters, Outcome, StopMode
from control.jobs.repository import JobRepository
from control.jobs.service import BEGINNING, LAST_CHECKPOINT, JobService
from control.jobs.specs import DEFAULT_JOB, JobError, NoSuchJobError
from tests.support.job_services import ADA, finish, running, saved, spec_text, trail
from tests.support.job_services import service as service

ASKS: dict[str, tuple[Permission, Callable[[JobService], object]]] = {
    "create": (Permission.MANAGE_JOBS, lambda service: service.create(spec_text("new"))),
    "clone": (Permission.MANAGE_JOBS, lambda service: service.clone("bars", "newer")),
    "edit": (Permission.MANAGE_JOBS, lambda service: service.edit("bars", spec_text(frames="5m"))),
    "start": (Permission.OPERATE_JOBS, lambda service: service.start("bars")),
    "start from beginning": (Permission.MANAGE_JOBS, lambda service: service.start("bars", BEGINNING)),
    "stop": (Permission.OPERATE_JOBS, lambda service: service.stop("bars")),
    "cancel": (Permission.MANAGE_JOBS, lambda service: service.stop("bars", StopMode.LAST_STATE)),
    "stop stateless": (Permission.MANAGE_JOBS, lambda service: service.stop("bars", StopMode.STATELESS)),
    "restart": (Permission.OPERATE_JOBS, lambda service: service.restart("bars")),
    "restart from beginning": (Permission.MANAGE_JOBS, lambda service: service.restart("bars", BEGINNING)),
    "rescale": (Permission.OPERATE_JOBS, lambda service: service.rescale("bars", 2)),
    "savepoint": (Permission.OPERATE_JOBS, lambda service: service.take_savepoint("bars")),
    "delete": (Permission.MANAGE_JOBS, lambda service: service.delete("bars")),
    "dispose": (
        Permission.MANAGE_JOBS,
        lambda service: service.dispose_savepoint(service.repository.savepoints("bars")[0].id),
    ),
}


def test_a_start_says_so_at_once_and_is_carried_out_later(service: JobService) -> None:
    service.create(spec_text())
    operation = service.start("bars")
    assert service.repository.job("bars").desired is Desired.RUNNING
    assert service.repository.open_operation("bars") == operation
    assert (operation.kind, operation.parameters, operation.actor, operation.open) == (
        Kind.START,
        OperationParameters(),
        "ada",
        True,
    )
    assert (trail(service)[0].stage, trail(service)[0].trace_id) == ("issued", operation.id)


def test_a_start_gives_a_job_that_was_given_up_on_another_chance(service: JobService) -> None:
    running(service)
    failed = service.repository.newest_run_number("bars")
    assert service.start("bars").kind is Kind.START
    assert service.repository.job("bars").failures_after_run == failed > 0


def test_a_job_goes_on_from_what_is_chosen(service: JobService) -> None:
    run = running(service)
    savepoint = saved(service, run)
    with pytest.raises(JobError, match="bars has no checkpoint to continue from; start it without specifying one"):
        service.restart("bars", LAST_CHECKPOINT)
    checkpoint = service.repository.home.flink / "checkpoints" / run.id / "chk-7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    for restore, mode, uri in (
        (savepoint.id, StopMode.LAST_STATE, service.repository.savepoints("bars")[0].path),
        (LAST_CHECKPOINT, StopMode.LAST_STATE, checkpoint.as_uri()),
        (BEGINNING, StopMode.STATELESS, None),
        (None, StopMode.SAVEPOINT, None),
    ):
        operation = service.restart("bars", restore)
        assert operation.parameters == OperationParameters(mode=mode, restore=uri)
        finish(service, operation)
    started = service.start("bars", savepoint.id)
    assert started.parameters.restore == service.repository.savepoints("bars")[0].path


def test_a_start_from_the_beginning_forgets_what_there_was(service: JobService) -> None:
    running(service)
    service.start("bars", BEGINNING)
    assert service.repository.job("bars").fresh_after_run == service.repository.newest_run_number("bars") > 0


def test_a_savepoint_that_is_not_the_jobs_own_is_refused(service: JobService) -> None:
    savepoint = saved(service, running(service))
    service.create(spec_text("other"))
    for name, restore in (("other", savepoint.id), ("bars", "no-such")):
        with pytest.raises(JobError, match=f"{name} has no savepoint {restore}; ./barmill job show {name} lists them"):
            service.start(name, restore)


@pytest.mark.parametrize("mode", StopMode)
def test_a_stop_is_only_done_when_the_controller_says_so(service: JobService, mode: StopMode, tmp_path: Path) -> None:
    running(service)
    operation = service.stop("bars", mode, str(tmp_path))
    assert operation.parameters == OperationParameters(mode=mode, savepoint_dir=str(tmp_path))
    assert service.repository.job("bars").desired is Desired.RUNNING
    asked = trail(service)[0]
    assert json.loads(str(asked.after)) == {"desired": "stopped", "mode": mode.value}


def test_rescaling_makes_a_version_that_starts_on_as_many_slots(service: JobService) -> None:
    service.create(spec_text(shards=4))
    operation = service.rescale("bars", 3)
    assert (operation.kind, operation.parameters.parallelism) == (Kind.RESCALE, 3)
    assert service.repository.job("bars").version == 2
    assert service.repository.spec("bars", 2).parallelism == 3
    finish(service, operation)
    again = service.rescale("bars", 3)
    assert again.id != operation.id
    assert service.repository.job("bars").version == 2
    with pytest.raises(JobError, match="The spec's parallelism is invalid: Input should be greater than or equal to 1"):
        service.rescale("bars", 0)


def test_asking_twice_joins_the_first(service: JobService) -> None:
    running(service)
    first, second = service.stop("bars"), service.stop("bars")
    assert first == second
    newest, issued, *_ = trail(service)
    assert (issued.stage, newest.stage) == ("issued", "executed")
    assert newest.result == f"Joined the stop in progress, {first.id}."


def test_asking_at_once_from_many_sides_makes_one_operation(service: JobService) -> None:
    running(service)
    gate, ids = threading.Barrier(8), list[str]()

    def ask() -> None:
        with JobService.open(service.repository.home, ADA) as own:
            gate.wait(10)
            ids.append(own.restart("bars").id)

    sides = [threading.Thread(target=ask) for _ in range(8)]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_something_else_has_to_wait_for_what_is_under_way(service: JobService) -> None:
    running(service)
    under_way = service.restart("bars")
    sentence = "The restart of bars is in progress; wait for it, or cancel the job."
    for what in ("stop", "savepoint", "restart from beginning", "edit"):
        with pytest.raises(JobError) as refused:
            ASKS[what][1](service)
        assert str(refused.value) == sentence
    assert service.repository.open_operation("bars") == under_way
    assert service.repository.newest_version("bars") == 1  # the edit left nothing behind


@pytest.mark.parametrize(
    "ask",
    [
        lambda service: service.stop("bars", StopMode.LAST_STATE),
        lambda service: service.stop("bars", StopMode.STATELESS),
        lambda service: service.delete("bars"),
    ],
)
def test_what_cannot_wait_takes_the_place_of_what_is_under_way(
    service: JobService, ask: Callable[[JobService], Operation]
) -> None:
    running(service)
    under_way = service.restart("bars")
    operation = ask(service)
    assert service.repository.open_operation("bars") == operation
    superseded = service.repository.operation(under_way.id)
    assert superseded is not None
    assert (superseded.outcome, superseded.sentence) == (
        Outcome.SUPERSEDED,
        f"Replaced by another operation: {operation.kind.value}.",
    )
    assert [record.stage for record in search(service.repository.db, Search(trace_id=under_way.id))] == [
        "executed",
        "issued",
    ]


def test_rescaling_that_waits_for_slots_gives_way_to_anything(service: JobService) -> None:
    running(service)
    pending = service.rescale("bars", 9)
    operation = service.take_savepoint("bars")
    assert service.repository.open_operation("bars") == operation
    superseded = service.repository.operation(pending.id)
    assert superseded is not None
    assert superseded.outcome is Outcome.SUPERSEDED


def test_a_savepoint_is_disposed_of_with_its_files(service: JobService) -> None:
    savepoint = saved(service, running(service))
    [kept] = service.repository.savepoints("bars")
    assert service.dispose_savepoint(savepoint.id).path == kept.path
    assert service.repository.savepoints("bars") == []
    assert not (service.repository.home.flink / "savepoints" / savepoint.id / "savepoint-1").exists()
    assert json.loads(str(trail(service)[0].before)) == {"savepoint": savepoint.id, "path": kept.path}
    with pytest.raises(JobError, match=f"There is no savepoint {savepoint.id}; ./barmill job show NAME lists them"):
        service.dispose_savepoint(savepoint.id)


def test_a_savepoint_that_a_job_goes_on_from_just_now_is_kept(service: JobService) -> None:
    savepoint = saved(service, running(service))
    service.restart("bars", savepoint.id)
    with pytest.raises(JobError, match="The savepoint is in use: the restart of bars is in progress"):
        service.dispose_savepoint(savepoint.id)
    assert len(service.repository.savepoints("bars")) == 1


def test_a_savepoint_that_cannot_be_deleted_stays_registered(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    savepoint = saved(service, running(service))

    def refuse(_uri: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("control.flink.restore_points.dispose_savepoint", refuse)
    with pytest.raises(JobError, match=r"cannot be deleted: Permission denied; correct the cause and try again\."):
        service.dispose_savepoint(savepoint.id)
    assert len(service.repository.savepoints("bars")) == 1


@pytest.mark.parametrize("role", Role)
def test_the_role_an_account_has_now_decides(service: JobService, role: Role) -> None:
    saved(service, running(service))
    job, savepoints = service.repository.job("bars"), service.repository.savepoints("bars")
    with service.repository.db.atomic():
        service.repository.db.conn.execute("UPDATE accounts SET role = ?", (role.value,))
    for needs, ask in ASKS.values():
        if needs in GRANTS[role]:
            continue
        with pytest.raises(NotAllowedError, match=f"As {role.value}, ada may not {needs.value}; ask an admin"):
            ask(service)
        assert (trail(service)[0].stage, trail(service)[0].actor) == ("refused", "ada")
    assert service.repository.jobs() == [job]
    assert service.repository.savepoints("bars") == savepoints
    assert service.repository.open_operation("bars") is None
    assert service.repository.newest_version("bars") == 1
    for needs, ask in ASKS.values():
        if needs in GRANTS[role]:
            ask(service)
            assert trail(service)[0].stage in ("issued", "executed")
            if (operation := service.repository.open_operation("bars")) is not None:
                finish(service, operation)


def test_a_job_that_does_not_exist_is_named(service: JobService) -> None:
    for what in ASKS.keys() - {"create", "dispose"}:
        with pytest.raises(NoSuchJobError, match="There is no job bars; existing jobs: none yet"):
            ASKS[what][1](service)


def test_the_first_start_makes_the_default_job_once_and_never_again(home: Home) -> None:
    with JobService.open(home, FIRST_START) as service:
        service.ensure_default_job()
        service.ensure_default_job()
        assert [(job.name, job.desired) for job in service.repository.jobs()] == [(DEFAULT_JOB, Desired.RUNNING)]
        assert [(record.actor, record.action) for record in trail(service)] == [("first start", "job.create")]
        operation = service.delete(DEFAULT_JOB)
        service.repository.finish(operation, Outcome.DONE, "The job is deleted; its bars stay.", {}, delete_job=True)
        service.ensure_default_job()
        assert service.repository.jobs() == []


def test_a_home_whose_people_made_their_own_jobs_gets_no_default_one(service: JobService) -> None:
    service.create(spec_text("mine"))
    service.ensure_default_job()
    assert [job.name for job in service.repository.jobs()] == ["mine"]


def test_what_was_written_outlives_the_one_who_wrote_it(service: JobService) -> None:
    operation = service.start(service.create(spec_text()).name)
    with JobRepository.read_only(service.repository.home) as repository:
        assert repository.open_operation("bars") == operation
        assert repository.job("bars") == Job(**vars(service.repository.job("bars")))
