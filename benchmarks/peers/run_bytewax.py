"""Bytewax on the same file as a replay of ours, one after the other."""

import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.compare import differences, stored_bars
from benchmarks.peers.environment import peer_python
from benchmarks.replay import Say, replayed
from benchmarks.scale import Scale
from benchmarks.ticks import tick_file
from benchmarks.usage import measure

_PROGRAM = Path(__file__).with_name("bytewax_bars.py")
_WORKERS = (1, 2)


def beside_bytewax(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Replay a file with Barmill and with Bytewax; raise PeerMissingError if Bytewax cannot be installed."""
    say("Bytewax, in an environment of its own.")
    python = peer_python(folder / "peers")
    path = tick_file(folder, scale.peer_ticks, scale.replay_instruments)
    say(f"Replaying {scale.peer_ticks:,} ticks with Barmill.")
    with replayed(path, folder) as run:
        barmill, ours = run.figures(), stored_bars(run.bars_db)
    rows = []
    for workers in _WORKERS:
        say(f"The same {scale.peer_ticks:,} ticks with Bytewax, {workers} worker{'s'[: workers - 1]}.")
        rows.append(_bytewax(python, path, folder / "bytewax", workers, ours))
    return {"barmill": barmill, "bytewax": rows, **_ratios(barmill, rows)}


def _bytewax(python: Path, ticks: Path, out: Path, workers: int, ours: pl.DataFrame) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        flow = f"{_PROGRAM}:flow({str(ticks)!r}, {str(out)!r})"
        command = [str(python), "-m", "bytewax.run", flow, *(("-w", str(workers)) if workers > 1 else ())]
        taken = measure(command)
        made = pl.concat([pl.read_parquet(path) for path in sorted(out.glob("*.parquet"))], how="vertical_relaxed")
        differing = differences(ours, made)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    first, last = (
        [float(found) for found in re.findall(rf"^{word} at ([0-9.]+)$", taken.output, re.MULTILINE)]
        for word in ("first tick", "last bar")
    )
    wall_s, millions = max(last) - min(first), int(made.filter(pl.col("frame") == "1s")["ticks"].sum()) / 1e6
    return {
        "workers": workers,
        "total_s": round(taken.wall_s, 2),
        "startup_s": round(taken.wall_s - wall_s, 2),
        "ticks_per_s_after_startup": round(millions * 1e6 / wall_s),
        "cpu_s_per_million_ticks": round(taken.cpu_s / millions, 3),
        "other_programs_share_of_all_cores": round(taken.others_share, 3),
        "bars_compared": differing,
    }


def _ratios(barmill: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare with the better of the peer's runs; above 1 Barmill is the quicker one."""
    fastest = max(row["ticks_per_s_after_startup"] for row in rows)
    ours = barmill["ticks_per_s_after_startup"]
    return {
        "times_bytewax_after_startup": ours and round(ours / fastest, 2),
        "times_bytewax_with_startup": round(min(row["total_s"] for row in rows) / barmill["total_s"], 2),
    }
