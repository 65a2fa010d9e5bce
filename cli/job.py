"""`barmill job`: make jobs, say what they should do, and see how they are."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cli import retention
from cli.errors import UserError
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.dependence import what_stops_with
from control.jobs.endings import why_ended
from control.jobs.operations import Operation, Outcome, StopMode
from control.jobs.specs import written
from control.jobs.views import JobView, job_views, times_read_again
from control.machine.service import is_at_work
from control.people.roles import Actor
from control.waiting import wait_until

_FROM = "a savepoint's id, last-checkpoint, or beginning (of the tick log); default: the newest state"
_HISTORY = 20

Run = Callable[[argparse.Namespace, JobBook], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def command(name: str, run: Run, text: str, *, job: bool = True, waits: bool = False) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(run_job=run)
        if job:
            one.add_argument("name", metavar="NAME", help="the job")
        if waits:
            one.add_argument("--wait", action="store_true", help="return when it is done, or has failed")
            one.add_argument("--timeout", type=float, default=300.0, metavar="S", help="longest wait, default 300 s")
        one.add_argument("--json", action="store_true", help="print the result as JSON")
        return one

    create = command("create", _create, "make a stopped job of a spec", job=False)
    create.add_argument(
        "spec", metavar="SPEC.json", help='a file such as {"name": "bars-5m", "frames": "5m"}; - reads it'
    )
    command("list", _list, "list all jobs", job=False)
    command("show", _show, "show a job with its runs, operations and savepoints")
    start = command("start", _start, "have a job run", waits=True)
    start.add_argument("--from", dest="restore", metavar="STATE", help=_FROM)
    stop = command("stop", _stop, "have a job stop", waits=True)
    modes = [mode.value for mode in StopMode]
    stop.add_argument("--mode", choices=modes, default=StopMode.SAVEPOINT.value, help="default %(default)s")
    stop.add_argument("--savepoint-dir", metavar="DIR", help="where the savepoint goes, instead of the home")
    command("cancel", _cancel, "end a job at once; it goes on from its last checkpoint when started again", waits=True)
    restart = command("restart", _restart, "have a job stop with a savepoint and run again", waits=True)
    restart.add_argument("--from", dest="restore", metavar="STATE", help=_FROM)
    rescale = command("rescale", _rescale, "have a job run on another number of slots", waits=True)
    rescale.add_argument("slots", nargs="?", type=int, metavar="N", help="how many slots")
    rescale.add_argument("--parallelism", type=int, metavar="N", help="the same as an option")
    command("savepoint", _savepoint, "take a savepoint of a job that goes on", waits=True)
    edit = command("edit", _edit, "upgrade a job to another spec, with its state", waits=True)
    edit.add_argument("spec", metavar="SPEC.json", help="the new spec; - reads it from standard input")
    clone = command("clone", _clone, "make a stopped job of another one's spec")
    clone.add_argument("new_name", metavar="NEW", help="the new job's name")
    command("delete", _delete, "cancel and delete a job; its bars and savepoints stay", waits=True)
    dispose = command("dispose", _dispose, "delete a savepoint and its files", job=False)
    dispose.add_argument("savepoint", metavar="SAVEPOINT", help="its id, as job show lists it")
    retention.add_arguments(command("retention", _retention, "say how long bars of a frame are kept", job=False))


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    home = Home.find()
    with JobBook.open(home.create(), Actor.at_command_line()) as book:
        run_job: Run = args.run_job
        return run_job(args, book)


def _create(args: argparse.Namespace, book: JobBook) -> int:
    spec = book.create(_spec_text(args.spec))
    _say(args, {"created": spec.name}, f"Created {spec.name}; start it with ./barmill job start {spec.name}.")
    return 0


def _clone(args: argparse.Namespace, book: JobBook) -> int:
    spec = book.clone(args.name, args.new_name)
    _say(
        args, {"created": spec.name}, f"Created {spec.name}; edit it, or start it with ./barmill job start {spec.name}."
    )
    return 0


def _list(args: argparse.Namespace, book: JobBook) -> int:
    views = job_views(book.ledger.home)
    if args.json:
        print(json.dumps([view.as_json() for view in views], indent=2))
        return 0
    if not views:
        print("There is no job yet; ./barmill up makes one, ./barmill job create SPEC.json another.")
    for view in views:
        print(_line(view))
    return 0


def _show(args: argparse.Namespace, book: JobBook) -> int:
    ledger, job = book.ledger, book.ledger.job(args.name)
    view = next(one for one in job_views(ledger.home) if one.name == job.name)
    spec = written(ledger.spec(job.name, job.version))
    runs, operations = ledger.runs(job.name, _HISTORY), ledger.operations(job.name, _HISTORY)
    savepoints, again = ledger.savepoints(job.name), times_read_again(ledger.home, job.name, _HISTORY)
    why = {one.id: ending.sentence if (ending := why_ended(one, operations)) else "" for one in runs}
    ended = {one.id: f"{one.end or 'open'}  {why[one.id]}".rstrip() for one in runs}
    if args.json:
        history = {
            "spec": spec,
            "runs": [{**asdict(one), "why_ended": why[one.id]} for one in runs],
            "operations": [_operation_json(one) for one in operations],
            "savepoints": [asdict(one) for one in savepoints],
            "read_again": [asdict(one) for one in again],
        }
        print(json.dumps({**view.as_json(), **history}, indent=2))
        return 0
    print(_line(view), "", json.dumps(spec), sep="\n")
    for title, lines in (
        ("runs", [f"{_time(one.created_ms)}  {one.id}  v{one.version}  {ended[one.id]}" for one in runs]),
        ("operations", [f"{_time(one.asked_ms)}  {one.kind}  {_became(one)}  {one.sentence}" for one in operations]),
        ("savepoints", [f"{_time(one.created_ms)}  {one.id}  v{one.version}  {one.path}" for one in savepoints]),
        ("log read again", [f"{_time(one.at_ms)}  from {one.from_sequence:,}  {one.reason}" for one in again]),
    ):
        print(f"\n{title}", *(f"  {line}" for line in lines or ["none"]), sep="\n")
    return 0


def _start(args: argparse.Namespace, book: JobBook) -> int:
    return _carried_out(args, book, book.start(args.name, args.restore))


def _stop(args: argparse.Namespace, book: JobBook) -> int:
    folder = str(Path(args.savepoint_dir).absolute()) if args.savepoint_dir else None
    return _ended(args, book, lambda: book.stop(args.name, StopMode(args.mode), folder))


def _cancel(args: argparse.Namespace, book: JobBook) -> int:
    return _ended(args, book, lambda: book.stop(args.name, StopMode.LAST_STATE))


def _restart(args: argparse.Namespace, book: JobBook) -> int:
    return _carried_out(args, book, book.restart(args.name, args.restore))


def _rescale(args: argparse.Namespace, book: JobBook) -> int:
    slots = args.slots if args.slots is not None else args.parallelism
    if slots is None:
        raise UserError(f"Say on how many slots: ./barmill job rescale {args.name} N.")
    return _carried_out(args, book, book.rescale(args.name, slots))


def _savepoint(args: argparse.Namespace, book: JobBook) -> int:
    return _carried_out(args, book, book.take_savepoint(args.name))


def _edit(args: argparse.Namespace, book: JobBook) -> int:
    operation = book.edit(args.name, _spec_text(args.spec))
    if operation is None:
        _say(args, {"edited": args.name}, f"Edited {args.name}; it is stopped, so this counts when it is started.")
        return 0
    return _carried_out(args, book, operation)


def _delete(args: argparse.Namespace, book: JobBook) -> int:
    return _ended(args, book, lambda: book.delete(args.name))


def _dispose(args: argparse.Namespace, book: JobBook) -> int:
    savepoint = book.dispose_of(args.savepoint)
    _say(args, {"disposed": savepoint.id}, f"Deleted the savepoint {savepoint.id} of {savepoint.job}.")
    return 0


def _retention(args: argparse.Namespace, book: JobBook) -> int:
    return retention.run(args, book.ledger.home)


def _ended(args: argparse.Namespace, book: JobBook, end: Callable[[], Operation]) -> int:
    """Have a job end, and say on standard error what stops with it."""
    note = what_stops_with(book.ledger.home, args.name)
    operation = end()
    if note:
        print(f"Note: {note}", file=sys.stderr)
    return _carried_out(args, book, operation)


def _carried_out(args: argparse.Namespace, book: JobBook, operation: Operation) -> int:
    """Say that an operation was asked for, or wait for what becomes of it; 0 unless it is known to have failed."""
    at_work = is_at_work(book.ledger.home, "controller")
    if not args.wait:
        later = "" if at_work else " Barmill is not running; it is done once you start it with ./barmill up."
        _say(args, _operation_json(operation), f"Asked for: {operation.kind} {operation.job}.{later}")
        return 0
    if not at_work:
        raise UserError("It is noted, but Barmill is not running; start it with ./barmill up, and it is done.")
    newest = operation

    def ended() -> bool:
        nonlocal newest
        now = book.ledger.operation(operation.id) or newest
        if now.sentence != newest.sentence and now.open and not args.json:
            print(f"  {now.sentence}", flush=True)
        newest = now
        return not newest.open

    if not wait_until(ended, args.timeout, every_s=0.2):
        raise UserError(f"Not done after {args.timeout:.0f} s, but still being worked on: {newest.sentence}")
    if newest.outcome is not Outcome.DONE:
        raise UserError(newest.sentence)
    _say(args, _operation_json(newest), newest.sentence)
    return 0


def _spec_text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"The spec {source} cannot be read: {reason}.") from error


def _operation_json(operation: Operation) -> dict[str, object]:
    fields = asdict(operation)
    fields["wanted"] = json.loads(operation.wanted.as_json())
    return fields


def _say(args: argparse.Namespace, as_json: dict[str, object], sentence: str) -> None:
    print(json.dumps(as_json) if args.json else sentence)


def _line(view: JobView) -> str:
    doing = f"  ({view.operation.kind} under way: {view.operation.sentence})" if view.operation else ""
    return f"{view.name:20} {view.state:12} should be {view.desired:8} {view.frames:14} {view.sentence}{doing}"


def _became(operation: Operation) -> str:
    return operation.outcome.value if operation.outcome else "under way"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
