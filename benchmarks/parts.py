"""The sizes of all parts of `barmill bench`, and the parts that consist of separate processes."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.moves import DIFFERENT
from benchmarks.ticks import tick_file
from benchmarks.usage import CommandFailedError, measure, python

Report = Callable[[str], None]
# The maximum size in bytes of a bar on disk, with its page and, while it is written, its part of the write-ahead log.
_BYTES_PER_ROW, _BYTES_PER_BAR_IN_BLOCK = 220, 40
# (parallelism, cores that Flink may use)
_KAFKA_RUNS = ((1, 1), (1, 2), (2, 2))
_KAFKA_SHARES = (0.1, 0.5, 0.8)


@dataclass(frozen=True)
class Scale:
    """The sizes of all parts, such as numbers of ticks, instruments, bars and repeats, and times in seconds.

    live_rate: a factor on the demo market's rate of about 120 ticks per second, which varies; 55 gives more than 5,000
    per second in nearly every minute. replay_ticks: a smaller and a larger replay; their difference excludes the
    start-up.
    """

    replay_ticks: tuple[int, int] = (5_000_000, 40_000_000)
    replay_instruments: int = 100
    instruments: tuple[int, ...] = (10, 100, 1_000, 10_000)
    instruments_ticks: int = 5_000_000
    peer_ticks: int = 1_000_000
    warm_up_s: float = 30
    window_s: float = 60
    live_rate: float = 55
    pick_changes: int = 30
    query_bars: tuple[int, ...] = (1_000_000, 10_000_000, 50_000_000)
    query_repeats: int = 60
    first_chart_bars: int = 10_000_000
    first_chart_visits: int = 20
    kafka_ticks: int = 20_000_000
    bulk_bars: int = 10_000_000
    moved_bars: int = 5_000_000
    kills: int = 20


FULL = Scale()
QUICK = Scale(
    replay_ticks=(1_000_000, 5_000_000),
    instruments_ticks=1_000_000,
    peer_ticks=500_000,
    warm_up_s=15,
    window_s=20,
    pick_changes=10,
    query_bars=(1_000_000, 10_000_000),
    query_repeats=20,
    first_chart_bars=1_000_000,
    first_chart_visits=8,
    kafka_ticks=5_000_000,
    bulk_bars=2_000_000,
    moved_bars=300_000,
    kills=5,
)


def tiny(ticks: int) -> Scale:
    """Return a scale that is just large enough to check that all parts work."""
    return Scale(
        (ticks, 2 * ticks),
        10,
        (10, 100),
        ticks,
        ticks,
        warm_up_s=3,
        window_s=5,
        live_rate=10,
        pick_changes=2,
        query_bars=(ticks, 2 * ticks),
        query_repeats=2,
        first_chart_bars=ticks,
        first_chart_visits=1,
        kafka_ticks=ticks,
        bulk_bars=ticks,
        moved_bars=ticks,
        kills=1,
    )


def live(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Measure a separate Barmill at a high rate; its home is kept only after a failure."""
    return _separate_barmill(scale, folder / "live", report, scale.live_rate)


def rest(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Measure a separate Barmill at the usual rate of the demo market, with no page open."""
    return _separate_barmill(scale, folder / "rest", report, 1.0)


def _separate_barmill(scale: Scale, home: Path, report: Report, rate: float) -> dict[str, Any]:
    report(f"Measuring a separate Barmill for {scale.window_s:.0f} s after a warm-up of {scale.warm_up_s:.0f} s.")
    figures = _in_process(home, "live", "delay", *_times(scale), "--rate", str(rate), keep=True)
    sums = ("resident_mb", "proportional_mb", "cpu_share_of_one_core")
    processes = figures["processes"].values()
    figures["all_processes"] = {name: round(sum(process[name] for process in processes), 3) for name in sums}
    return figures


def picks(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Disable and enable an instrument of a separate feed; its home is kept only after a failure."""
    report(f"Disabling and enabling an instrument of a separate feed {scale.pick_changes} times.")
    return _in_process(folder / "picks", "live", "picks", "--changes", str(scale.pick_changes), keep=True)


def queries(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Create a store of each size, run the queries of all pages, and compare the largest store with the smallest.

    All but the newest bars are in blocks, as they are after some time.
    """
    sizes = []
    for bars in scale.query_bars:
        try:
            _require_space(folder, bars * _BYTES_PER_BAR_IN_BLOCK)
        except CommandFailedError as error:
            sizes.append({"bars": bars, "not_measured": str(error)})
            continue
        report(f"Running every query of the pages {scale.query_repeats} times on a store of {bars:,} bars.")
        sizes.append(_in_process(folder / "queries", "queries", str(bars), str(scale.query_repeats), "--blocks"))
    return {"repeats": scale.query_repeats, "sizes": sizes, "p95_times": _p95_ratios(sizes)}


def bulk(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Create a store in blocks, and read all of its bars."""
    _require_space(folder, scale.bulk_bars * _BYTES_PER_BAR_IN_BLOCK)
    report(f"Reading a store of {scale.bulk_bars:,} bars.")
    return _in_process(folder / "bulk", "queries", str(scale.bulk_bars), "0", "--blocks")


def moves(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Move bars into blocks while the moving process is killed, or while a reader compares answers."""
    _require_space(folder, 3 * scale.moved_bars * _BYTES_PER_ROW)
    report(f"Moving {scale.moved_bars:,} bars into blocks, with {scale.kills} kills and with a reader.")
    options = (str(scale.moved_bars), str(scale.kills))
    return _in_process(folder / "moves", "moves", *options, exit_codes=(0, DIFFERENT))


def up(_scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Run `barmill up` in a new home, and once more in the same home; the home is kept only after a failure."""
    report("Starting a separate Barmill twice with ./barmill up.")
    return _in_process(folder / "up", "start", keep=True)


def tests(_scale: Scale, _folder: Path, report: Report) -> dict[str, Any]:
    """Run `barmill test`; raise CommandFailedError if a test fails."""
    report("Running ./barmill test.")
    run = measure(python("cli.main", "test"))
    others = round(run.others_share, 3)
    return {
        "minutes": round(run.wall_s / 60, 1),
        "cpu_s": round(run.cpu_s),
        "other_programs_share_of_all_cores": others,
    }


def charts(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Measure a chart of a separate Barmill in a headless Chromium; its home is kept only after a failure."""
    _require_playwright()
    report(f"Measuring a chart of a separate Barmill in a browser for {scale.window_s:.0f} s.")
    return _in_process(folder / "charts", "charts", "live", *_times(scale), keep=True)


def first_chart(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Open charts over a large store in a headless Chromium."""
    _require_playwright()
    bars, visits = scale.first_chart_bars, scale.first_chart_visits
    report(f"Opening charts over a store of {bars:,} bars in {visits} new browsers.")
    return _in_process(folder / "first_chart", "charts", "first", str(bars), str(visits))


def kafka(scale: Scale, folder: Path, report: Report) -> dict[str, Any]:
    """Measure the rate at parallelism 1 and 2, and the delay at shares of the highest rate."""
    ticks, home = tick_file(folder, scale.kafka_ticks, scale.replay_instruments), folder / "kafka"
    runs = []
    for parallelism, cores in _KAFKA_RUNS:
        report(f"Processing {scale.kafka_ticks:,} ticks on Kafka, parallelism {parallelism}, Flink cores: {cores}.")
        options = ("--parallelism", str(parallelism), "--cores", str(cores))
        runs.append(_in_process(home, "kafka", "rate", str(ticks), *options))
    one_core, _, two_cores = runs
    rates = [run["ticks_per_s"] for run in runs if run["ticks_per_s"]]
    shares = _KAFKA_SHARES if rates else ()
    return {
        "instruments": scale.replay_instruments,
        "rates": runs,
        "times_one_core": round(two_cores["ticks_per_s"] / one_core["ticks_per_s"], 2)
        if len(rates) == len(runs)
        else None,
        "delays": [_kafka_delay(scale, home, round(share * max(rates)), share, report) for share in shares],
    }


def _kafka_delay(scale: Scale, home: Path, rate: int, share: float, report: Report) -> dict[str, Any]:
    report(f"Processing {rate:,} ticks/s on Kafka for {scale.window_s:.0f} s.")
    options = (str(rate), str(scale.window_s), "--parallelism", "2")
    try:
        return {"share_of_highest_rate": share, **_in_process(home, "kafka", "delay", *options)}
    except CommandFailedError as error:
        return {"share_of_highest_rate": share, "ticks_per_s": rate, "not_measured": str(error)}


def _require_space(folder: Path, needed_bytes: int) -> None:
    """Raise CommandFailedError if the disk of a folder has too little free space."""
    if shutil.disk_usage(folder).free < needed_bytes:
        raise CommandFailedError(f"The disk of {folder} needs {needed_bytes / 1e9:.1f} GB of free space.")


def _in_process(
    home: Path, module: str, *arguments: str, keep: bool = False, exit_codes: Sequence[int] = (0,)
) -> dict[str, Any]:
    """Run a module of this package in a fresh home; remove the home, but with `keep` not after a failure.

    Raise CommandFailedError after an exit code that is not in `exit_codes`. Return what the module printed, with the
    share of all cores that other programs used meanwhile.
    """
    shutil.rmtree(home, ignore_errors=True)
    try:
        run = measure(python(f"benchmarks.{module}", *arguments, "--home", str(home)), exit_codes=exit_codes)
    except BaseException:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
        raise
    shutil.rmtree(home, ignore_errors=True)
    figures: dict[str, Any] = json.loads(run.output)
    figures.setdefault("other_programs_share_of_all_cores", round(run.others_share, 3))
    return figures


def _times(scale: Scale) -> tuple[str, ...]:
    return "--warm-up", str(scale.warm_up_s), "--window", str(scale.window_s)


def _p95_ratios(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """Return the p95 of each query in the largest store divided by that in the smallest."""
    measured = [size["query_ms"] for size in sizes if "query_ms" in size]
    if len(measured) < 2:
        return {}
    return {name: round(quantiles["p95"] / measured[0][name]["p95"], 2) for name, quantiles in measured[-1].items()}


def _require_playwright() -> None:
    """Raise CommandFailedError if Playwright is not installed."""
    if importlib.util.find_spec("playwright") is None:
        raise CommandFailedError("Playwright is not installed; ./barmill test installs it.")
