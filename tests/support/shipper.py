"""Helpers of test_shipper.py that other tests use too."""

import threading

import polars as pl
from polars.testing import assert_frame_equal

from barmill.model.progress import shard_of
from barmill.platform.clock import wait_until
from barmill.platform.kafka_settings import KafkaSettings
from tests.support.shipping import (
    INSTRUMENTS,
    GrowingLog,
    messages_by_partition,
    shipped_ticks,
)


def assert_all_is_in_kafka_once_and_in_order(growing: GrowingLog, settings: KafkaSettings) -> None:
    """Hold what a read_committed consumer sees of each partition against the log."""
    log = growing.sequenced()
    by_partition = messages_by_partition(settings)
    assert set(by_partition) == set(range(settings.partitions))
    for partition, messages in by_partition.items():
        mine = log.filter(pl.col("instrument").is_in([name for name in INSTRUMENTS if shard_of(name, 8) == partition]))
        shipped = shipped_ticks(messages)
        assert_frame_equal(shipped.select(mine.columns), mine)
        sequences = [message.next_sequence for message in messages]
        assert sequences == sorted(sequences)
        assert messages[-1].next_sequence == messages[-1].end_sequence == log.height + 1


def writing(growing: GrowingLog, done: threading.Event) -> threading.Thread:
    """Append a batch every 20 ms until done."""

    def write() -> None:
        while not done.wait(0.02):
            growing.append()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def wait_for_words_to_all(settings: KafkaSettings, growing: GrowingLog) -> None:
    """Wait until every partition has heard where the log ends."""
    end = growing.log.end_sequence()

    def heard() -> bool:
        last = [messages[-1].next_sequence for messages in messages_by_partition(settings).values()]
        return len(last) == settings.partitions and min(last) == end

    assert wait_until(heard, 30, every_s=0.5)
