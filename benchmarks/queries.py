"""How long the questions of every view take, in a small, a large and a very large bar store."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.replay import Say
from benchmarks.scale import Scale
from benchmarks.usage import measure, python

# What a bar takes on disk at most, with its page and, while it is written, its place in the write-ahead log.
_BYTES_PER_BAR = 220


def queries(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Make a store of each size, ask it what pages ask, and compare the largest with the smallest."""
    sizes = []
    for bars in scale.query_bars:
        store = folder / "queries"
        shutil.rmtree(store, ignore_errors=True)
        if shutil.disk_usage(folder).free < bars * _BYTES_PER_BAR:
            sizes.append({"bars": bars, "not_measured": f"{bars:,} bars do not fit on this disk."})
            continue
        say(f"A store of {bars:,} bars, and {scale.query_repeats} times every question of every view.")
        try:
            taken = measure(python("benchmarks.queries_once", str(store), str(bars), str(scale.query_repeats)))
        finally:
            shutil.rmtree(store, ignore_errors=True)
        sizes.append({**json.loads(taken.output), "other_programs_share_of_all_cores": round(taken.others_share, 3)})
    return {"repeats": scale.query_repeats, "sizes": sizes, "p95_times": _times(sizes)}


def _times(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """Return by what factor each question takes longer in the largest store than in the smallest, at p95."""
    measured = [one["query_ms"] for one in sizes if "query_ms" in one]
    if len(measured) < 2:
        return {}
    return {name: round(found["p95"] / measured[0][name]["p95"], 2) for name, found in measured[-1].items()}
