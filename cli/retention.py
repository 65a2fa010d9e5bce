"""`barmill job retention`: show or set how long bars of a frame are kept."""

import argparse
import json
from dataclasses import asdict

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.platform.texts import utc_text
from barmill.storage.bar_store import Removed
from barmill.storage.reader import BarReader
from cli.common import UserError, duration_ms, duration_text
from control.retention import Policy, clear_retention, policies, set_retention

FOR_EVER = "for-ever"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, except --json."""
    parser.add_argument(
        "frame", nargs="?", metavar="FRAME", help="the frame, such as 1s; without it, show all settings"
    )
    parser.add_argument(
        "keep",
        nargs="?",
        metavar="TIME",
        help=f"how long bars of the frame are kept: a duration such as 7d, or {FOR_EVER}",
    )
    parser.add_argument("--into", metavar="FRAME", help="the longer frame that replaces the removed bars")


def run(args: argparse.Namespace, home: Home) -> int:
    """Show or change the retention, and return the exit code."""
    actor = Actor.at_command_line()
    if args.frame is None:
        print(_policies_text(home, as_json=args.json))
        return 0
    if args.keep is None:
        raise UserError(f"The duration is missing; run ./barmill job retention {args.frame} 7d, or use {FOR_EVER}.")
    if args.keep == FOR_EVER:
        clear_retention(home, actor, args.frame)
        print(
            json.dumps({"frame": args.frame, "keep_ms": None}) if args.json else f"{args.frame} bars are kept forever."
        )
        return 0
    policy = set_retention(home, actor, args.frame, duration_ms(args.keep, "TIME"), args.into)
    print(json.dumps(asdict(policy)) if args.json else _policy_text(policy))
    return 0


def _policies_text(home: Home, *, as_json: bool) -> str:
    removals_by_frame, current_policies = {removal.frame: removal for removal in _removed(home)}, policies(home)
    if as_json:
        removals = [asdict(removal) for removal in removals_by_frame.values()]
        return json.dumps({"kept": [asdict(policy) for policy in current_policies], "removed": removals}, indent=2)
    lines = [_policy_text(policy) for policy in current_policies] or [
        "All bars are kept forever; ./barmill job retention 1s 7d keeps 1s bars for 7 days."
    ]
    return "\n".join([*lines, *(_removal_text(removal) for removal in removals_by_frame.values())])


def _removed(home: Home) -> list[Removed]:
    with if_ready(), BarReader.open(home.bars_db) as reader:
        return reader.removals()
    return []


def _policy_text(policy: Policy) -> str:
    period = f"{policy.frame} bars are kept for {duration_text(policy.keep_ms)}"
    return f"{period}; older bars are removed once {policy.into} bars replace them."


def _removal_text(removal: Removed) -> str:
    return f"{removal.bars:,} {removal.frame} bars from before {utc_text(removal.to_ms)} have been removed."
