"""`barmill audit`: the log of who did what, and the proof that nobody has worked on it."""

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime

from bar.sqlite_file import StoreMissingError
from cli.errors import UserError
from cli.texts import time_ms
from control.audit import Record, Search, holds, search, verify_chain
from control.database import read_control_db
from control.home import Home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(run_audit=run)
        one.add_argument("--json", action="store_true", help="print the result as JSON")
        return one

    verify = command("verify-log", _verify, "check that the log is whole and unchanged")
    verify.add_argument("--head", metavar="HASH", help="a hash printed earlier, which must still be in the log")
    listing = command("list", _list, "print the log, the newest first")
    listing.add_argument("--search", default="", metavar="TEXT", help="only what has this text anywhere")
    listing.add_argument("--actor", metavar="WHO")
    listing.add_argument("--action", metavar="WHAT", help="such as job.stop")
    listing.add_argument("--trace", metavar="ID", help="only what belongs to this action")
    listing.add_argument("--from", dest="start", metavar="T", help="from this time on; ISO 8601 or epoch ms")
    listing.add_argument("--to", dest="end", metavar="T", help="before this time")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="default %(default)s; 0 prints all")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    run_audit: Callable[[argparse.Namespace], int] = args.run_audit
    try:
        return run_audit(args)
    except StoreMissingError as error:
        raise UserError(str(error)) from error


def _verify(args: argparse.Namespace) -> int:
    db = read_control_db(Home.find())
    with closing(db.conn):
        check = verify_chain(db)
        forged = args.head and not check.problem and not holds(db, args.head)
    problem = check.problem or ("The log was replaced: the hash you noted is not in it." if forged else "")
    if args.json:
        print(json.dumps({**asdict(check), "problem": problem, "intact": not problem}))
    if problem:
        raise UserError(f"The audit log was tampered with. {problem} Compare it with a backup.")
    if not args.json:
        print(f"The audit log is whole and unchanged: {check.records:,} records, newest hash {check.head}.")
    return 0


def _list(args: argparse.Namespace) -> int:
    wanted = Search(
        text=args.search,
        actor=args.actor,
        action=args.action,
        trace_id=args.trace,
        from_ms=time_ms(args.start, "--from") if args.start else 0,
        to_ms=time_ms(args.end, "--to") if args.end else 2**62,
    )
    db = read_control_db(Home.find())
    with closing(db.conn):
        records = search(db, wanted, limit=args.limit or -1)
    print(json.dumps([asdict(one) for one in records], indent=2) if args.json else "\n".join(map(_line, records)))
    return 0


def _line(one: Record) -> str:
    at = datetime.fromtimestamp(one.time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    change = " -> ".join(part for part in (one.before, one.after) if part)
    rest = "  ".join(part for part in (one.result, change) if part)
    return f"{one.number:6}  {at}  {one.actor:16} {one.action:18} {one.subject:20} {one.stage:9} {rest}".rstrip()
