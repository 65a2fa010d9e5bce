"""Topics on Kafka as a sink: bars, rejects and progress of all shards, a transaction from checkpoint to checkpoint.

Python hands Flink all messages of a publication to one topic at once; Flink's SQL, which is all Java, takes them apart.
"""

from collections.abc import Iterator

import polars as pl

from bar.clock import now_ms
from bar.kafka.messages import BARS, PROGRESS, REJECTS, anew_message, bar_messages, progress_message, reject_messages
from flink_jobs.kafka_table import kafka_table_sql
from flink_jobs.publication import Publication
from flink_jobs.spec import BarsJobSpec

# The longest that brokers allow unless told otherwise. Bars that were handed in, but not committed when the job went
# away, are lost if it stays away for longer.
_TRANSACTION_TIMEOUT_MS = 900_000

# JSON never holds a tab of its own.
INSERT_SQL = (
    "INSERT INTO messages SELECT topic, SPLIT_INDEX(line, U&'\\0009', 0), SPLIT_INDEX(line, U&'\\0009', 1)"
    " FROM texts CROSS JOIN UNNEST(lines) AS taken_apart (line)"
)


def messages_sql(spec: BarsJobSpec) -> str:
    """Return the table `messages`: (topic, message_key, message STRING), one row a message to produce."""
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
        # Transactions are used again and again, so that the broker has few to remember.
        "sink.transaction-naming-strategy": "pooling",
    }
    return kafka_table_sql("messages", columns, spec, options)


def texts(spec: BarsJobSpec, publication: Publication) -> Iterator[tuple[str, list[str]]]:
    """Yield (topic, lines) of a publication; each line is a key, a tab and a value."""
    progress, late, bars = publication.progress, publication.late, publication.bars
    if publication.anew_from is not None:
        yield spec.topic(REJECTS), _lines(anew_message(progress.job, progress.shard, publication.anew_from))
    if late is not None:
        yield spec.topic(REJECTS), _lines(reject_messages(progress.job, progress.shard, late, now_ms()))
    if bars is not None and bars.height:
        yield spec.topic(BARS), _lines(bar_messages(progress.job, bars))
    yield spec.topic(PROGRESS), _lines(progress_message(progress))


def _lines(messages: pl.DataFrame) -> list[str]:
    return messages.select(pl.concat_str("key", "value", separator="\t")).to_series().to_list()
