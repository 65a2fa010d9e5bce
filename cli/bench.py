"""`barmill bench`: how fast, how late, how large, on this machine."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.charts import charts
from benchmarks.first_chart import first_chart
from benchmarks.kafka import kafka
from benchmarks.live import live
from benchmarks.peers.environment import PeerMissingError
from benchmarks.peers.run_bytewax import beside_bytewax
from benchmarks.picks import picks
from benchmarks.queries import queries
from benchmarks.replay import Say, by_instruments, throughput
from benchmarks.report import as_text
from benchmarks.scale import FULL, QUICK, Scale, tiny
from benchmarks.usage import CommandFailedError, machine
from control.home import Home
from control.machine.processes import Supervisor

_PARTS: dict[str, Callable[[Scale, Path, Say], dict[str, Any]]] = {
    "replay": throughput,
    "instruments": by_instruments,
    "live": live,
    "picks": picks,
    "queries": queries,
    "charts": charts,
    "first_chart": first_chart,
    "kafka": kafka,
    "peers": beside_bytewax,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--peers", action="store_true", help="also run other stream processors on the same ticks")
    parser.add_argument("--quick", action="store_true", help="fewer ticks and shorter windows: a few minutes, coarse")
    parser.add_argument("--only", choices=_PARTS, action="append", help="measure only this; may be repeated")
    parser.add_argument("--ticks", type=int, help=argparse.SUPPRESS)  # so few that it measures nothing, for the tests


def run(args: argparse.Namespace) -> int:
    """Measure part after part and print everything at the end."""
    home = Home.find()
    folder = home.root / "bench"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    scale = tiny(args.ticks) if args.ticks else QUICK if args.quick else FULL
    wanted = args.only or [name for name in _PARTS if name != "peers" or args.peers]
    if Supervisor(home).running:
        _say("Barmill is running on this machine, which takes from what is measured; ./barmill down stops it.")
    result: dict[str, Any] = {
        "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": "tiny" if args.ticks else "quick" if args.quick else "full",
        "machine": machine(),
    }
    failed = False
    for name in wanted:
        try:
            result[name] = _PARTS[name](scale, folder, _say)
        except PeerMissingError as error:
            result[name] = {"not_measured": str(error)}
        except CommandFailedError as error:
            failed = True
            result[name] = {"not_measured": f"The part '{name}' failed: {error}"}
    failed = failed or any("not_measured" in one for one in result.get("instruments", {}).get("runs", ()))
    print(json.dumps(result, indent=2) if args.json else as_text(result))
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
