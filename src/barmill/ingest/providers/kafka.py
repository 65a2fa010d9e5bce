"""The provider `kafka`: prices from a topic of another system, one JSON object per message, from given offsets on."""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Self

import polars as pl
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from barmill.ingest.connection.provider import Batch, ProviderError
from barmill.ingest.connection.state import ConnectionState, Phase, Report
from barmill.ingest.files.lines import Lines
from barmill.ingest.files.tables import BROKEN_SCHEMA, Rows, json_rows
from barmill.ingest.identity import GapNotes
from barmill.kafka.access import AccessError, connect
from barmill.platform.clock import now_ms
from barmill.platform.feed_settings import PricesTopic
from barmill.platform.kafka_settings import KafkaConnection

logger = logging.getLogger(__name__)

MAX_MESSAGES = 20_000
_WAIT_S = 0.1
# The longest interval of the demo market's heartbeats, so that bars close about as fast.
_REQUEST_ENDS_EVERY_MS = 250
_FIND_PARTITIONS_EVERY_MS = 10_000
_RESPONSE_TIMEOUT_S = 5.0


class TopicReader:
    """A consumer of one topic that keeps its position in each partition.

    offsets: the next offset to read, by partition. `next` raises KafkaException if the brokers do not respond or
    refuse; the object cannot be used after that.
    """

    def __init__(self, consumer: Consumer, admin: AdminClient, topic: str, offsets: Mapping[int, int]) -> None:
        self._consumer, self._admin, self._topic = consumer, admin, topic
        self.offsets = dict(offsets)
        self._requested_ms, self._ends = 0, dict[int, Future[Any]]()
        self._checked_ms, self._partitions = 0, set[int]()
        self._lost_offsets: list[tuple[int, int]] = []

    @classmethod
    def open(cls, brokers: KafkaConnection, secret: str | None, topic: str, offsets: Mapping[int, int]) -> Self:
        """Start reading at these offsets; partitions without an offset start at their oldest message.

        Raise AccessError if the brokers refuse access.
        """
        admin = connect(brokers, secret)
        consumer = Consumer(
            {
                **brokers.client(secret),
                "group.id": "barmill",  # the caller stores the offsets, but Kafka's client requires a group
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                # Report deleted messages as an error instead of skipping them silently.
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )
        return cls(consumer, admin, topic, offsets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def next(self) -> tuple[Sequence[Message], int | None]:
        """Wait briefly; return new messages, and the time up to which all was read in epoch ms, if it advanced."""
        clock_ms = now_ms()
        if clock_ms - self._checked_ms >= _FIND_PARTITIONS_EVERY_MS:
            self._find_new_partitions()
            self._checked_ms = clock_ms
        if not self._ends and clock_ms - self._requested_ms >= _REQUEST_ENDS_EVERY_MS:
            self._request_ends(clock_ms)
        messages = [message for message in self._consumer.consume(MAX_MESSAGES, _WAIT_S) if self._take(message)]
        if self._ends and self._has_reached_ends():
            self._ends = {}
            return messages, self._requested_ms
        return messages, None

    def take_lost_offsets(self) -> Sequence[tuple[int, int]]:
        """Return each lost position once: partitions and next offsets whose messages were deleted unread."""
        lost_offsets, self._lost_offsets = self._lost_offsets, []
        return lost_offsets

    def _request_ends(self, clock_ms: int) -> None:
        """Request the current end offsets: when they are reached, everything published until now has been read."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        latest_specs = {TopicPartition(self._topic, partition): latest for partition in self._partitions}
        futures = self._admin.list_offsets(
            latest_specs, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_RESPONSE_TIMEOUT_S
        )
        self._requested_ms, self._ends = (
            clock_ms,
            {topic_partition.partition: end for topic_partition, end in futures.items()},
        )

    def _has_reached_ends(self) -> bool:
        return all(
            end.done() and self.offsets.get(partition, -1) >= end.result().offset
            for partition, end in self._ends.items()
        )

    def _find_new_partitions(self) -> None:
        """Start reading new partitions."""
        # Use the admin client, because it lists end offsets only for partitions in its own metadata.
        metadata = self._admin.list_topics(self._topic, _RESPONSE_TIMEOUT_S).topics[self._topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        for partition in sorted(set(metadata.partitions) - self._partitions):
            self._read_from(partition, self.offsets.get(partition, OFFSET_BEGINNING))

    def _read_from(self, partition: int, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, offset)])
        self._partitions.add(partition)

    def _take(self, message: Message) -> bool:
        """Record the new offset; return whether this is a message with a value, not an event or an error."""
        error, partition, offset = message.error(), message.partition(), message.offset()
        if partition is None or offset is None:
            raise KafkaException(error)
        if error is None:
            self.offsets[partition] = offset + 1
            return message.value() is not None
        if error.code() == KafkaError._PARTITION_EOF:
            # Transactions leave markers that are not messages; the end offset is after them.
            self.offsets[partition] = offset
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._restart_partition(partition)
        else:
            raise KafkaException(error)
        return False

    def _restart_partition(self, partition: int) -> None:
        """Continue from the oldest message if the next offset has been deleted."""
        lost_offset = self.offsets.pop(partition)
        logger.warning(
            "Ticks may be missing: partition %d has no offset %d; continuing from its oldest message.",
            partition,
            lost_offset,
        )
        self._lost_offsets.append((partition, lost_offset))
        self._ends = {}  # end offsets requested earlier do not account for the lost messages
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self._read_from(partition, OFFSET_BEGINNING)


_NO_ROWS = Rows(pl.DataFrame(), pl.DataFrame(schema=BROKEN_SCHEMA), 0)


class KafkaProvider:
    """A topic's messages, each at most once; the cursor is the next offset of every partition.

    columns: Barmill's name by the publisher's name, where they differ. password_of: called at each connection. report:
    receives gaps, where messages were deleted before they were read.
    """

    name = "kafka"

    def __init__(
        self,
        topic: PricesTopic,
        columns: Mapping[str, str],
        password_of: Callable[[], str | None] = lambda: None,
        report: Report = lambda _: None,
    ) -> None:
        self._topic, self._columns, self._password_of = topic, columns, password_of
        self._report, self._gap_notes, self._reported = report, GapNotes(now_ms), ""
        self.live = topic.live

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield the topic's messages from `cursor` on (None: from the oldest message) until `stop` is set.

        Raise ProviderError if the brokers do not respond, refuse access or do not have the topic.
        """
        offsets = _offsets(cursor, self._topic.topic)
        try:
            with TopicReader.open(self._topic, self._password_of(), self._topic.topic, offsets) as reader:
                while not stop.is_set():
                    batch = self._batch(reader)
                    if batch is not None:
                        yield batch
        except KafkaException as error:
            raise ProviderError(self._error_sentence(error.args[0])) from error
        except AccessError as error:
            raise ProviderError(str(error)) from error

    def catalogue(self) -> None:
        """Return None: everything published is read."""
        return

    def _batch(self, reader: TopicReader) -> Batch | None:
        """Wait briefly for messages; return None if nothing is new."""
        messages, complete_to_ms = reader.next()
        self._report_gaps(reader.take_lost_offsets())
        if not messages and complete_to_ms is None:
            return None
        rows = _rows(messages)
        ticks = _rename_columns(rows.ticks, self._columns)
        cursor = json.dumps({"topic": self._topic.topic, "offsets": reader.offsets})
        return Batch(ticks, cursor, complete_to_ms if self.live else None, rows.broken, self._topic.topic)

    def _report_gaps(self, lost_offsets: Sequence[tuple[int, int]]) -> None:
        """Count messages deleted before they were read, and report them for an hour."""
        for partition, offset in lost_offsets:
            subject = f"partition {partition} of {self._topic.topic}"
            sentence = (
                f"Messages of {subject} from offset {offset} may be missing: they were deleted before they were read."
            )
            self._gap_notes.note(subject, sentence)
        if (gap := self._gap_notes.sentence) != self._reported:
            self._reported = gap
            sentence = f"Receiving prices. {gap}".rstrip()
            self._report(ConnectionState(Phase.RECEIVING, sentence, now_ms(), gaps=self._gap_notes.count, gap=gap))

    def _error_sentence(self, error: KafkaError) -> str:
        brokers = f"The brokers at {self._topic.bootstrap}"
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            return (
                f"{brokers} have no topic {self._topic.topic}; create it, or correct the name in the settings of the"
                " feed."
            )
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            return f"{brokers} do not respond; check that they are running."
        return f"{brokers} refuse access: {error.str()}."


def _offsets(cursor: str | None, topic: str) -> dict[int, int]:
    """Return the offsets of a cursor; empty if it belongs to another topic, whose offsets do not apply."""
    saved = json.loads(cursor) if cursor else {}
    return {int(name): offset for name, offset in saved["offsets"].items()} if saved.get("topic") == topic else {}


def _rows(messages: Sequence[Message]) -> Rows:
    """Parse each message as one JSON object; its offset is used as the line number.

    An empty message is a reject. TopicReader skips messages without a value, which mark a key as deleted.
    """
    # A line break cannot occur inside a JSON string, only between tokens.
    values = [bytes(message.value() or b"").replace(b"\n", b" ") for message in messages]
    filled = [index for index, value in enumerate(values) if value.strip()]
    blank = [message.offset() for message, value in zip(messages, values, strict=True) if not value.strip()]
    rows = _NO_ROWS
    if filled:
        rows = json_rows(Lines(b"\n".join(values[index] for index in filled) + b"\n", 0))
    offsets = pl.Series([messages[index].offset() for index in filled], dtype=pl.Int64)
    broken = _with_offsets(rows.broken, offsets)
    if blank:
        empty = pl.DataFrame({"line": blank, "reason": "broken_line", "detail": "the message is empty"}, BROKEN_SCHEMA)
        broken = pl.concat([broken, empty]).sort("line", maintain_order=True)
    return Rows(_with_offsets(rows.ticks, offsets), broken, rows.last_line)


def _with_offsets(table: pl.DataFrame, offsets: pl.Series) -> pl.DataFrame:
    return table.with_columns(line=offsets.gather(table["line"])) if table.height else table


def _rename_columns(table: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """Rename columns to Barmill's names.

    A mapped column takes precedence; a column that already has Barmill's name applies in messages without the mapped
    column.
    """
    renames = {column: field for column, field in columns.items() if column in table.columns}
    other_names = [name for name in table.columns if name not in renames]
    if "price" in renames.values():
        other_names = [name for name in other_names if name not in ("price_open", "price_close")]
    sources: dict[str, list[str]] = {}
    for column, field in [*renames.items(), *zip(other_names, other_names, strict=True)]:
        sources.setdefault(field, []).append(column)
    return table.select(pl.coalesce(names).alias(field) for field, names in sources.items())
