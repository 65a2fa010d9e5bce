"""The measurement of replays: by size, compared with a batch over the same file, and by number of instruments.

python -m benchmarks.replay TICKS.parquet --home FOLDER runs one replay by the same code as `barmill replay`, up to the
last bar in the store of the home, and prints its measurements as JSON.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from barmill.model.bar import BAR_KEY
from barmill.model.frames import parse_frames
from barmill.platform.home import Home
from barmill.storage.reader import BarReader
from benchmarks.parts import Report, Scale
from benchmarks.ticks import tick_file
from benchmarks.usage import CommandFailedError, MeasuredCommand, children, command_line, cpu_seconds, measure, python
from control.jobs import replay_run
from control.jobs.replay_run import MIN_MEASURABLE_S, ReplayProgress, ReplayRequest

FRAMES = "1s,1m,1h"
LATENESS_MS = 300_000
# JobManager and TaskManager are one process.
_FLINK = "barmill.ReplayCluster"
_STARTUP_TICKS = 1_000
_MILLION = 1e6
# If other programs used more than this share of all cores, the difference of two runs is not valid.
_DISTURBED_SHARE = 0.05
# Open, high, low, close and the count must be identical. Sums of floating-point numbers depend on the order of their
# terms, which other programs do not fix, so these may differ in the last digits.
_EXACT_FIELDS = ("open", "high", "low", "close", "ticks")
_SUM_FIELDS = ("volume", "vwap")
_RELATIVE_ERROR = 1e-9


@dataclass(frozen=True)
class ReplayFigures:
    """The measurements of one replay.

    startup_s: until the job had folded its first ticks. later_ticks: ticks folded after that, in total_s - startup_s.
    logged_ticks: ticks in the log at that time, since the files are read while Flink starts. intake_s: until all ticks
    were in the log. taskmanager_cpu_s: CPU time of the process in which the job runs, since its start.
    """

    ticks: int
    bars: int
    total_s: float
    startup_s: float
    later_ticks: int
    logged_ticks: int
    intake_s: float
    taskmanager_cpu_s: float


class _Monitor:
    """The progress of a replay and the CPU time of its TaskManager, polled while it runs."""

    def __init__(self) -> None:
        self.first_ticks = 0
        self.logged_ticks = 0
        self.intake_s = 0.0
        self._started = time.monotonic()
        self._accepted = 0
        self.taskmanager_cpu_s = 0.0
        self._taskmanager: int | None = None

    def poll(self, progress: ReplayProgress) -> None:
        """Record the first folded ticks, the time of the last logged ticks, and the CPU time so far."""
        if not self.first_ticks:
            self.first_ticks, self.logged_ticks = progress.folded, progress.accepted
        if progress.accepted > self._accepted:
            self._accepted, self.intake_s = progress.accepted, time.monotonic() - self._started
        if self._taskmanager is None:
            started = (pid for pid in children(os.getpid()) if _FLINK in command_line(pid))
            self._taskmanager = next(started, None)
        if self._taskmanager is not None:
            self.taskmanager_cpu_s = cpu_seconds(self._taskmanager) or self.taskmanager_cpu_s


def replay(ticks: Path, home: Home) -> ReplayFigures:
    """Replay a file into a fresh home."""
    monitor = _Monitor()
    request = ReplayRequest([ticks], {}, parse_frames(FRAMES), LATENESS_MS)
    result = replay_run.run(request, home, monitor.poll)
    return ReplayFigures(
        ticks=result.accepted,
        bars=sum(result.bars.values()),
        total_s=result.total_s,
        startup_s=result.total_s - result.folding_s,
        later_ticks=result.accepted - monitor.first_ticks,
        logged_ticks=monitor.logged_ticks,
        intake_s=monitor.intake_s,
        taskmanager_cpu_s=monitor.taskmanager_cpu_s,
    )


@dataclass(frozen=True)
class Run:
    """A replay: the figures that it reported, the resources of its process, and its bars while the block lasts."""

    replay_figures: ReplayFigures
    process: MeasuredCommand
    bars_db: Path

    def figures(self) -> dict[str, Any]:
        """Return the figures of this run alone."""
        replay_figures, process = self.replay_figures, self.process
        later_s = replay_figures.total_s - replay_figures.startup_s
        # No rate: the file was folded within a few polls, or mostly before the first poll.
        has_rate = later_s >= MIN_MEASURABLE_S and replay_figures.later_ticks * 2 > replay_figures.ticks
        rate = replay_figures.later_ticks / later_s if has_rate else None
        return {
            "ticks": replay_figures.ticks,
            "bars": replay_figures.bars,
            "total_s": round(replay_figures.total_s, 2),
            "startup_s": round(replay_figures.startup_s, 2),
            "ticks_per_s_after_startup": None if rate is None else round(rate),
            "ticks_per_s_with_startup": round(replay_figures.ticks / replay_figures.total_s),
            "intake_ticks_per_s": round(replay_figures.ticks / replay_figures.intake_s)
            if replay_figures.intake_s
            else None,
            "ticks_in_log_when_folding_began": replay_figures.logged_ticks,
            "cpu_s_per_million_ticks": round(process.cpu_s / replay_figures.ticks * _MILLION, 3),
            "taskmanager_cpu_s_per_million_ticks": round(
                replay_figures.taskmanager_cpu_s / replay_figures.ticks * _MILLION, 3
            ),
            "other_programs_share_of_all_cores": round(process.others_share, 3),
        }


@contextmanager
def measured_replay(ticks: Path, folder: Path) -> Iterator[Run]:
    """Replay a file in a separate process, into a fresh home that is removed after the block."""
    home = Home(folder / "replay")
    shutil.rmtree(home.root, ignore_errors=True)
    try:
        process = measure(python("benchmarks.replay", str(ticks), "--home", str(home.root)))
        yield Run(ReplayFigures(**json.loads(process.output)), process, home.bars_db)
    finally:
        shutil.rmtree(home.root, ignore_errors=True)


def throughput(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Replay two sizes, and make the same bars with one query over the same files."""
    runs, batches = list[Run](), list[dict[str, Any]]()
    # The smaller replay runs again at the end: other programs that disturb it affect the difference most.
    for ticks in (*scale.replay_ticks, scale.replay_ticks[0]):
        path = _ticks(folder, ticks, scale.replay_instruments, report)
        report(f"Replaying {ticks:,} ticks of {scale.replay_instruments} instruments into {FRAMES}.")
        with measured_replay(path, folder) as run:
            runs.append(run)
            if len(batches) < len(scale.replay_ticks):
                report(f"The same {ticks:,} ticks as one Polars batch.")
                batches.append(_batch(path, folder, stored_bars(run.bars_db)))
    first, large, small_again = runs
    small = min(first, small_again, key=lambda run: run.process.others_share)
    difference = _difference(small, large)
    rate = difference["ticks_per_s"]
    return {
        "frames": FRAMES,
        "instruments": scale.replay_instruments,
        "sizes": [run.figures() for run in runs],
        "between_sizes": difference,
        "polars_batch": batches,
        "share_of_polars_batch_speed": rate and round(rate / batches[1]["ticks_per_s"], 3),
    }


def _difference(small: Run, large: Run) -> dict[str, Any]:
    """Return the cost of the ticks by which two runs differ; their start-ups cancel out unless one was disturbed."""
    ticks, wall_s = (
        large.replay_figures.ticks - small.replay_figures.ticks,
        large.replay_figures.total_s - small.replay_figures.total_s,
    )
    cpu_s = large.process.cpu_s - small.process.cpu_s
    taskmanager_s = large.replay_figures.taskmanager_cpu_s - small.replay_figures.taskmanager_cpu_s
    return {
        "ticks_per_s": round(ticks / wall_s) if wall_s > 0 else None,
        "cpu_s_per_million_ticks": round(cpu_s / ticks * _MILLION, 3),
        "taskmanager_cpu_s_per_million_ticks": round(taskmanager_s / ticks * _MILLION, 3),
        "disturbed": max(run.process.others_share for run in (small, large)) > _DISTURBED_SHARE,
    }


def by_instruments(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Replay the same number of ticks for increasing numbers of instruments."""
    report("A replay of 1,000 ticks, for the cost of start-up.")
    with measured_replay(tick_file(folder, _STARTUP_TICKS, 10), folder) as startup:
        rows = []
    for instruments in scale.instruments:
        path = _ticks(folder, scale.instruments_ticks, instruments, report)
        report(f"Replaying {scale.instruments_ticks:,} ticks of {instruments:,} instruments.")
        try:
            with measured_replay(path, folder) as run:
                rows.append(_without_startup(run, startup, instruments))
        except CommandFailedError as error:
            rows.append({"instruments": instruments, "not_measured": str(error)})
    return {
        "startup": {
            "total_s": round(startup.replay_figures.total_s, 2),
            "cpu_s": round(startup.process.cpu_s, 2),
            "taskmanager_cpu_s": round(startup.replay_figures.taskmanager_cpu_s, 2),
        },
        "runs": rows,
    }


def _without_startup(run: Run, startup: Run, instruments: int) -> dict[str, Any]:
    cpu_s = run.process.cpu_s - startup.process.cpu_s
    taskmanager_s = run.replay_figures.taskmanager_cpu_s - startup.replay_figures.taskmanager_cpu_s
    millions = run.replay_figures.ticks / _MILLION
    kept_keys = (
        "ticks",
        "bars",
        "total_s",
        "startup_s",
        "ticks_per_s_after_startup",
        "other_programs_share_of_all_cores",
    )
    return {
        "instruments": instruments,
        **{name: value for name, value in run.figures().items() if name in kept_keys},
        "cpu_s_per_million_ticks_without_startup": round(cpu_s / millions, 3),
        "taskmanager_cpu_s_per_million_ticks_without_startup": round(taskmanager_s / millions, 3),
    }


def _batch(ticks: Path, folder: Path, barmill_bars: pl.DataFrame) -> dict[str, Any]:
    out = folder / "batch.parquet"
    return measured_batch(python("benchmarks.batch", str(ticks), "--out", str(out)), out, barmill_bars)


def measured_batch(command: Sequence[str], out: Path, barmill_bars: pl.DataFrame) -> dict[str, Any]:
    """Run a program that writes bars to `out` and prints its cost as JSON; return its figures, and remove the file.

    wall_s: of the query alone. total_s: of the whole process.
    """
    try:
        process = measure(command)
        differing = differences(barmill_bars, pl.read_parquet(out))
    finally:
        out.unlink(missing_ok=True)
    replay_figures = json.loads(process.output)
    return {
        "ticks": replay_figures["ticks"],
        "wall_s": round(replay_figures["wall_s"], 3),
        "total_s": round(process.wall_s, 2),
        "ticks_per_s": round(replay_figures["ticks"] / replay_figures["wall_s"]),
        "cpu_s_per_million_ticks": round(replay_figures["cpu_s"] / replay_figures["ticks"] * _MILLION, 3),
        "peak_memory_mb": round(replay_figures["peak_memory_mb"]),
        "other_programs_share_of_all_cores": round(process.others_share, 3),
        "bars_compared": differing,
    }


def _ticks(folder: Path, ticks: int, instruments: int, report: Report) -> Path:
    report(f"{ticks:,} generated ticks of {instruments:,} instruments.")
    return tick_file(folder, ticks, instruments)


def stored_bars(bars_db: Path) -> pl.DataFrame:
    """Return all bars of a store (BAR_SCHEMA)."""
    reader = BarReader.open(bars_db)
    try:
        return pl.concat(reader.all_bars())
    finally:
        reader.close()


def differences(barmill_bars: pl.DataFrame, other_bars: pl.DataFrame) -> dict[str, Any]:
    """Return the number of bars, of bars that only one side has, and of different bars, by field."""
    names = [*_EXACT_FIELDS, *_SUM_FIELDS]
    both = barmill_bars.select(*BAR_KEY, *names).join(other_bars.select(*BAR_KEY, *names), on=BAR_KEY, suffix="_theirs")
    unequal = {name: pl.col(name).ne_missing(pl.col(f"{name}_theirs")) for name in _EXACT_FIELDS}
    for name in _SUM_FIELDS:
        barmill_value, other_value = pl.col(name), pl.col(f"{name}_theirs")
        differs = (barmill_value - other_value).abs() > _RELATIVE_ERROR * barmill_value.abs()
        unequal[name] = (
            pl.when(barmill_value.is_null() | other_value.is_null())
            .then(barmill_value.is_null() != other_value.is_null())
            .otherwise(differs)
        )
    counts = both.select(**{name: value.sum() for name, value in unequal.items()}).row(0, named=True)
    return {
        "bars": barmill_bars.height,
        "only_in_barmill": barmill_bars.height - both.height,
        "only_in_the_other": other_bars.height - both.height,
        "unequal": both.select(pl.any_horizontal(unequal.values()).sum()).item(),
        "unequal_by_field": {name: count for name, count in counts.items() if count},
    }


def main() -> int:
    """Parse the command line and print the result."""
    parser = argparse.ArgumentParser(description="Replay a file and print the measurements.")
    parser.add_argument("ticks", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    args = parser.parse_args()
    print(json.dumps(asdict(replay(args.ticks, Home(args.home)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
