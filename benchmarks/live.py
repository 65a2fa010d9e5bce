"""Delay, memory and CPU of a running Barmill."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.replay import Say
from benchmarks.scale import Scale
from benchmarks.usage import measure, python


def live(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Start a Barmill beside any other, watch it for a while, and stop it; its home stays only if something failed."""
    home = folder / "live"
    shutil.rmtree(home, ignore_errors=True)
    say(f"A Barmill of its own, live for {scale.window_s:.0f} s after {scale.warm_up_s:.0f} s of warming up.")
    times = ("--warm-up", str(scale.warm_up_s), "--window", str(scale.window_s), "--rate", str(scale.live_rate))
    taken = measure(python("benchmarks.live_once", "--home", str(home), *times))
    figures: dict[str, Any] = json.loads(taken.output)
    shutil.rmtree(home, ignore_errors=True)
    sums = ("resident_mb", "proportional_mb", "cpu_share_of_one_core")
    processes = figures["processes"].values()
    figures["all_processes"] = {name: round(sum(one[name] for one in processes), 3) for name in sums}
    return figures
