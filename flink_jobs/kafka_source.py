"""The tick log on Kafka as a source: one partition for each shard, read by Flink, which also keeps the offsets."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import polars as pl

from feed.kafka.message import TickMessage
from flink_jobs.kafka_table import kafka_table_sql
from flink_jobs.shard import Delivery
from flink_jobs.spec import BarsJobSpec


def ticks_sql(spec: BarsJobSpec) -> str:
    """Return the table `ticks`: (shard INT, message BYTES), one row a message of the topic."""
    columns = "message BYTES, shard INT METADATA FROM 'partition' VIRTUAL"
    options = {
        "topic": spec.topic("ticks"),
        "properties.group.id": spec.topic(f"barmill-{spec.name}"),
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": "earliest-offset",
        "format": "raw",
    }
    return kafka_table_sql("ticks", columns, spec, options)


def deliveries(messages: Sequence[TickMessage]) -> Iterator[Delivery]:
    """Join messages of one partition, in their order, to as few deliveries as they have sources in turn."""
    sources = list[str | None]()
    for message in messages:
        # What brings no ticks goes with what came before it.
        sources.append(message.source if message.ticks.height or not sources else sources[-1])
    numbered = zip(sources, messages, strict=True)
    for source, run in groupby(numbered, key=lambda one: one[0]):
        joined = [message for _, message in run]
        ticks = [message.ticks for message in joined if message.ticks.height]
        last = joined[-1]
        yield Delivery(
            pl.concat(ticks) if ticks else None,
            joined[0].first_sequence,
            last.next_sequence,
            last.caught_up,
            source,
            last.sources,
        )
