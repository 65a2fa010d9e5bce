"""`barmill verify`: bars recomputed from the tick log and compared with what the job published."""

import argparse
import json
import sqlite3
import sys
from dataclasses import asdict

from bar.damage import NEXT_STEP, is_damage, noticing_damage
from bar.sqlite_file import StoreMissingError
from bar.verification import Verdict, verify
from cli.errors import UserError
from control.home import Home
from control.jobs.views import known_jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare, and say what was found; 0 only when every bar is the same and no frame has stopped."""
    home = Home.find()
    try:
        with noticing_damage(home.bars_db):
            verdict = verify(home.ticks_db, home.bars_db, _show, known_jobs(home))
    except StoreMissingError as error:
        raise UserError(str(error)) from error
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        raise UserError(f"A store is damaged ({error}). {NEXT_STEP}") from error
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K")
    print(json.dumps(asdict(verdict)) if args.json else _as_text(verdict))
    return 0 if verdict.good else 1


def _show(share: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2Krecomputing {share:.0%}")
        sys.stderr.flush()


def _as_text(verdict: Verdict) -> str:
    lines = [
        f"ticks  {verdict.ticks:,} read by the jobs: {verdict.in_bars:,} in bars, {verdict.late:,} too late",
        f"bars   {verdict.bars:,} recomputed and compared, {verdict.different:,} different",
    ]
    if verdict.shown:
        made = f"       {verdict.shown:,} more that pages make of them compared, {verdict.shown_different:,} different"
        lines.append(made)
    if verdict.unverifiable:
        lines.append(
            f"       {verdict.unverifiable:,} cannot be recomputed: they are older than the tick log or than what is"
            " kept of their frame, or no job makes it any more"
        )
    if verdict.damaged:
        lines.append(
            f"damage {verdict.damaged:,} ticks are in damaged blocks of the tick log, so bars of these times cannot be"
            " recomputed; run ./barmill repair"
        )
    if verdict.ahead:
        lines.append(
            f"       {verdict.ahead:,} came from Kafka ahead of their job's progress, and were compared with"
            " as many ticks as they hold"
        )
    lines += [f"note   {sentence}" for sentence in verdict.given_up]
    return "\n".join([*lines, *(f"stopped  {sentence}" for sentence in verdict.stopped), *verdict.examples])
