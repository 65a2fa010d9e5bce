"""The materialiser: keeps the bar store of this home as the topics of bars, rejects and progress say.

Run by the supervisor as `python -m bar.kafka.materialise --home FOLDER`. What was read and how far reading is are one
transaction in the store: killed at whatever moment, it goes on exactly there.
"""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from bar.clock import now_ms
from bar.kafka.held_progress import HeldProgress
from bar.kafka.messages import BARS, PROGRESS, REJECTS, MessageError, read_bars, read_progress, read_rejects
from bar.sqlite import Database, Migrations
from bar.sqlite_file import immediate
from bar.store import BarStore
from control.errors import ControlError
from control.home import Home
from control.kafka.access import password
from control.kafka.settings import KafkaSettings
from control.kafka.topics import ensure_topics, topics
from control.machine.service import serve
from control.people.roles import FEED
from control.settings_file import SettingsError
from feed.settings import FeedSettings

logger = logging.getLogger(__name__)

RETRY_S = 1.0
_MAX_MESSAGES = 10_000
_WAIT_S = 0.2
_END = OffsetSpec.latest()  # type: ignore[no-untyped-call]

T = TypeVar("T")

_migrations = Migrations("kafka")


@_migrations()
def create(db: Database) -> None:
    """Make the first version of the schema."""
    db.execute(
        "CREATE TABLE kafka_offsets (topic TEXT, partition INTEGER, next_offset INTEGER,"
        " PRIMARY KEY (topic, partition))"
    )


class Materialiser:
    """Keeps one bar store from the topics that `settings` name."""

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
        kept = store.db.conn.execute("SELECT topic, partition, next_offset FROM kafka_offsets").fetchall()
        self._reached = {(topic, partition): offset for topic, partition, offset in kept}
        self._places = [
            (settings.topic(topic.name), number)
            for topic in topics(settings)
            if settings.topic(topic.name) in self._names
            for number in range(topic.partitions)
        ]
        self._consumer.assign([TopicPartition(*at, self._reached.get(at, OFFSET_BEGINNING)) for at in self._places])

    def close(self) -> None:
        """Give the connections back."""
        self._consumer.close()

    def step(self) -> int:
        """Take over what comes next, in one transaction, and return how many messages that were.

        Raise KafkaException where Kafka refuses to be read.
        """
        found: dict[str, list[bytes]] = {BARS: [], REJECTS: [], PROGRESS: []}
        reached: dict[tuple[str, int], int] = {}
        for message in self._consumer.consume(_MAX_MESSAGES, _WAIT_S):
            error, at = message.error(), (str(message.topic()), int(message.partition() or 0))
            offset, value = int(message.offset() or 0), message.value()
            if error is None:
                reached[at] = offset + 1
                # Without a value it is a word to forget the key, which no job says.
                found[self._names[at[0]]] += [value] if value is not None else []
            elif error.code() == KafkaError._PARTITION_EOF:
                reached[at] = offset
            elif not error.retriable():
                raise KafkaException(error)
        self._reached |= reached
        self._hold(found[PROGRESS], reached)
        self._write(
            found[BARS], found[REJECTS], {at: to for at, to in reached.items() if self._names[at[0]] != PROGRESS}
        )
        return sum(map(len, found.values()))

    def _hold(self, values: Sequence[bytes], reached: dict[tuple[str, int], int]) -> None:
        told = {at: to for at, to in reached.items() if self._names[at[0]] == PROGRESS}
        self._held.arrive(_readable(values, read_progress), told)
        if self._held.asks_for_ends:
            ask = {TopicPartition(*at): _END for at in self._places if self._names[at[0]] != PROGRESS}
            # Also what is not committed yet: it may be of the transaction that this word of progress was in.
            answers = self._admin.list_offsets(ask, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            self._held.hold_until({(at.topic, at.partition): one.result().offset for at, one in answers.items()})

    def _write(self, bars: Sequence[bytes], rejects: Sequence[bytes], reached: dict[tuple[str, int], int]) -> None:
        progress, told = self._held.due(self._reached)
        offsets = [(topic, partition, offset) for (topic, partition), offset in {**reached, **told}.items()]
        if not offsets and not progress:
            return
        with immediate(self._store.db):
            self._store.db.conn.executemany("INSERT OR REPLACE INTO kafka_offsets VALUES (?, ?, ?)", offsets)
            for table in _readable(bars, lambda values: [read_bars(values)]):
                for (job,), of_job in table.group_by("job", maintain_order=True):
                    self._store.write_bars(str(job), of_job.drop("job"), now_ms())
            for refusals in _readable(rejects, read_rejects):
                if refusals.anew is not None:
                    self._store.forget_late(*refusals.anew)
                self._store.write_late(refusals.late)
            for one in progress:
                self._store.write_progress(one)


def _readable(values: Sequence[bytes], read: Callable[[Sequence[bytes]], Sequence[T]]) -> list[T]:
    """Read messages; those that are not ours are left out, with a word in the log."""
    if not values:
        return []
    try:
        return [*read(values)]
    except MessageError as error:
        if len(values) == 1:
            logger.error("%s It is left out: %.200r", error, values[0])
            return []
    return [found for value in values for found in _readable([value], read)]


def follow(home: Home, settings: KafkaSettings, stop: threading.Event) -> None:
    """Keep the bar store of a home until told to stop, taking it up again after every failure."""
    store, told = BarStore.open(home.bars_db), ""
    try:
        while not stop.is_set():
            try:
                secret = password(home, settings, FEED)
                ensure_topics(settings, FeedSettings.read(home).keep_days, secret)
                materialiser = Materialiser(store, settings, secret)
                try:
                    told = ""
                    while not stop.is_set():
                        materialiser.step()
                finally:
                    materialiser.close()
            except (KafkaException, ControlError) as error:
                problem = f"Kafka cannot be read: {error}"
                if problem != told:
                    logger.warning("%s Trying again every second.", problem)
                told = problem
                stop.wait(RETRY_S)
    finally:
        store.close()


def run(home: Home, stop: threading.Event) -> int:
    """Keep the bar store of this home until told to stop."""
    try:
        settings = KafkaSettings.read(home)
        if not settings.used:
            raise SettingsError(f"There is no {settings.file_name} in the home that says where Kafka is; write one.")
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    follow(home, settings, stop)
    return 0


if __name__ == "__main__":
    # Two would write the same twice, which does no harm and is of no use.
    sys.exit(serve("materialiser", "Barmill's materialiser: bars on Kafka into the bar store.", run))
