"""How fast a replay is: by size, beside a batch over the same file, and by number of instruments."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.compare import differences, stored_bars
from benchmarks.replay_once import FRAMES, Replayed
from benchmarks.scale import Scale
from benchmarks.ticks import tick_file
from benchmarks.usage import CommandFailedError, Measured, measure, python
from control.home import Home

Say = Callable[[str], None]
_STARTUP_TICKS = 1_000
_MILLION = 1e6
# Other programs that took more than this of all cores make a difference of two runs worthless.
_DISTURBED_SHARE = 0.05


@dataclass(frozen=True)
class Run:
    """One replay: what it took from inside and from outside, and its bars while the block lasts."""

    inside: Replayed
    outside: Measured
    bars_db: Path

    def figures(self) -> dict[str, Any]:
        """Return the figures of this run alone."""
        inside, outside = self.inside, self.outside
        later_s = inside.total_s - inside.startup_s
        # A file that is folded at one look says nothing about the rate.
        rate = inside.later_ticks / later_s if inside.later_ticks * 2 > inside.ticks else None
        return {
            "ticks": inside.ticks,
            "bars": inside.bars,
            "total_s": round(inside.total_s, 2),
            "startup_s": round(inside.startup_s, 2),
            "ticks_per_s_after_startup": None if rate is None else round(rate),
            "ticks_per_s_with_startup": round(inside.ticks / inside.total_s),
            "intake_ticks_per_s": round(inside.ticks / inside.intake_s) if inside.intake_s else None,
            "ticks_in_log_when_folding_began": inside.logged_ticks,
            "cpu_s_per_million_ticks": round(outside.cpu_s / inside.ticks * _MILLION, 3),
            "taskmanager_cpu_s_per_million_ticks": round(inside.taskmanager_cpu_s / inside.ticks * _MILLION, 3),
            "other_programs_share_of_all_cores": round(outside.others_share, 3),
        }


@contextmanager
def replayed(ticks: Path, folder: Path) -> Iterator[Run]:
    """Replay a file in a process of its own, into a fresh home that is gone after the block."""
    home = Home(folder / "replay")
    shutil.rmtree(home.root, ignore_errors=True)
    try:
        outside = measure(python("benchmarks.replay_once", str(ticks), "--home", str(home.root)))
        yield Run(Replayed(**json.loads(outside.output)), outside, home.bars_db)
    finally:
        shutil.rmtree(home.root, ignore_errors=True)


def throughput(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Replay two sizes, and make the same bars by one query over the same files."""
    runs, floors = list[Run](), list[dict[str, Any]]()
    # The smaller one again at the end: what other programs did to it decides most about the difference.
    for ticks in (*scale.replay_ticks, scale.replay_ticks[0]):
        path = _ticks(folder, ticks, scale.replay_instruments, say)
        say(f"Replaying {ticks:,} ticks of {scale.replay_instruments} instruments into {FRAMES}.")
        with replayed(path, folder) as run:
            runs.append(run)
            if len(floors) < len(scale.replay_ticks):
                say(f"The same {ticks:,} ticks as one Polars batch.")
                floors.append(_floor(path, folder, stored_bars(run.bars_db)))
    first, large, again = runs
    small = min(first, again, key=lambda run: run.outside.others_share)
    between = _between(small, large)
    rate = between["ticks_per_s"]
    return {
        "frames": FRAMES,
        "instruments": scale.replay_instruments,
        "sizes": [run.figures() for run in runs],
        "between_sizes": between,
        "polars_batch": floors,
        "share_of_polars_batch_speed": rate and round(rate / floors[1]["ticks_per_s"], 3),
    }


def _between(small: Run, large: Run) -> dict[str, Any]:
    """Return what the ticks took by which two runs differ; their start-ups cancel out unless others disturbed one."""
    ticks, wall_s = large.inside.ticks - small.inside.ticks, large.inside.total_s - small.inside.total_s
    cpu_s = large.outside.cpu_s - small.outside.cpu_s
    taskmanager_s = large.inside.taskmanager_cpu_s - small.inside.taskmanager_cpu_s
    return {
        "ticks_per_s": round(ticks / wall_s) if wall_s > 0 else None,
        "cpu_s_per_million_ticks": round(cpu_s / ticks * _MILLION, 3),
        "taskmanager_cpu_s_per_million_ticks": round(taskmanager_s / ticks * _MILLION, 3),
        "disturbed": max(run.outside.others_share for run in (small, large)) > _DISTURBED_SHARE,
    }


def by_instruments(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Replay the same number of ticks spread over more and more instruments."""
    say("A replay of next to nothing, for what start-up alone takes.")
    with replayed(tick_file(folder, _STARTUP_TICKS, 10), folder) as startup:
        rows = []
    for instruments in scale.instruments:
        path = _ticks(folder, scale.instruments_ticks, instruments, say)
        say(f"Replaying {scale.instruments_ticks:,} ticks of {instruments:,} instruments.")
        try:
            with replayed(path, folder) as run:
                rows.append(_without_startup(run, startup, instruments))
        except CommandFailedError as error:
            rows.append({"instruments": instruments, "not_measured": str(error)})
    return {
        "startup": {
            "total_s": round(startup.inside.total_s, 2),
            "cpu_s": round(startup.outside.cpu_s, 2),
            "taskmanager_cpu_s": round(startup.inside.taskmanager_cpu_s, 2),
        },
        "runs": rows,
    }


def _without_startup(run: Run, startup: Run, instruments: int) -> dict[str, Any]:
    cpu_s = run.outside.cpu_s - startup.outside.cpu_s
    taskmanager_s = run.inside.taskmanager_cpu_s - startup.inside.taskmanager_cpu_s
    millions = run.inside.ticks / _MILLION
    kept = ("ticks", "bars", "total_s", "startup_s", "ticks_per_s_after_startup", "other_programs_share_of_all_cores")
    return {
        "instruments": instruments,
        **{name: value for name, value in run.figures().items() if name in kept},
        "cpu_s_per_million_ticks_without_startup": round(cpu_s / millions, 3),
        "taskmanager_cpu_s_per_million_ticks_without_startup": round(taskmanager_s / millions, 3),
    }


def _floor(ticks: Path, folder: Path, ours: pl.DataFrame) -> dict[str, Any]:
    out = folder / "batch.parquet"
    try:
        outside = measure(python("benchmarks.batch_once", str(ticks), "--out", str(out)))
        differing = differences(ours, pl.read_parquet(out))
    finally:
        out.unlink(missing_ok=True)
    inside = json.loads(outside.output)
    return {
        "ticks": inside["ticks"],
        "wall_s": round(inside["wall_s"], 3),
        "ticks_per_s": round(inside["ticks"] / inside["wall_s"]),
        "cpu_s_per_million_ticks": round(inside["cpu_s"] / inside["ticks"] * _MILLION, 3),
        "peak_memory_mb": round(inside["peak_memory_mb"]),
        "other_programs_share_of_all_cores": round(outside.others_share, 3),
        "bars_compared": differing,
    }


def _ticks(folder: Path, ticks: int, instruments: int, say: Say) -> Path:
    say(f"{ticks:,} generated ticks of {instruments:,} instruments.")
    return tick_file(folder, ticks, instruments)
