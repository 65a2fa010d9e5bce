"""`barmill audit`: print the audit log, or check that it was not tampered with."""

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict

from barmill.audit.trail import Record, Search, contains_hash, search, verify_chain
from barmill.platform.home import Home
from barmill.platform.sqlite_file import StoreMissingError, read_control_db
from barmill.platform.texts import moment
from cli.common import UserError, time_ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        subparser.set_defaults(run_audit=run)
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
        return subparser

    verify = command("verify-log", _verify, "check that the log is complete and unchanged")
    verify.add_argument("--head", metavar="HASH", help="a hash printed earlier, which must still be in the log")
    listing = command("list", _list, "print the log, newest first")
    listing.add_argument("--search", default="", metavar="TEXT", help="only records that contain this text")
    listing.add_argument("--actor", metavar="WHO")
    listing.add_argument("--action", metavar="WHAT", help="such as job.stop")
    listing.add_argument("--trace", metavar="ID", help="only records of this action")
    listing.add_argument("--from", dest="start", metavar="T", help="at or after this time; ISO 8601 or epoch ms")
    listing.add_argument("--to", dest="end", metavar="T", help="before this time")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="default %(default)s; 0 prints all")


def run(args: argparse.Namespace) -> int:
    """Run the action and return the exit code."""
    run_audit: Callable[[argparse.Namespace], int] = args.run_audit
    try:
        return run_audit(args)
    except StoreMissingError as error:
        raise UserError(str(error)) from error


def _verify(args: argparse.Namespace) -> int:
    db = read_control_db(Home.find())
    with closing(db.conn):
        check = verify_chain(db)
        is_replaced = args.head and not check.problem and not contains_hash(db, args.head)
    problem = check.problem or ("The log was replaced: it does not contain the noted hash." if is_replaced else "")
    if args.json:
        print(json.dumps({**asdict(check), "problem": problem, "intact": not problem}))
    if problem:
        raise UserError(f"The audit log was changed after it was written. {problem} Compare it with a backup.")
    if not args.json:
        print(f"The audit log is complete and unchanged: {check.records:,} records, newest hash {check.head}.")
    return 0


def _list(args: argparse.Namespace) -> int:
    query = Search(
        text=args.search,
        actor=args.actor,
        action=args.action,
        trace_id=args.trace,
        from_ms=time_ms(args.start, "--from") if args.start else 0,
        to_ms=time_ms(args.end, "--to") if args.end else 2**62,
    )
    db = read_control_db(Home.find())
    with closing(db.conn):
        records = search(db, query, limit=args.limit or -1)
    print(
        json.dumps([asdict(record) for record in records], indent=2)
        if args.json
        else "\n".join(map(_record_line, records))
    )
    return 0


def _record_line(record: Record) -> str:
    time_text = moment(record.time_ms)
    change = " -> ".join(part for part in (record.before, record.after) if part)
    details = "  ".join(part for part in (record.result, change) if part)
    columns = f"{record.actor:16} {record.action:18} {record.subject:20} {record.stage:9}"
    return f"{record.number:6}  {time_text}  {columns} {details}".rstrip()
