"""`barmill replay`: the bars job over files, start to end, on a Flink of its own."""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from bar.csv_file import write_csv
from bar.frames import FrameError, parse_frames
from bar.reader import BarReader
from cli import replay_layout, replay_look
from cli.errors import UserError
from cli.replay_layout import layout_of
from cli.texts import duration_ms
from control.flink.cluster import ClusterError
from control.flink.model import FlinkError
from control.home import Home
from control.jobs import replay_run
from control.jobs.replay_run import Outcome, ReplayError, Request, Standing
from control.jobs.replay_scratch import scratch_folder
from feed.files.errors import ReplayFileError
from feed.files.findings import late_advice
from feed.tick import REASONS

REJECT_COLUMNS = (
    "source",
    "line",
    "reason",
    "detail",
    "time",
    "instrument",
    "price_open",
    "price_close",
    "volume",
    "id",
)

# What may help where most rows are refused for one reason.
_ADVICE = {
    "bad_time": "name another column with --map time=COLUMN, or say how it is written with --time-format or --zone.",
    "bad_number": "name other columns with --map price=COLUMN or --map volume=COLUMN, or write --decimal , for commas.",
    "volume_negative": "if sells have a negative volume, say --amounts signed.",
    "no_instrument": "name another column with --map instrument=COLUMN, or give the name with --instrument NAME.",
    "bad_instrument": "name another column with --map instrument=COLUMN, or give the name with --instrument NAME.",
    "bad_id": "name other columns with --id A,B.",
    "duplicate": "if the ids repeat, name more columns with --id A,B.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="CSV, JSON, Parquet or Arrow, packed or not"
    )
    parser.add_argument("--frames", default="1s,1m,1h", help="frames to make, such as 1s,5m,1h (default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="BARS.csv", help="where the bars go; needed without --dry-run")
    parser.add_argument("--rejects", type=Path, metavar="REJECTS.csv", help="where rows that are in no bar go")
    parser.add_argument("--lateness", default="5m", help="how late a tick may come behind its instrument's newest")
    parser.add_argument("--dry-run", action="store_true", help="read the files, say what was found, and stop")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    replay_layout.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replay the files and write bars and rejects."""
    request = _request(args)
    if args.out is None and not args.dry_run:
        raise UserError("Name a file for the bars with --out BARS.csv, or only look at the files with --dry-run.")
    looked = replay_look.look(request, args)
    if args.dry_run:
        print(looked.as_json() if args.json else looked.as_text())
        return 0 if looked.ticks else 1
    sys.stderr.write(looked.as_text(short=True) + "\n")
    request = replace(request, files=looked.files)
    for target in (args.out, args.rejects):
        _check_writable(target)
    scratch = Home.find().root / "replays"
    try:
        with scratch_folder(scratch) as folder:
            home = Home(folder)
            progress = _ProgressLine()
            outcome = replay_run.run(request, home, progress.show)
            progress.clear()
            _write_bars(home, args.out)
            if args.rejects:
                _write_rejects(home, args.rejects)
    except (ReplayFileError, ReplayError, ClusterError, FlinkError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(
            f"{error.filename or scratch}: {error.strerror}; free some space or name another place."
        ) from error
    return report(outcome, args)


def report(outcome: Outcome, args: argparse.Namespace) -> int:
    """Print what became of everything, and what may help; return the exit code."""
    print(json.dumps(_as_json(outcome)) if args.json else _as_text(outcome, args))
    if outcome.rejected.get("truncated_file"):
        sys.stderr.write("barmill: A file is damaged, or ends too early; the rejects say where, and what is lost.\n")
    if late := outcome.rejected.get("too_late"):
        sys.stderr.write(f"barmill: {late_advice(late, outcome.latest_ms)}\n")
    if not outcome.accepted:
        sys.stderr.write(f"barmill: {_no_tick(outcome, args)}\n")
        return 1
    return 0


def _request(args: argparse.Namespace) -> Request:
    for path in args.files:
        if not path.is_file():
            raise UserError(f"There is no file {path}; check the name.")
    layout = layout_of(args)
    try:
        return Request(
            args.files,
            layout,
            parse_frames(args.frames),
            duration_ms(args.lateness, "--lateness"),
            by_time=args.sort,
            newest_first=layout.newest_first,
        )
    except FrameError as error:
        raise UserError(f"--frames: {error}") from error


def _check_writable(target: Path | None) -> None:
    if target is None:
        return
    folder = target.absolute().parent
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{target} cannot be written; name a file in a folder that exists and is yours.")


def _write_bars(home: Home, target: Path) -> None:
    beside = target.with_name(target.name + ".part")
    with beside.open("wb") as stream:
        for number, piece in enumerate(BarReader.open(home.bars_db).everything()):
            write_csv(piece, stream, header=number == 0)
    beside.replace(target)


def _write_rejects(home: Home, target: Path) -> None:
    beside = target.with_name(target.name + ".part")
    table = replay_run.rejects(home).select(*REJECT_COLUMNS, "late_ms")
    write_csv(table.rename({"source": "file"}), beside)
    beside.replace(target)


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "read": outcome.read,
        "accepted": outcome.accepted,
        "rejected": outcome.rejected,
        "bars": outcome.bars,
        "seconds": round(outcome.total_s, 3),
        "startup_seconds": round(outcome.total_s - outcome.folding_s, 3),
        "ticks_per_s": round(outcome.accepted / outcome.folding_s) if outcome.folding_s else 0,
    }


def _as_text(outcome: Outcome, args: argparse.Namespace) -> str:
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in sorted(outcome.rejected.items()))
    bars = ", ".join(f"{count:,} of {frame}" for frame, count in outcome.bars.items())
    rate = outcome.accepted / outcome.folding_s if outcome.folding_s else 0
    lines = [
        f"read      {outcome.read:,} rows",
        f"accepted  {outcome.accepted:,} ticks" + ", all of them in the bars of every frame" * bool(outcome.accepted),
        f"rejected  {sum(outcome.rejected.values()):,}" + (f": {rejected}" if rejected else ""),
        f"bars      {bars or 'none'}, in {args.out}",
        f"took      {outcome.total_s:.1f} s, of which {outcome.folding_s:.1f} s at {rate:,.0f} ticks/s",
    ]
    if outcome.rejected and not args.rejects:
        lines.append("Name a file with --rejects to see every rejected row with its line and reason.")
    return "\n".join(lines)


def _no_tick(outcome: Outcome, args: argparse.Namespace) -> str:
    """Say in one sentence why there is no tick at all, and what may help."""
    if not outcome.read:
        return f"{', '.join(map(str, args.files))[:200]} holds no rows, so there are no bars; name another file."
    reason = max(outcome.rejected, key=lambda name: outcome.rejected[name])
    advice = _ADVICE.get(reason, "look at them with --rejects REJECTS.csv.")
    return f"No row became a tick; most were refused because {REASONS.get(reason, reason)}: {advice}"


class _ProgressLine:
    """One line on a terminal that says how far the replay is; silent elsewhere."""

    _WIDTH = 30

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def show(self, standing: Standing) -> None:
        """Redraw the line."""
        if not self._shown:
            return
        if standing.folding_since is None or not standing.accepted:
            text = f"starting Flink; {standing.read:,} rows read"
        else:
            share = standing.share * standing.folded / standing.accepted
            running_s = max(time.monotonic() - standing.folding_since, 1e-3)
            left_s = running_s * (1 - share) / share if share else 0.0
            filled = round(share * self._WIDTH)
            bar = "█" * filled + "░" * (self._WIDTH - filled)
            text = f"{bar} {share:4.0%}  {standing.folded / running_s:,.0f} ticks/s  {left_s:,.0f} s left"
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
