"""`barmill job retention`: how long bars of a frame are kept."""

import argparse
import json
import sqlite3
from contextlib import closing
from dataclasses import asdict

from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import Removed
from cli.errors import UserError
from cli.texts import duration_ms, duration_text
from control.clock import utc_text
from control.home import Home
from control.people.roles import Actor
from control.retention.policy import Policy, keep, keep_for_ever, policies

FOR_EVER = "for-ever"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line, but for --json."""
    parser.add_argument("frame", nargs="?", metavar="FRAME", help="such as 1s; without it, show what is kept")
    parser.add_argument("keep", nargs="?", metavar="TIME", help=f"how long its bars are kept: 7d, say, or {FOR_EVER}")
    parser.add_argument("--into", metavar="FRAME", help="the longer frame that holds them from then on")


def run(args: argparse.Namespace, home: Home) -> int:
    """Show what is kept, or change it."""
    actor = Actor.at_command_line()
    if args.frame is None:
        print(_shown(home, as_json=args.json))
        return 0
    if args.keep is None:
        raise UserError(f"Say how long: ./barmill job retention {args.frame} 7d, or {FOR_EVER}.")
    if args.keep == FOR_EVER:
        keep_for_ever(home, actor, args.frame)
        print(
            json.dumps({"frame": args.frame, "keep_ms": None}) if args.json else f"{args.frame} bars are kept for ever."
        )
        return 0
    policy = keep(home, actor, args.frame, duration_ms(args.keep, "TIME"), args.into)
    print(json.dumps(asdict(policy)) if args.json else _sentence(policy))
    return 0


def _shown(home: Home, *, as_json: bool) -> str:
    removed, said = {one.frame: one for one in _removed(home)}, policies(home)
    if as_json:
        gone = [asdict(one) for one in removed.values()]
        return json.dumps({"kept": [asdict(one) for one in said], "removed": gone}, indent=2)
    lines = [_sentence(one) for one in said] or [
        "All bars are kept for ever; ./barmill job retention 1s 7d changes that."
    ]
    return "\n".join([*lines, *(_gone(one) for one in removed.values())])


def _removed(home: Home) -> list[Removed]:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return reader.removed()
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return []


def _sentence(policy: Policy) -> str:
    kept = f"{policy.frame} bars are kept for {duration_text(policy.keep_ms)}"
    return f"{kept}; older ones go once {policy.into} bars hold them."


def _gone(one: Removed) -> str:
    return f"{one.bars:,} {one.frame} bars from before {utc_text(one.to_ms)} have been removed."
