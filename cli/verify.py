"""`barmill verify`: recompute bars from the tick log and compare them with the published ones."""

import argparse
import json
import sqlite3
import sys
from dataclasses import asdict

from barmill.platform.home import Home
from barmill.platform.sqlite_file import StoreMissingError
from barmill.storage.bar_damage import NEXT_STEP, is_damage, mark_damage
from barmill.storage.verification import Verdict, verify
from cli.common import UserError
from control.jobs.views import known_jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare the bars and print the result.

    Return 0 only if all bars are equal, no frame has stopped, and no ticks are in damaged blocks that `repair` has not
    reported yet. Raise UserError if a store is missing or damaged.
    """
    home = Home.find()
    try:
        with mark_damage(home.bars_db):
            verdict = verify(home.ticks_db, home.bars_db, _show_progress, known_jobs(home))
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


def _show_progress(share: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2Krecomputing {share:.0%}")
        sys.stderr.flush()


def _as_text(verdict: Verdict) -> str:
    lines = [
        f"ticks  {verdict.ticks:,} read by jobs: {verdict.in_bars:,} in bars, {verdict.late:,} too late",
        f"bars   {verdict.bars:,} recomputed and compared, {verdict.different:,} different",
    ]
    if verdict.shown:
        lines.append(f"       {verdict.shown:,} rolled-up bars compared, {verdict.shown_different:,} different")
    if verdict.unverifiable:
        lines.append(
            f"       {verdict.unverifiable:,} cannot be recomputed: they are older than the tick log or the"
            " retention of their frame, or no job makes the frame any more"
        )
    if verdict.damaged:
        lines.append(
            f"damage {verdict.damaged:,} ticks are in damaged blocks of the tick log, so bars of these times cannot be"
            " recomputed; run ./barmill repair"
        )
    if verdict.ahead:
        lines.append(
            f"       {verdict.ahead:,} came from Kafka ahead of their job's progress and were compared with"
            " bars recomputed from the same number of ticks"
        )
    lines += [f"note   {sentence}" for sentence in verdict.given_up]
    return "\n".join([*lines, *(f"stopped  {sentence}" for sentence in verdict.stopped), *verdict.examples])
