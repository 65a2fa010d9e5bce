"""Kafka to Kafka, as fast as it goes: python -m benchmarks.kafka_once TICKS.parquet --home FOLDER --parallelism P.

All ticks are in the topic before the job starts. Its rate is told from what a reader sees that takes only what was
committed, from the first such moment to the last. Prints JSON.
"""

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bar.kafka.materialise import Materialiser
from bar.store import BarStore
from benchmarks.kafka_home import ProgressSeen, Seen, bars_job, kafka_home
from benchmarks.private_home import PrivateHomeError, printed, wait_or_fail
from benchmarks.usage import children, command_line, cpu_seconds
from control.home import Home
from control.kafka.settings import KafkaSettings
from control.waiting import wait_until
from feed.intake import Intake
from feed.kafka.shipper import Shipper
from feed.kafka.standing import read_standing
from feed.providers.replay import ReplayProvider
from feed.ticklog import TickLog

_MILLION = 1e6
_SHIP_TIMEOUT_S = 900.0
_MATERIALISE_TIMEOUT_S = 60.0


def measure(ticks: Path, home: Home, parallelism: int, cores: int, *, final_only: bool) -> dict[str, Any]:
    """Fill the topic, run the job over it, and return what that took."""
    with kafka_home(home) as settings:
        end, intake_s = _log(ticks, home)
        shipped_s = _ship(home, settings, end)
        topic_bytes = sum(
            file.stat().st_size for file in home.root.glob(f"kafka/data/{settings.topic('ticks')}-[0-9]*/*.log")
        )
        started = time.monotonic()
        job = bars_job(home, cores, parallelism=parallelism, final_only=final_only)
        with job, ProgressSeen.of(settings) as progress:
            progress.wait(lambda seen: bool(seen), "no bars are committed")
            used_s = _cpu_s()
            progress.wait(lambda seen: seen[-1].next_sequence >= end, "not all ticks are in committed bars")
            used_s = {name: spent - used_s.get(name, 0.0) for name, spent in _cpu_s().items()}
        return {
            "topic_bytes_per_tick": round(topic_bytes / (end - 1), 1),
            "materialised_messages_per_s": _materialised_per_s(home, settings),
            "parallelism": parallelism,
            "cores": cores,
            "ticks": end - 1,
            "total_s": round(time.monotonic() - started, 2),
            "intake_ticks_per_s": round((end - 1) / intake_s),
            "shipped_ticks_per_s": round((end - 1) / shipped_s),
            **rate(progress.seen, used_s),
        }


def rate(seen: list[Seen], used_s: dict[str, float]) -> dict[str, Any]:
    """Return the rate between the first and the last sight, if what came between is most of all."""
    first, last = seen[0], seen[-1]
    ticks, seconds = last.read - first.read, (last.at_ms - first.at_ms) / 1_000
    told = ticks * 2 > last.read and seconds > 0
    return {
        "ticks_per_s": round(ticks / seconds) if told else None,
        **{f"{name}_cpu_s_per_million_ticks": round(s / ticks * _MILLION, 3) for name, s in used_s.items() if told},
    }


def _log(ticks: Path, home: Home) -> tuple[int, float]:
    """Read the file into the tick log of the home; return where the log ends, and how long that took."""
    started = time.monotonic()
    with TickLog.open(home.ticks_db, durable=False) as log:
        for _ in Intake(log, ReplayProvider([ticks], {}, None)).run(threading.Event()):
            pass
        return log.end_sequence(), time.monotonic() - started


def _ship(home: Home, settings: KafkaSettings, end: int) -> float:
    """Carry the tick log to Kafka; return how long that took."""
    started, stop = time.monotonic(), threading.Event()
    thread = threading.Thread(target=Shipper(home, settings, 1, stop).run)
    thread.start()

    def shipped() -> bool:
        standing = read_standing(home)
        return standing is not None and (standing.next_sequence or 0) >= end

    try:
        if not wait_until(shipped, _SHIP_TIMEOUT_S):
            raise PrivateHomeError("The ticks do not get to Kafka; the disk may be full.")
    finally:
        stop.set()
        thread.join()
    return time.monotonic() - started


def _materialised_per_s(home: Home, settings: KafkaSettings) -> int | None:
    """Return how many messages a second of the job's topics a store takes in, or None if all came at once."""
    store = BarStore.open(home.bars_db)
    materialiser = Materialiser(store, settings)
    try:
        wait_or_fail(lambda: materialiser.step() > 0, "no bar comes from the topic", _MATERIALISE_TIMEOUT_S)
        started, messages = time.monotonic(), 0
        while more := materialiser.step():
            messages, ended = messages + more, time.monotonic()
        return round(messages / (ended - started)) if messages else None
    finally:
        materialiser.close()
        store.close()


def _cpu_s() -> dict[str, float]:
    """Return the CPU time of TaskManager and broker so far."""
    names = {"TaskManagerRunner": "taskmanager", "kafka.Kafka": "broker"}
    found = {}
    for pid in children(os.getpid()):
        for mark, name in names.items():
            if mark in command_line(pid):
                found[name] = cpu_seconds(pid) or 0.0
    return found


def main() -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a bars job from Kafka to Kafka.")
    parser.add_argument("ticks", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parallelism", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True, help="how many cores Flink may use")
    parser.add_argument("--final-only", action="store_true", help="publish each bar once, as a replay does")
    given = parser.parse_args()
    home = Home(given.home)
    return printed(lambda: measure(given.ticks, home, given.parallelism, given.cores, final_only=given.final_only))


if __name__ == "__main__":
    sys.exit(main())
