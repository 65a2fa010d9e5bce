"""One run of Bytewax, in a separate Python environment."""

import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.replay import differences
from benchmarks.usage import measure

_PROGRAM = Path(__file__).with_name("bytewax_bars.py")


def run_bytewax(python: Path, ticks: Path, out: Path, workers: int, barmill_bars: pl.DataFrame) -> dict[str, Any]:
    """Return the figures of one run, and how its bars differ from Barmill's. python: that of the peers' environment."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        flow = f"{_PROGRAM}:flow({str(ticks)!r}, {str(out)!r})"
        command = [str(python), "-m", "bytewax.run", flow, *(("-w", str(workers)) if workers > 1 else ())]
        run = measure(command)
        bytewax_bars = pl.concat(
            [pl.read_parquet(path) for path in sorted(out.glob("*.parquet"))], how="vertical_relaxed"
        )
        comparison = differences(barmill_bars, bytewax_bars)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    first, last = (
        [float(time_s) for time_s in re.findall(rf"^{event} at ([0-9.]+)$", run.output, re.MULTILINE)]
        for event in ("first tick", "last bar")
    )
    wall_s, millions = max(last) - min(first), int(bytewax_bars.filter(pl.col("frame") == "1s")["ticks"].sum()) / 1e6
    return {
        "workers": workers,
        "total_s": round(run.wall_s, 2),
        "startup_s": round(run.wall_s - wall_s, 2),
        "ticks_per_s_after_startup": round(millions * 1e6 / wall_s),
        "cpu_s_per_million_ticks": round(run.cpu_s / millions, 3),
        "other_programs_share_of_all_cores": round(run.others_share, 3),
        "bars_compared": comparison,
    }
