"""Bars from Kafka to Kafka: how fast, what a second core adds, and how late at a tenth to four fifths of that."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.replay import Say
from benchmarks.scale import Scale
from benchmarks.ticks import tick_file
from benchmarks.usage import CommandFailedError, measure, python

# (parallelism, cores that Flink may use)
_RUNS = ((1, 1), (1, 2), (2, 2))
_SHARES = (0.1, 0.5, 0.8)


def kafka(scale: Scale, folder: Path, say: Say) -> dict[str, Any]:
    """Measure the rate at parallelism 1 and 2, and the delay at shares of the highest rate."""
    ticks = tick_file(folder, scale.kafka_ticks, scale.replay_instruments)
    runs = []
    for parallelism, cores in _RUNS:
        say(f"{scale.kafka_ticks:,} ticks from Kafka to Kafka, parallelism {parallelism}, Flink on {cores} cores.")
        options = ("--parallelism", str(parallelism), "--cores", str(cores))
        runs.append(_once(folder, "benchmarks.kafka_once", str(ticks), *options))
    one_core, _, both = runs
    rates = [one["ticks_per_s"] for one in runs if one["ticks_per_s"]]
    return {
        "instruments": scale.replay_instruments,
        "rates": runs,
        "times_one_core": round(both["ticks_per_s"] / one_core["ticks_per_s"], 2) if len(rates) == len(runs) else None,
        "delays": [_delay(scale, folder, round(share * max(rates)), share, say) for share in _SHARES] if rates else [],
    }


def _delay(scale: Scale, folder: Path, rate: int, share: float, say: Say) -> dict[str, Any]:
    say(f"{rate:,} ticks/s from Kafka to Kafka for {scale.window_s:.0f} s.")
    options = (str(rate), str(scale.window_s), "--parallelism", "2")
    try:
        return {"share_of_highest_rate": share, **_once(folder, "benchmarks.kafka_live_once", *options)}
    except CommandFailedError as error:
        return {"share_of_highest_rate": share, "ticks_per_s": rate, "not_measured": str(error)}


def _once(folder: Path, module: str, *arguments: str) -> dict[str, Any]:
    home = folder / "kafka"
    shutil.rmtree(home, ignore_errors=True)
    try:
        taken = measure(python(module, *arguments, "--home", str(home)))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found: dict[str, Any] = json.loads(taken.output)
    return found | {"other_programs_share_of_all_cores": round(taken.others_share, 3)}
