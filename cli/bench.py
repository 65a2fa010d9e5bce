"""`barmill bench`: measure throughput, latency and memory on this machine."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from barmill.platform.home import Home
from benchmarks import parts
from benchmarks.goals import MUST_BE_ZERO, goals_table
from benchmarks.parts import FULL, QUICK, Report, Scale, tiny
from benchmarks.peers.compare import compare_with_peers
from benchmarks.replay import by_instruments, throughput
from benchmarks.report import as_text
from benchmarks.runs import EarlierRun, NoRunError, commit, read_run, save, with_figures
from benchmarks.start import commands, start
from benchmarks.usage import CommandFailedError, machine
from cli.common import UserError
from control.processes.supervisor import Supervisor

_PARTS: dict[str, Callable[[Scale, Path, Report], dict[str, Any]]] = {
    "up": parts.up,
    "start": start,
    "commands": commands,
    "rest": parts.rest,
    "live": parts.live,
    "picks": parts.picks,
    "replay": throughput,
    "instruments": by_instruments,
    "bulk": parts.bulk,
    "queries": parts.queries,
    "moves": parts.moves,
    "charts": parts.charts,
    "first_chart": parts.first_chart,
    "kafka": parts.kafka,
    "peers": compare_with_peers,
    "test": parts.tests,
}
# Parts that run only on request.
_OPTIONAL = ("peers", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--peers", action="store_true", help="also run Bytewax, DuckDB and Polars on the same ticks")
    parser.add_argument("--quick", action="store_true", help="fewer ticks and shorter windows: a few minutes, coarse")
    parser.add_argument("--only", choices=_PARTS, action="append", help="measure only this part; may be repeated")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="compare with the JSON of an earlier run, from bench/runs/ of the home",
    )
    parser.add_argument("--ticks", type=int, help=argparse.SUPPRESS)  # for the tests: too few ticks to measure anything


def run(args: argparse.Namespace) -> int:
    """Measure the parts one after the other, save the results, and print them; return 1 if a part failed.

    A part also counts as failed if one of its figures in MUST_BE_ZERO is not 0.
    """
    try:
        earlier = read_run(args.compare) if args.compare else None
    except NoRunError as error:
        raise UserError(f"--compare: {error}") from error
    home = Home.find()
    folder = home.root / "bench"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    scale = tiny(args.ticks) if args.ticks else QUICK if args.quick else FULL
    names = args.only or [name for name in _PARTS if name not in _OPTIONAL or (name == "peers" and args.peers)]
    if Supervisor(home).running:
        _report_progress("Barmill is running on this machine and slows the measurements; stop it with ./barmill down.")
    result: dict[str, Any] = {
        "started_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "size": "tiny" if args.ticks else "quick" if args.quick else "full",
        "commit": commit(),
        "machine": machine(),
    }
    failed = False
    for name in names:
        try:
            result[name] = _PARTS[name](scale, folder, _report_progress)
        except CommandFailedError as error:
            failed = True
            result[name] = {"not_measured": f"The part '{name}' failed: {error}"}
        # After each part, so that a run that is stopped keeps what it measured.
        path = save(folder / "runs", result)
    failed = failed or any(
        "not_measured" in run for part in ("instruments", "peers") for run in result.get(part, {}).get("runs", ())
    )
    printed = with_figures(result)
    failed = failed or any(printed["figures"][key] for key in MUST_BE_ZERO)
    if args.json:
        print(json.dumps(printed | ({"compared_with": earlier.model_dump()} if earlier else {}), indent=2))
    else:
        earlier_figures = earlier.figures if earlier else None
        lines = [as_text(result), "", *_title(result, earlier), *goals_table(printed["figures"], earlier_figures)]
        print("\n".join(lines))
    _report_progress(f"The result is in {path}; to compare a later run with it, add --compare {path}.")
    return 1 if failed else 0


def _title(result: dict[str, Any], earlier: EarlierRun | None) -> list[str]:
    """Return the title of the table of figures, with a warning if runs of different sizes are compared."""
    if earlier is None:
        return ["Figures and goals"]
    title = f"Figures and goals, compared with the run of {earlier.started_utc} (commit {earlier.commit or 'unknown'})"
    if earlier.size == result["size"]:
        return [title]
    return [title, f"  The sizes differ: {earlier.size} before, {result['size']} now; compare runs of the same size."]


def _report_progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
