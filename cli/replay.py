"""`barmill replay`: make bars from files with a bars job on a private Flink cluster."""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from barmill.ingest.files.findings import late_advice
from barmill.ingest.files.streams import ReplayFileError
from barmill.model.frames import FrameError, parse_frames
from barmill.model.tick import REASONS
from barmill.platform.csv_file import write_csv
from barmill.platform.file_replacement import replacing
from barmill.platform.home import Home
from barmill.storage.reader import BarReader
from cli import replay_layout
from cli.common import UserError, duration_ms
from cli.replay_layout import layout_of
from control.flink.class_archive import write_in_background
from control.flink.cluster import ClusterError
from control.flink.model import FlinkError
from control.jobs import replay_run
from control.jobs.replay_run import (
    MIN_MEASURABLE_S,
    ReplayError,
    ReplayProgress,
    ReplayRequest,
    ReplayResult,
    scratch_folder,
)

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

# Advice by the reason for which most rows were rejected.
_ADVICE = {
    "bad_time": "name another column with --map time=COLUMN, or describe its format with --time-format or --zone.",
    "bad_number": "name other columns with --map price=COLUMN or --map volume=COLUMN, or set --decimal , if needed.",
    "volume_negative": "if sells have a negative volume, set --amounts signed.",
    "no_instrument": "name another column with --map instrument=COLUMN, or give the name with --instrument NAME.",
    "bad_instrument": "name another column with --map instrument=COLUMN, or give the name with --instrument NAME.",
    "bad_id": "name other columns with --id A,B.",
    "duplicate": "if the ids repeat, name more columns with --id A,B.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="CSV, JSON, Parquet or Arrow files, compressed or not"
    )
    parser.add_argument("--frames", default="1s,1m,1h", help="frames to make, such as 1s,5m,1h (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="BARS.csv", help="the output file for bars; required without --dry-run"
    )
    parser.add_argument("--rejects", type=Path, metavar="REJECTS.csv", help="the output file for rejected rows")
    parser.add_argument(
        "--lateness",
        default="5m",
        help="how far a tick may be behind its instrument's newest tick (default %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="read the files, print what was found, and stop")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    replay_layout.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replay the files and write bars and rejects, or only inspect the files; return 1 if no row became a tick."""
    request = _request(args)
    if args.out is None and not args.dry_run:
        raise UserError(
            "The output file is missing; set it with --out BARS.csv, or only inspect the files with --dry-run."
        )
    inspection = replay_layout.inspect_files(request, args)
    if args.dry_run:
        print(inspection.as_json() if args.json else inspection.as_text())
        return 0 if inspection.ticks else 1
    sys.stderr.write(inspection.as_text(short=True) + "\n")
    request = replace(request, files=inspection.files)
    for target in (args.out, args.rejects):
        _check_writable(target)
    scratch = Home.find().root / "replays"
    try:
        with scratch_folder(scratch) as folder:
            home = Home(folder)
            progress = _ProgressLine()
            result = replay_run.run(request, home, progress.show)
            progress.clear()
            _write_bars(home, args.out)
            if args.rejects:
                _write_rejects(home, args.rejects)
    except (ReplayFileError, ReplayError, ClusterError, FlinkError) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(
            f"{error.filename or scratch}: {error.strerror}; free some space or choose another folder."
        ) from error
    write_in_background("replay")
    return report(result, args)


def report(result: ReplayResult, args: argparse.Namespace) -> int:
    """Print the result and advice; return the exit code."""
    print(json.dumps(_as_json(result)) if args.json else _as_text(result, args))
    if result.rejected.get("truncated_file"):
        sys.stderr.write("barmill: A file is damaged or truncated; the rejects show where, and which rows are lost.\n")
    if late_count := result.rejected.get("too_late"):
        sys.stderr.write(f"barmill: {late_advice(late_count, result.latest_ms)}\n")
    if not result.accepted:
        sys.stderr.write(f"barmill: {_no_tick_sentence(result, args)}\n")
        return 1
    return 0


def _request(args: argparse.Namespace) -> ReplayRequest:
    for path in args.files:
        if not path.is_file():
            raise UserError(f"There is no file {path}; check the name.")
    layout = layout_of(args)
    try:
        return ReplayRequest(
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
        raise UserError(f"{target} cannot be written; choose a file in an existing folder that you can write to.")


def _write_bars(home: Home, target: Path) -> None:
    with replacing(target) as stream:
        for number, piece in enumerate(BarReader.open(home.bars_db).all_bars()):
            write_csv(piece, stream, header=number == 0)


def _write_rejects(home: Home, target: Path) -> None:
    table = replay_run.rejects(home).select(*REJECT_COLUMNS, "late_ms")
    with replacing(target) as stream:
        write_csv(table.rename({"source": "file"}), stream)


def _as_json(result: ReplayResult) -> dict[str, object]:
    overall, after_startup = _rates(result)
    return {
        "read": result.read,
        "accepted": result.accepted,
        "rejected": result.rejected,
        "bars": result.bars,
        "seconds": round(result.total_s, 3),
        "startup_seconds": round(result.total_s - result.folding_s, 3),
        "ticks_per_s": round(overall),
        "ticks_per_s_after_startup": None if after_startup is None else round(after_startup),
    }


def _as_text(result: ReplayResult, args: argparse.Namespace) -> str:
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in sorted(result.rejected.items()))
    bars = ", ".join(f"{count:,} of {frame}" for frame, count in result.bars.items())
    lines = [
        f"read      {result.read:,} rows",
        f"accepted  {result.accepted:,} ticks" + ", all of them in the bars of every frame" * bool(result.accepted),
        f"rejected  {sum(result.rejected.values()):,}" + (f": {rejected}" if rejected else ""),
        f"bars      {bars or 'none'}, in {args.out}",
        f"took      {_speed_text(result)}",
    ]
    if result.rejected and not args.rejects:
        lines.append("Set a file with --rejects to see every rejected row with its line and reason.")
    return "\n".join(lines)


def _speed_text(result: ReplayResult) -> str:
    """Return the duration, and the rates if the time after start-up was long enough to measure."""
    text, (overall, after_startup) = f"{result.total_s:.1f} s", _rates(result)
    if after_startup is None:
        return text
    return f"{text}: {overall:,.0f} ticks/s, {after_startup:,.0f} ticks/s after start-up"


def _rates(result: ReplayResult) -> tuple[float, float | None]:
    """Return the ticks per second of the whole replay, and after start-up; None if that was too short to measure."""
    overall = result.accepted / result.total_s if result.total_s else 0.0
    return overall, result.accepted / result.folding_s if result.folding_s >= MIN_MEASURABLE_S else None


def _no_tick_sentence(result: ReplayResult, args: argparse.Namespace) -> str:
    """Return a sentence about why no row became a tick, with advice."""
    if not result.read:
        return f"{', '.join(map(str, args.files))[:200]} has no rows, so there are no bars; choose a file with rows."
    reason = max(result.rejected, key=lambda name: result.rejected[name])
    advice = _ADVICE.get(reason, "write them to a file with --rejects REJECTS.csv.")
    return f"No row became a tick; most were rejected because {REASONS.get(reason, reason)}: {advice}"


class _ProgressLine:
    """The progress line on standard error, shown only if that is a terminal."""

    _WIDTH = 30

    def __init__(self) -> None:
        self._visible = sys.stderr.isatty()

    def show(self, progress: ReplayProgress) -> None:
        """Redraw the line."""
        if not self._visible:
            return
        if progress.folding_started_s is None or not progress.accepted:
            text = f"starting Flink; {progress.read:,} rows read"
        else:
            share = progress.share * progress.folded / progress.accepted
            running_s = max(time.monotonic() - progress.folding_started_s, 1e-3)
            remaining_s = running_s * (1 - share) / share if share else 0.0
            filled = round(share * self._WIDTH)
            bar = "█" * filled + "░" * (self._WIDTH - filled)
            text = f"{bar} {share:4.0%}  {progress.folded / running_s:,.0f} ticks/s  {remaining_s:,.0f} s left"
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._visible:
            sys.stderr.write("\r\x1b[2K")
