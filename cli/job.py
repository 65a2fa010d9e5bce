"""`barmill job`: create, control and inspect jobs."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from barmill.audit.roles import Actor
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.service import is_running
from barmill.platform.texts import moment
from cli import retention
from cli.common import UserError
from control.jobs.model import Operation, Outcome, StopMode
from control.jobs.service import JobService
from control.jobs.specs import spec_fields
from control.jobs.views import JobView, describe_stopping_frames, explain_end, job_views, last_rereads

_RESTORE_HELP = "a savepoint's id, last-checkpoint, or beginning (of the tick log); default: the newest state"
_HISTORY = 20

Run = Callable[[argparse.Namespace, JobService], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def command(name: str, run: Run, text: str, *, job: bool = True, waits: bool = False) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        subparser.set_defaults(run_job=run)
        if job:
            subparser.add_argument("name", metavar="NAME", help="the job")
        if waits:
            subparser.add_argument(
                "--wait", action="store_true", help="wait until the operation has succeeded or failed"
            )
            subparser.add_argument(
                "--timeout", type=float, default=300.0, metavar="S", help="longest wait (default 300 s)"
            )
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
        return subparser

    create = command("create", _create, "create a job from a spec, in the stopped state", job=False)
    create.add_argument(
        "spec", metavar="SPEC.json", help='a file such as {"name": "bars-5m", "frames": "5m"}; - reads standard input'
    )
    command("list", _list, "list all jobs", job=False)
    command("show", _show, "show a job, its runs, operations and savepoints")
    start = command("start", _start, "start a job", waits=True)
    start.add_argument("--from", dest="restore", metavar="STATE", help=_RESTORE_HELP)
    stop = command("stop", _stop, "stop a job", waits=True)
    modes = [mode.value for mode in StopMode]
    stop.add_argument("--mode", choices=modes, default=StopMode.SAVEPOINT.value, help="default %(default)s")
    stop.add_argument("--savepoint-dir", metavar="DIR", help="a folder for the savepoint, outside the home")
    command("cancel", _cancel, "end a job at once; the next start continues from its last checkpoint", waits=True)
    restart = command("restart", _restart, "stop a job with a savepoint and start it again", waits=True)
    restart.add_argument("--from", dest="restore", metavar="STATE", help=_RESTORE_HELP)
    rescale = command("rescale", _rescale, "change the number of slots of a job", waits=True)
    rescale.add_argument("slots", nargs="?", type=int, metavar="N", help="number of slots")
    rescale.add_argument("--parallelism", type=int, metavar="N", help="the number of slots, as an option")
    command("savepoint", _savepoint, "take a savepoint; the job keeps running", waits=True)
    edit = command("edit", _edit, "change the spec of a job and keep its state", waits=True)
    edit.add_argument("spec", metavar="SPEC.json", help="the new spec; - reads it from standard input")
    clone = command("clone", _clone, "create a job from another job's spec, in the stopped state")
    clone.add_argument("new_name", metavar="NEW", help="the new job's name")
    command("delete", _delete, "cancel and delete a job; its bars and savepoints stay", waits=True)
    dispose = command("dispose", _dispose, "delete a savepoint and its files", job=False)
    dispose.add_argument("savepoint", metavar="SAVEPOINT", help="the savepoint's id, as listed by job show")
    retention.add_arguments(
        command("retention", _retention, "show or set how long bars of a frame are kept", job=False)
    )


def run(args: argparse.Namespace) -> int:
    """Run the action and return the exit code."""
    home = Home.find()
    with JobService.open(home.create(), Actor.at_command_line()) as service:
        run_job: Run = args.run_job
        return run_job(args, service)


def _create(args: argparse.Namespace, service: JobService) -> int:
    spec = service.create(_spec_text(args.spec))
    _print_result(args, {"created": spec.name}, f"Created {spec.name}; start it with ./barmill job start {spec.name}.")
    return 0


def _clone(args: argparse.Namespace, service: JobService) -> int:
    spec = service.clone(args.name, args.new_name)
    _print_result(
        args, {"created": spec.name}, f"Created {spec.name}; edit it, or start it with ./barmill job start {spec.name}."
    )
    return 0


def _list(args: argparse.Namespace, service: JobService) -> int:
    views = job_views(service.repository.home)
    if args.json:
        print(json.dumps([view.as_json() for view in views], indent=2))
        return 0
    if not views:
        print("There are no jobs yet; run ./barmill up, which creates the first, or ./barmill job create SPEC.json.")
    for view in views:
        print(_job_line(view))
    return 0


def _show(args: argparse.Namespace, service: JobService) -> int:
    repository, job = service.repository, service.repository.job(args.name)
    view = next(job_view for job_view in job_views(repository.home) if job_view.name == job.name)
    spec = spec_fields(repository.spec(job.name, job.version))
    runs, operations = repository.runs(job.name, _HISTORY), repository.operations(job.name, _HISTORY)
    savepoints, reads_again = repository.savepoints(job.name), last_rereads(repository.home, job.name, _HISTORY)
    end_reasons = {run.id: ending.sentence if (ending := explain_end(run, operations)) else "" for run in runs}
    end_texts = {run.id: f"{run.end or 'open'}  {end_reasons[run.id]}".rstrip() for run in runs}
    if args.json:
        history = {
            "spec": spec,
            "runs": [{**asdict(run), "why_ended": end_reasons[run.id]} for run in runs],
            "operations": [_operation_json(operation) for operation in operations],
            "savepoints": [asdict(savepoint) for savepoint in savepoints],
            "read_again": [asdict(read) for read in reads_again],
        }
        print(json.dumps({**view.as_json(), **history}, indent=2))
        return 0
    print(_job_line(view), "", json.dumps(spec), sep="\n")
    for title, lines in (
        ("runs", [f"{moment(run.created_ms)}  {run.id}  v{run.version}  {end_texts[run.id]}" for run in runs]),
        (
            "operations",
            [
                f"{moment(operation.requested_ms)}  {operation.kind}  {_outcome_text(operation)}  {operation.sentence}"
                for operation in operations
            ],
        ),
        (
            "savepoints",
            [
                f"{moment(savepoint.created_ms)}  {savepoint.id}  v{savepoint.version}  {savepoint.path}"
                for savepoint in savepoints
            ],
        ),
        (
            "log read again",
            [f"{moment(read.at_ms)}  from {read.from_sequence:,}  {read.reason}" for read in reads_again],
        ),
    ):
        print(f"\n{title}", *(f"  {line}" for line in lines or ["none"]), sep="\n")
    return 0


def _start(args: argparse.Namespace, service: JobService) -> int:
    return _report_operation(args, service, service.start(args.name, args.restore))


def _stop(args: argparse.Namespace, service: JobService) -> int:
    folder = str(Path(args.savepoint_dir).absolute()) if args.savepoint_dir else None
    return _end_job(args, service, lambda: service.stop(args.name, StopMode(args.mode), folder))


def _cancel(args: argparse.Namespace, service: JobService) -> int:
    return _end_job(args, service, lambda: service.stop(args.name, StopMode.LAST_STATE))


def _restart(args: argparse.Namespace, service: JobService) -> int:
    return _report_operation(args, service, service.restart(args.name, args.restore))


def _rescale(args: argparse.Namespace, service: JobService) -> int:
    slots = args.slots if args.slots is not None else args.parallelism
    if slots is None:
        raise UserError(f"The number of slots is missing; run ./barmill job rescale {args.name} N.")
    return _report_operation(args, service, service.rescale(args.name, slots))


def _savepoint(args: argparse.Namespace, service: JobService) -> int:
    return _report_operation(args, service, service.take_savepoint(args.name))


def _edit(args: argparse.Namespace, service: JobService) -> int:
    operation = service.edit(args.name, _spec_text(args.spec))
    if operation is None:
        _print_result(
            args, {"edited": args.name}, f"Edited {args.name}; it is stopped, so the change applies when it starts."
        )
        return 0
    return _report_operation(args, service, operation)


def _delete(args: argparse.Namespace, service: JobService) -> int:
    return _end_job(args, service, lambda: service.delete(args.name))


def _dispose(args: argparse.Namespace, service: JobService) -> int:
    savepoint = service.dispose_savepoint(args.savepoint)
    _print_result(args, {"disposed": savepoint.id}, f"Deleted the savepoint {savepoint.id} of {savepoint.job}.")
    return 0


def _retention(args: argparse.Namespace, service: JobService) -> int:
    return retention.run(args, service.repository.home)


def _end_job(args: argparse.Namespace, service: JobService, end: Callable[[], Operation]) -> int:
    """Request an operation that ends the job, and print on standard error which frames this affects."""
    stopping_text = describe_stopping_frames(service.repository.home, args.name)
    operation = end()
    if stopping_text:
        print(f"Note: {stopping_text}", file=sys.stderr)
    return _report_operation(args, service, operation)


def _report_operation(args: argparse.Namespace, service: JobService, operation: Operation) -> int:
    """Report that an operation was requested, or wait for its result, and return 0.

    Raise UserError if the operation fails, or if the wait is impossible or too long.
    """
    is_up = is_running(service.repository.home, "controller")
    if not args.wait:
        hint = "" if is_up else " Barmill is not running; the operation starts with ./barmill up."
        _print_result(args, _operation_json(operation), f"Requested: {operation.kind} {operation.job}.{hint}")
        return 0
    if not is_up:
        raise UserError("The operation is queued, but Barmill is not running; start it with ./barmill up.")
    newest = operation

    def has_ended() -> bool:
        nonlocal newest
        current = service.repository.operation(operation.id) or newest
        if current.sentence != newest.sentence and current.open and not args.json:
            print(f"  {current.sentence}", flush=True)
        newest = current
        return not newest.open

    if not wait_until(has_ended, args.timeout, every_s=0.2):
        raise UserError(f"Not finished after {args.timeout:.0f} s, but still in progress: {newest.sentence}")
    if newest.outcome is not Outcome.DONE:
        raise UserError(newest.sentence)
    _print_result(args, _operation_json(newest), newest.sentence)
    return 0


def _spec_text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"The spec {source} cannot be read: {reason}.") from error


# The names of these fields in JSON, which scripts may rely on.
_JSON_NAMES = {"parameters": "wanted", "requested_ms": "asked_ms"}


def _operation_json(operation: Operation) -> dict[str, object]:
    fields = asdict(operation) | {"parameters": operation.parameters.non_defaults}
    return {_JSON_NAMES.get(name, name): value for name, value in fields.items()}


def _print_result(args: argparse.Namespace, as_json: dict[str, object], sentence: str) -> None:
    print(json.dumps(as_json) if args.json else sentence)


def _job_line(view: JobView) -> str:
    in_progress = f"  ({view.operation.kind} in progress: {view.operation.sentence})" if view.operation else ""
    return f"{view.name:20} {view.state:12} should be {view.desired:8} {view.frames:14} {view.sentence}{in_progress}"


def _outcome_text(operation: Operation) -> str:
    return operation.outcome.value if operation.outcome else "in progress"
