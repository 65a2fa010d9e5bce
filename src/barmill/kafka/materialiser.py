"""The materialiser: writes the topics of bars, rejects and progress into the bar store of this home.

The supervisor runs it as `python -m barmill.kafka.materialiser --home FOLDER`. Messages and their offsets are written
in one transaction in the store. If killed at any time, it resumes exactly at these offsets.
"""

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from barmill.audit.roles import FEED
from barmill.kafka.access import ensure_topics, password, topics
from barmill.kafka.messages import BARS, PROGRESS, REJECTS, MessageError, read_bars, read_progress, read_rejects
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.service import serve
from barmill.platform.settings_file import SettingsError
from barmill.platform.sqlite_file import Database, Migrations, immediate
from barmill.storage.bar_store import BarStore, Progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The position of a reader: the next offset by (topic, partition).
Offsets = Mapping[tuple[str, int], int]


@dataclass
class _NewestProgress:
    """The newest progress of each shard, and the next offsets of the topic of progress after these messages."""

    by_shard: dict[tuple[str, int], Progress] = field(default_factory=dict)
    next_offsets: dict[tuple[str, int], int] = field(default_factory=dict)


class HeldProgress:
    """Progress of shards, held until everything that they published before has been read.

    What a shard published before a progress message, or with it, is in the topics of bars and rejects when the message
    arrives.
    """

    def __init__(self) -> None:
        self._arriving, self._waiting = _NewestProgress(), _NewestProgress()
        self._until: Offsets | None = None

    def add(self, progress: Sequence[Progress], next_offsets: Offsets) -> None:
        """Add messages from the topic of progress, and the offsets read so far."""
        self._arriving.by_shard |= {
            (shard_progress.job, shard_progress.shard): shard_progress for shard_progress in progress
        }
        self._arriving.next_offsets |= next_offsets

    @property
    def needs_ends(self) -> bool:
        """Return whether `hold_until` needs the current ends of the topics of bars and rejects."""
        return self._until is None and bool(self._arriving.by_shard)

    def hold_until(self, ends: Offsets) -> None:
        """Hold what has arrived so far until the topics of bars and rejects have been read up to these offsets."""
        self._waiting, self._arriving, self._until = self._arriving, _NewestProgress(), ends

    def release(self, reached: Offsets) -> tuple[Sequence[Progress], Offsets]:
        """Return the progress that may be written once `reached` has been read, and the next offsets of its topic."""
        if self._until is None or any(reached.get(partition, 0) < end for partition, end in self._until.items()):
            return [], {}
        released, self._waiting, self._until = self._waiting, _NewestProgress(), None
        return [*released.by_shard.values()], released.next_offsets


RETRY_S = 1.0
_MAX_MESSAGES = 10_000
_WAIT_S = 0.2
_END = OffsetSpec.latest()  # type: ignore[no-untyped-call]

# Each file stores the names of its migrations, so the functions are never renamed.
_migrations = Migrations("kafka")


@_migrations()
def create(db: Database) -> None:
    """Create the first version of the schema."""
    db.execute(
        "CREATE TABLE kafka_offsets (topic TEXT, partition INTEGER, next_offset INTEGER,"
        " PRIMARY KEY (topic, partition))"
    )


class Materialiser:
    """The writer of the topics named in `settings` to one bar store."""

    def __init__(self, store: BarStore, settings: KafkaSettings, secret: str | None = None) -> None:
        _migrations.apply(store.db)
        self._store, self._held = store, HeldProgress()
        self._names = {settings.topic(name): name for name in (BARS, REJECTS, PROGRESS)}
        client = {**settings.client(secret), "log_level": 0}
        self._admin = AdminClient(client)
        self._consumer = Consumer(
            {
                **client,
                "group.id": settings.topic("barmill-materialiser"),
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        rows = store.db.conn.execute("SELECT topic, partition, next_offset FROM kafka_offsets").fetchall()
        self._reached = {(topic, partition): offset for topic, partition, offset in rows}
        self._partitions = [
            (settings.topic(topic.name), number)
            for topic in topics(settings)
            if settings.topic(topic.name) in self._names
            for number in range(topic.partitions)
        ]
        self._consumer.assign(
            [
                TopicPartition(*partition, self._reached.get(partition, OFFSET_BEGINNING))
                for partition in self._partitions
            ]
        )

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def step(self) -> int:
        """Read the next messages, write them in one transaction, and return their number.

        Progress is held, see HeldProgress. Raise KafkaException if Kafka refuses the read.
        """
        values_by_kind: dict[str, list[bytes]] = {BARS: [], REJECTS: [], PROGRESS: []}
        reached: dict[tuple[str, int], int] = {}
        for message in self._consumer.consume(_MAX_MESSAGES, _WAIT_S):
            error, partition = message.error(), (str(message.topic()), int(message.partition() or 0))
            offset, value = int(message.offset() or 0), message.value()
            if error is None:
                reached[partition] = offset + 1
                # A message without a value would delete the key; jobs never send one.
                values_by_kind[self._names[partition[0]]] += [value] if value is not None else []
            elif error.code() == KafkaError._PARTITION_EOF:
                reached[partition] = offset
            elif not error.retriable():
                raise KafkaException(error)
        self._reached |= reached
        self._hold(values_by_kind[PROGRESS], reached)
        self._write(
            values_by_kind[BARS],
            values_by_kind[REJECTS],
            {
                partition: next_offset
                for partition, next_offset in reached.items()
                if self._names[partition[0]] != PROGRESS
            },
        )
        return sum(map(len, values_by_kind.values()))

    def _hold(self, values: Sequence[bytes], reached: dict[tuple[str, int], int]) -> None:
        progress_offsets = {
            partition: offset for partition, offset in reached.items() if self._names[partition[0]] == PROGRESS
        }
        self._held.add(_decode_readable(values, read_progress), progress_offsets)
        if self._held.needs_ends:
            requests = {
                TopicPartition(*partition): _END
                for partition in self._partitions
                if self._names[partition[0]] != PROGRESS
            }
            # Include uncommitted messages, which may be from the transaction that this progress message was in.
            futures = self._admin.list_offsets(requests, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            self._held.hold_until(
                {
                    (partition.topic, partition.partition): future.result().offset
                    for partition, future in futures.items()
                }
            )

    def _write(self, bars: Sequence[bytes], rejects: Sequence[bytes], reached: dict[tuple[str, int], int]) -> None:
        progress, progress_offsets = self._held.release(self._reached)
        offsets = [(topic, partition, offset) for (topic, partition), offset in {**reached, **progress_offsets}.items()]
        if not offsets and not progress:
            return
        with immediate(self._store.db):
            self._store.db.conn.executemany("INSERT OR REPLACE INTO kafka_offsets VALUES (?, ?, ?)", offsets)
            for table in _decode_readable(bars, lambda values: [read_bars(values)]):
                for (job,), job_bars in table.group_by("job", maintain_order=True):
                    self._store.write_bars(str(job), job_bars.drop("job"), now_ms())
            for batch in _decode_readable(rejects, read_rejects):
                if batch.restart is not None:
                    self._store.forget_late(*batch.restart)
                self._store.write_late(batch.late)
            for shard_progress in progress:
                self._store.write_progress(shard_progress, shard_progress.updated_ms)


def _decode_readable(values: Sequence[bytes], read: Callable[[Sequence[bytes]], Sequence[T]]) -> list[T]:
    """Decode messages. Messages that are not from Barmill are skipped and logged."""
    if not values:
        return []
    try:
        return [*read(values)]
    except MessageError as error:
        if len(values) == 1:
            logger.error("%s It is skipped: %.200r", error, values[0])
            return []
    return [decoded for value in values for decoded in _decode_readable([value], read)]


def materialise(home: Home, settings: KafkaSettings, stop: threading.Event) -> None:
    """Write to the bar store of a home until `stop` is set; start again when Kafka fails or refuses access."""
    store, reported = BarStore.open(home.bars_db), ""
    try:
        while not stop.is_set():
            try:
                secret = password(home, settings, FEED)
                ensure_topics(settings, FeedSettings.read(home).keep_days, secret)
                materialiser = Materialiser(store, settings, secret)
                try:
                    reported = ""
                    while not stop.is_set():
                        materialiser.step()
                finally:
                    materialiser.close()
            except (KafkaException, ControlError) as error:
                problem = f"Kafka cannot be read: {error}"
                if problem != reported:
                    logger.warning("%s Retrying every second.", problem)
                reported = problem
                stop.wait(RETRY_S)
    finally:
        store.close()


def run(home: Home, stop: threading.Event) -> int:
    """Write to the bar store of this home until `stop` is set; return 0, or 1 if kafka.json is missing or invalid."""
    try:
        settings = KafkaSettings.read(home)
        if not settings.is_used:
            raise SettingsError(f"The home has no {settings.file_name} with the address of Kafka; create one.")
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    materialise(home, settings, stop)
    return 0


if __name__ == "__main__":
    # Only one process runs at a time. A second one would repeat every write, which is harmless but useless.
    sys.exit(serve("materialiser", "Barmill's materialiser: writes bars from Kafka into the bar store.", run))
