"""Kafka to Kafka at a steady rate: python -m benchmarks.kafka_live_once RATE SECONDS --home FOLDER --parallelism P.

Ticks are generated as they would come, RATE a second, and sent as the shipper sends them, ten times a second. Delay is
from just before a batch is sent until a reader that takes only what was committed sees bars with all of it. The first
quarter warms up and does not count. Prints JSON.
"""

import argparse
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bar.clock import now_ms
from benchmarks.kafka_home import ProgressSeen, Seen, bars_job, kafka_home
from benchmarks.latency import percentiles
from benchmarks.private_home import PrivateHomeError, printed
from benchmarks.usage import busy_seconds
from control.home import Home
from feed.kafka.batches import Batches
from feed.kafka.delivery import Delivery
from feed.kafka.message import encode
from feed.tick import TICK_SCHEMA
from feed.ticklog import Backlog, Source

_EVERY_MS = 100
_INSTRUMENTS = pl.Series([f"SYM{number:05d}/USD" for number in range(100)])
_SEED = 1
_NS_PER_MS = 1_000_000
_WARM_UP_SHARE = 0.25
# A sender that falls so far behind does not keep the rate, and its figures would be those of another one.
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Sent:
    """A batch on its way: when it was sent, and the sequence behind its last tick."""

    at_ms: int
    next_sequence: int


class Sender:
    """Sends generated ticks, as many in each batch as the rate gives."""

    def __init__(self, delivery: Delivery, shards: int, rate: int) -> None:
        self.delivery, self._batches = delivery, Batches(shards)
        self._rows = rate * _EVERY_MS // 1_000
        self._random = np.random.default_rng(_SEED)

    def send(self, due_ms: int) -> Sent:
        """Send the ticks of the time before `due_ms` as soon as that is now."""
        backlog = self._backlog(due_ms)
        messages = [(shard, encode(one)) for shard, one in self._batches.messages(backlog, due_ms)]
        threading.Event().wait(max(0, due_ms - now_ms()) / 1_000)
        at_ms = now_ms()
        self.delivery.send(messages, backlog.next_sequence, None)
        return Sent(at_ms, backlog.next_sequence)

    def paced(self, seconds: float, patience_s: float) -> Iterator[Sent]:
        """Send batch after batch; raise PrivateHomeError where this machine cannot keep the rate."""
        start_ms = now_ms()
        for number in range(1, round(seconds * 1_000 / _EVERY_MS) + 1):
            due_ms = start_ms + number * _EVERY_MS
            sent = self.send(due_ms)
            if sent.at_ms - due_ms > patience_s * 1_000:
                raise PrivateHomeError(f"This machine cannot send {self._rows * 10:,} ticks a second beside the job.")
            yield sent

    def _backlog(self, to_ms: int) -> Backlog:
        rows, first = self._rows, self.delivery.next_sequence
        time_ns = np.linspace((to_ms - _EVERY_MS) * _NS_PER_MS, to_ms * _NS_PER_MS, rows, endpoint=False)
        price = np.round(self._random.normal(100, 1, rows), 2)
        columns = {
            "time_ns": time_ns.astype(np.int64),
            "instrument": _INSTRUMENTS.gather(self._random.integers(0, len(_INSTRUMENTS), rows)),
            "price_open": price,
            "price_close": price,
            "volume": np.round(self._random.exponential(1, rows), 4),
            "id": None,
            "line": None,
            "id_text": None,
        }
        source = Source("bench", None, True, to_ms, False, 0, 0, 0, None, to_ms)
        return Backlog(first, pl.DataFrame(columns, TICK_SCHEMA), "bench", (source,), first + rows)


def measure(rate: int, seconds: float, home: Home, parallelism: int, patience_s: float) -> dict[str, Any]:
    """Run the job, send at the rate, and return the delays."""
    with (
        kafka_home(home) as settings,
        bars_job(home, 2, parallelism=parallelism),
        ProgressSeen.of(settings) as progress,
    ):
        sender = Sender(Delivery.open(settings, "bench", None, lambda: True), settings.partitions, rate)

        def await_all(what: str) -> None:
            progress.wait(lambda seen: bool(seen) and seen[-1].next_sequence >= sender.delivery.next_sequence, what)

        sender.send(now_ms())
        await_all("the job does not run")
        busy_s = busy_seconds()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(list, sender.paced(seconds, patience_s))
            while not sending.done():
                progress.look()
            sent = sending.result()
        busy_s = busy_seconds() - busy_s
        await_all("the job does not keep up")
        return {
            "ticks_per_s": rate,
            "parallelism": parallelism,
            "partitions": settings.partitions,
            "ticks": sender.delivery.next_sequence - 1,
            "busy_cores": round(busy_s / seconds, 2),
            "delay_ms": percentiles(batch_delays(sent[int(len(sent) * _WARM_UP_SHARE) :], progress.seen)),
        }


def batch_delays(sent: Sequence[Sent], seen: Sequence[Seen]) -> pl.DataFrame:
    """Return how long after it was sent each batch was first seen whole."""
    batches = pl.DataFrame({"next_sequence": [one.next_sequence for one in sent], "at_ms": [one.at_ms for one in sent]})
    sights = pl.DataFrame(
        {"next_sequence": [one.next_sequence for one in seen], "seen_ms": [one.at_ms for one in seen]}
    )
    first = sights.group_by("next_sequence").agg(pl.min("seen_ms")).sort("next_sequence")
    joined = batches.join_asof(first, on="next_sequence", strategy="forward")
    return joined.select(sent_to_committed_ms=(pl.col("seen_ms") - pl.col("at_ms")).cast(pl.Float64))


def main() -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Measure a bars job from Kafka to Kafka at a steady rate.")
    parser.add_argument("rate", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parallelism", type=int, required=True)
    parser.add_argument(
        "--patience", type=float, default=_PATIENCE_S, metavar="SECONDS", help="how late a batch may go"
    )
    given = parser.parse_args()
    return printed(lambda: measure(given.rate, given.seconds, Home(given.home), given.parallelism, given.patience))


if __name__ == "__main__":
    sys.exit(main())
