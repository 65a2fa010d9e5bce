"""The Flink operators of the bars job: keyed operators that pass ticks to the fold, and the publication of its bars."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pyflink.common import Row, Types
from pyflink.datastream.functions import FlatMapFunction, KeyedProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import ListState, ListStateDescriptor, ValueStateDescriptor

from barmill.kafka.messages import TickMessage, decode
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.sqlite_file import data_version
from barmill.storage.bar_damage import mark_damage
from barmill.storage.bar_runs import ReplayStore
from barmill.storage.bar_store import BarStore
from barmill.storage.tick_log import TickLog
from flink_jobs.kafka_sink import lines_by_topic
from flink_jobs.publication import Publication, PublishedVersions, from_bytes, to_bytes
from flink_jobs.shard import Cursor, Delivery, Shard
from flink_jobs.sources import SqliteSource, deliveries
from flink_jobs.state import DataLossError, StateBytes, cursor_from_bytes, cursor_to_bytes, describe_store_loss

logger = logging.getLogger(__name__)

BYTES = Types.PICKLED_BYTE_ARRAY()
# A shard that reads from Kafka folds as soon as it has gathered this many ticks; smaller batches cost more per tick.
_FOLD_AT_ROWS = 100_000
# A shard that is behind waits up to this multiple of the usual time to gather them.
_BEHIND_WAIT_FACTOR = 4
# A shard that has read everything from SQLite waits for a write to the log. It checks this often, which costs little.
_CHECK_EVERY_MS = 20
# It polls at least this often, even without a write.
_MAX_IDLE_MS = 1_000
# A poll that finds only this many ticks or fewer is followed by a longer wait, since each poll has a fixed cost.
_QUIET_ROWS = 100
_QUIET_WAIT_FACTOR = 2


def _list_state(runtime_context: RuntimeContext, name: str) -> ListState:
    """Return a list state of bytes that are stored unchanged."""
    # The import is not at the top of the module, because it works only in a TaskManager.
    from pyflink.fn_execution.embedded.converters import ListDataConverter

    state = runtime_context.get_list_state(ListStateDescriptor(name, BYTES))
    state._element_converter = StateBytes()
    state._value_converter = ListDataConverter(state._element_converter)
    return state


class WakeEveryShard(FlatMapFunction):  # type: ignore[misc]
    """The operator that turns each wake-up into one per shard."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def flat_map(self, _value: object) -> Iterator[int]:
        """Yield all shard numbers; the value of the wake-up is ignored."""
        yield from range(self._shards)


class Fold(KeyedProcessFunction):  # type: ignore[misc]
    """The base of the operators that fold the ticks of their shards; subclasses provide the ticks.

    Flink state holds, per shard, the cursor, the open bars and, if bars go to Kafka, their published versions. Bars and
    versions are stored as a snapshot and the deltas after it.
    """

    def __init__(self, spec_path: Path) -> None:
        self._spec_path = spec_path

    def open(self, runtime_context: RuntimeContext) -> None:
        """Register the state."""
        self._spec = BarsJobSpec.read(self._spec_path)
        self._shards: dict[int, Shard] = {}
        self._versions: dict[int, PublishedVersions] = {}
        self._cursor_state = runtime_context.get_state(ValueStateDescriptor("cursor", BYTES))
        self._cursor_state._value_converter = StateBytes()
        self._open_bars_state = _list_state(runtime_context, "open_bars")
        # The name in the savepoints of earlier versions.
        self._published_state = _list_state(runtime_context, "told")

    def _shard(self, number: int) -> Shard:
        """Return a shard, restored from the checkpoint on first use."""
        if number not in self._shards:
            shard, cursor = Shard(self._spec, number), self._cursor_state.value()
            if cursor is not None:
                self._restore(shard, number, cursor_from_bytes(cursor))
            self._shards[number] = shard
            if self._spec.writes_to_kafka:
                self._versions[number] = PublishedVersions()
                self._versions[number].restore([from_bytes(data) for data in self._published_state.get()])
        return self._shards[number]

    def _restore(self, shard: Shard, number: int, cursor: Cursor) -> None:
        loss = self._describe_loss(number, cursor)
        if loss is not None:
            logger.warning("%s, shard %d: %s", self._spec.name, number, loss)
        shard.restore(cursor, [from_bytes(data) for data in self._open_bars_state.get()], loss)

    def _describe_loss(self, number: int, cursor: Cursor) -> str | None:
        """Return a sentence about missing data that the state depends on, or None."""
        return (
            describe_store_loss(self._spec.bars_db, self._spec.name, number, cursor)
            if self._spec.writes_to_sqlite
            else None
        )

    def _fold_delivery(self, number: int, delivery: Delivery) -> Iterator[bytes]:
        """Fold a delivery and yield the packed publications."""
        result = self._shard(number).fold(delivery)
        publications = [self._with_revisions(number, folded) for folded in result.publications]
        self._cursor_state.update(cursor_to_bytes(result.cursor))
        if result.snapshot is not None:
            self._open_bars_state.update([to_bytes(result.snapshot)])
            if number in self._versions:
                self._published_state.update([to_bytes(self._versions[number].retain(result.snapshot))])
        elif result.delta is not None:
            self._open_bars_state.add(to_bytes(result.delta))
        for publication in publications:
            yield publication.pack()

    def _with_revisions(self, number: int, publication: Publication) -> Publication:
        """Return the publication; for Kafka, with only the new versions of bars, their states and revisions."""
        if number not in self._versions or publication.bars is None:
            return publication
        changed, changed_state = self._versions[number].changed_bars(publication.bars, publication.progress.updated_ms)
        if changed_state.height:
            self._published_state.add(to_bytes(changed_state))
        return replace(publication, bars=changed)


class PollAndFold(Fold):
    """The operator that polls the tick log on SQLite for each of its shards, driven by timers.

    Flink has no Python source, so a slow stream of wake-ups starts each shard once; after that, every poll sets the
    timer for the next. A shard that has read everything polls again when something was written to the log.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        """Open the tick log and register the state."""
        super().open(runtime_context)
        self._log = TickLog.read_only(self._spec.ticks_db)
        self._sources: dict[int, SqliteSource] = {}
        self._timers: dict[int, int] = {}
        # By shard: the data version of the log before the last poll, and until when only a write causes another poll.
        self._idle: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        """Close the tick log."""
        self._log.close()

    def process_element(self, value: int, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Start the shard's timers on its first wake-up; ignore later wake-ups."""
        if value not in self._shards:
            yield from self._poll(value, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        """Poll again, or wait further if nothing was written to the log.

        A timer from before a restart is ignored if the shard already has a new one.
        """
        shard = ctx.get_current_key()
        if shard not in self._shards:
            yield from self._poll(shard, ctx)
        elif self._timers[shard] == timestamp:
            version, until_ms = self._idle[shard]
            if timestamp < until_ms and data_version(self._log.db.conn) == version:
                self._set_timer(shard, _CHECK_EVERY_MS, ctx)
            else:
                yield from self._poll(shard, ctx)

    def _describe_loss(self, number: int, cursor: Cursor) -> str | None:
        return self._source(number).describe_loss(cursor) or super()._describe_loss(number, cursor)

    def _source(self, number: int) -> SqliteSource:
        return self._sources.setdefault(number, SqliteSource(self._log, number, self._spec.shards))

    def _poll(self, number: int, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        version = data_version(self._log.db.conn)
        delivery = self._source(number).read_from(self._shard(number).next_sequence)
        yield from self._fold_delivery(number, delivery)
        base_wait_ms = self._spec.fold_every_ms
        if delivery.ticks is None:
            base_wait_ms = _CHECK_EVERY_MS  # a write without ticks of this shard must not delay its next ticks
        elif delivery.ticks.height <= _QUIET_ROWS:
            base_wait_ms = max(base_wait_ms, _QUIET_WAIT_FACTOR * self._spec.poll_ms)
        self._set_timer(number, base_wait_ms if delivery.caught_up else 1, ctx)
        self._idle[number] = version, self._timers[number] + _MAX_IDLE_MS if delivery.caught_up else 0

    def _set_timer(self, number: int, wait_ms: int, ctx: KeyedProcessFunction.Context) -> None:
        timers = ctx.timer_service()
        self._timers[number] = timers.current_processing_time() + wait_ms
        timers.register_processing_time_timer(self._timers[number])


class GatherAndFold(Fold):
    """The operator that gathers the messages of each shard, and folds them on a timer or when there are enough ticks.

    Gathered messages that are not folded yet are in Flink state, so every checkpoint contains them.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        """Register the state."""
        super().open(runtime_context)
        self._gathered: dict[int, list[TickMessage]] = {}
        self._timer_ms: dict[int, int] = {}
        self._gathered_state = _list_state(runtime_context, "gathered")

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Gather a message, and fold all gathered ones if they have enough ticks."""
        content, number = value
        message, messages = decode(content), self._gathered_messages(number)
        messages.append(message)
        self._gathered_state.add(content)
        if sum(batch.ticks.height for batch in messages) >= _FOLD_AT_ROWS:
            yield from self._fold_gathered(number)
            return
        timers = ctx.timer_service()
        wait_ms = self._spec.fold_every_ms * (1 if message.caught_up else _BEHIND_WAIT_FACTOR)
        due_ms = timers.current_processing_time() + wait_ms
        if due_ms < self._timer_ms.get(number, due_ms + 1):
            self._timer_ms[number] = due_ms
            timers.register_processing_time_timer(due_ms)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        """Fold the gathered messages, even from before a restart, unless an earlier fold has already done so."""
        number = ctx.get_current_key()
        if number not in self._gathered or self._timer_ms.get(number) == timestamp:
            yield from self._fold_gathered(number)

    def _describe_loss(self, number: int, cursor: Cursor) -> str | None:
        """Raise DataLossError if data is missing: Flink stores the offsets, so a shard cannot read the topic again."""
        loss = super()._describe_loss(number, cursor)
        if loss is not None:
            raise DataLossError(f"{loss} Start the job again: ./barmill job start {self._spec.name} --from beginning")
        return None

    def _gathered_messages(self, number: int) -> list[TickMessage]:
        if number not in self._gathered:
            self._gathered[number] = [decode(content) for content in self._gathered_state.get()]
        return self._gathered[number]

    def _fold_gathered(self, number: int) -> Iterator[bytes]:
        messages, self._gathered[number] = self._gathered_messages(number), []
        self._gathered_state.clear()
        self._timer_ms.pop(number, None)
        for delivery in deliveries(messages):
            yield from self._fold_delivery(number, delivery)


class ToLines(FlatMapFunction):  # type: ignore[misc]
    """The operator that converts publications to lines for Kafka."""

    def __init__(self, spec_path: Path) -> None:
        self._spec_path = spec_path

    def open(self, _runtime_context: RuntimeContext) -> None:
        """Read the spec."""
        self._spec = BarsJobSpec.read(self._spec_path)

    def flat_map(self, value: bytes) -> Iterator[Row]:
        """Yield (topic, lines)."""
        for topic, lines in lines_by_topic(self._spec, Publication.unpack(value)):
            yield Row(topic, lines)


class Publish(MapFunction):  # type: ignore[misc]
    """The operator that writes each publication to the bar store, in one transaction.

    Each publication is on disk before the next is processed, so the store is never behind a completed checkpoint. A
    later sync is not possible, because Flink does not notify Python functions of checkpoints. A replay, which does
    not resume after a power failure, writes to another kind of store without waiting for the disk
    (src/barmill/storage/bar_runs.py).
    """

    def __init__(self, spec_path: Path) -> None:
        self._spec_path = spec_path

    def open(self, _runtime_context: RuntimeContext) -> None:
        """Open the bar store."""
        spec = BarsJobSpec.read(self._spec_path)
        self._bars_db = spec.bars_db
        with mark_damage(self._bars_db):
            self._store = (ReplayStore.create if spec.final_only else BarStore.open)(spec.bars_db)

    def close(self) -> None:
        """Close the bar store."""
        self._store.close()

    def map(self, value: bytes) -> int:
        """Write one publication, and return how many bars it has."""
        publication = Publication.unpack(value)
        with mark_damage(self._bars_db):
            publication.write_to(self._store)
        return 0 if publication.bars is None else publication.bars.height
