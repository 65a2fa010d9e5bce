"""Kafka topics as a sink: bars, rejects and progress of all shards, with one transaction per checkpoint interval.

Python passes the messages of a publication to Flink in a few rows, each with many messages for one topic. Flink SQL,
which runs in Java, splits the rows into messages.
"""

from collections.abc import Iterator

import polars as pl

from barmill.kafka.messages import (
    BARS,
    PROGRESS,
    REJECTS,
    bar_messages,
    progress_message,
    read_again_message,
    reject_messages,
)
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.clock import now_ms
from flink_jobs.publication import Publication
from flink_jobs.sources import kafka_table_sql

# The longest timeout that brokers allow by default. Bars that were sent but not committed when the job went down are
# lost if it stays down for longer.
_TRANSACTION_TIMEOUT_MS = 900_000

# JSON text never contains a literal tab.
INSERT_SQL = (
    "INSERT INTO messages SELECT topic, SPLIT_INDEX(line, U&'\\0009', 0), SPLIT_INDEX(line, U&'\\0009', 1)"
    " FROM texts CROSS JOIN UNNEST(lines) AS parts (line)"
)


def messages_sql(spec: BarsJobSpec) -> str:
    """Return the statement for the table `messages`: topic, message_key and message, all STRING; a row per message."""
    columns = "topic STRING NOT NULL METADATA, message_key STRING, message STRING"
    options = {
        "topic": ";".join(spec.topic(name) for name in (BARS, REJECTS, PROGRESS)),
        "properties.transaction.timeout.ms": str(_TRANSACTION_TIMEOUT_MS),
        "properties.compression.type": "lz4",
        "properties.linger.ms": "20",
        "key.format": "raw",
        "key.fields": "message_key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": spec.topic(f"barmill-{spec.name}"),
        # Transactional ids are reused, so that the broker has to remember only a few.
        "sink.transaction-naming-strategy": "pooling",
    }
    return kafka_table_sql("messages", columns, spec, options)


def lines_by_topic(spec: BarsJobSpec, publication: Publication) -> Iterator[tuple[str, list[str]]]:
    """Yield (topic, lines) of a publication; each line is a key, a tab and a value."""
    progress, late, bars = publication.progress, publication.late, publication.bars
    if publication.read_again_from is not None:
        yield spec.topic(REJECTS), _lines(read_again_message(progress.job, progress.shard, publication.read_again_from))
    if late is not None:
        yield spec.topic(REJECTS), _lines(reject_messages(progress.job, progress.shard, late, now_ms()))
    if bars is not None and bars.height:
        yield spec.topic(BARS), _lines(bar_messages(progress.job, bars))
    yield spec.topic(PROGRESS), _lines(progress_message(progress))


def _lines(messages: pl.DataFrame) -> list[str]:
    return messages.select(pl.concat_str("key", "value", separator="\t")).to_series().to_list()
