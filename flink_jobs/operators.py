"""The Flink side of the bars job: keyed operators that bring ticks to the fold, and what hands its bars on."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pyflink.common import Row, Types
from pyflink.datastream.functions import FlatMapFunction, KeyedProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import ListState, ListStateDescriptor, ValueStateDescriptor

from bar.damage import noticing_damage
from bar.store import BarStore
from feed.kafka.message import TickMessage, decode
from feed.ticklog import TickLog
from flink_jobs.kafka_sink import texts
from flink_jobs.kafka_source import deliveries
from flink_jobs.lost import LostError, lost_by_store
from flink_jobs.publication import Publication, from_bytes, to_bytes
from flink_jobs.revisions import Revisions
from flink_jobs.shard import Cursor, Delivery, Shard
from flink_jobs.spec import BarsJobSpec
from flink_jobs.sqlite_source import SqliteSource
from flink_jobs.state import StateBytes, cursor_from_bytes, cursor_to_bytes

logger = logging.getLogger(__name__)

BYTES = Types.PICKLED_BYTE_ARRAY()
# So many ticks of a shard are folded at once, while there are more behind them: in small numbers each costs more.
_ENOUGH_ROWS = 100_000
# It waits for them so many times as long as when it has caught up.
_BEHIND_WAITS = 4


def _list_state(runtime_context: RuntimeContext, name: str) -> ListState:
    """Return a list state of bytes, kept as they are."""
    # Not at the top: only inside a TaskManager can it be imported.
    from pyflink.fn_execution.embedded.converters import ListDataConverter

    state = runtime_context.get_list_state(ListStateDescriptor(name, BYTES))
    state._element_converter = StateBytes()
    state._value_converter = ListDataConverter(state._element_converter)
    return state


class EveryShard(FlatMapFunction):  # type: ignore[misc]
    """Turns each wake-up into one for every shard."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def flat_map(self, _value: object) -> Iterator[int]:
        """Yield the shard numbers, whatever the wake-up says."""
        yield from range(self._shards)


class Fold(KeyedProcessFunction):  # type: ignore[misc]
    """What folds the ticks of each shard it is given, wherever they come from.

    Flink state holds, by shard, the cursor, the open bars and, where bars go to Kafka, what was told of them: as a
    snapshot and the deltas since.
    """

    def __init__(self, spec_path: Path) -> None:
        self._spec_path = spec_path

    def open(self, runtime_context: RuntimeContext) -> None:
        """Register the state."""
        self._spec = BarsJobSpec.read(self._spec_path)
        self._shards: dict[int, Shard] = {}
        self._revisions: dict[int, Revisions] = {}
        self._cursor_state = runtime_context.get_state(ValueStateDescriptor("cursor", BYTES))
        self._cursor_state._value_converter = StateBytes()
        self._kept_state = _list_state(runtime_context, "open_bars")
        self._told_state = _list_state(runtime_context, "told")

    def _shard(self, number: int) -> Shard:
        """Return a shard, as it was when the checkpoint was taken if this is its first turn since."""
        if number not in self._shards:
            shard, cursor = Shard(self._spec, number), self._cursor_state.value()
            if cursor is not None:
                self._restore(shard, number, cursor_from_bytes(cursor))
            self._shards[number] = shard
            if self._spec.to_kafka:
                self._revisions[number] = Revisions()
                self._revisions[number].restore([from_bytes(data) for data in self._told_state.get()])
        return self._shards[number]

    def _restore(self, shard: Shard, number: int, cursor: Cursor) -> None:
        lost = self._lost(number, cursor)
        if lost is not None:
            logger.warning("%s, shard %d: %s", self._spec.name, number, lost)
        shard.restore(cursor, [from_bytes(data) for data in self._kept_state.get()], lost)

    def _lost(self, number: int, cursor: Cursor) -> str | None:
        """Say in a sentence what is missing of what the state counts on; None if nothing."""
        return lost_by_store(self._spec.bars_db, self._spec.name, number, cursor) if self._spec.to_sqlite else None

    def _take(self, number: int, delivery: Delivery) -> Iterator[bytes]:
        """Fold what was delivered and yield what is to be published."""
        taken = self._shard(number).take(delivery)
        publications = [self._decided(number, one) for one in taken.publications]
        self._cursor_state.update(cursor_to_bytes(taken.cursor))
        if taken.snapshot is not None:
            self._kept_state.update([to_bytes(taken.snapshot)])
            if number in self._revisions:
                self._told_state.update([to_bytes(self._revisions[number].forget_all_but(taken.snapshot))])
        elif taken.delta is not None:
            self._kept_state.add(to_bytes(taken.delta))
        for publication in publications:
            yield publication.pack()

    def _decided(self, number: int, publication: Publication) -> Publication:
        """Decide about state and revision where the sink cannot."""
        if number not in self._revisions or publication.bars is None:
            return publication
        told, kept = self._revisions[number].tell(publication.bars, publication.progress.updated_ms)
        if kept.height:
            self._told_state.add(to_bytes(kept))
        return replace(publication, bars=told)


class PollAndFold(Fold):
    """Polls the tick log on SQLite for each shard it is given, from timers of its own.

    Flink has no Python source, so a slow stream of wake-ups starts each shard once; after that every poll sets the
    timer of the next.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        """Open the tick log and register the state."""
        super().open(runtime_context)
        self._log = TickLog.read_only(self._spec.ticks_db)
        self._sources: dict[int, SqliteSource] = {}
        self._timers: dict[int, int] = {}

    def close(self) -> None:
        """Give the tick log back."""
        self._log.close()

    def process_element(self, value: int, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Start the shard's timers on its first wake-up; later ones find it running."""
        if value not in self._shards:
            yield from self._poll(value, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        """Poll again, unless this is a timer from before a restart and the shard already has a new one."""
        shard = ctx.get_current_key()
        if shard not in self._shards or self._timers[shard] == timestamp:
            yield from self._poll(shard, ctx)

    def _lost(self, number: int, cursor: Cursor) -> str | None:
        return self._source(number).lost(cursor) or super()._lost(number, cursor)

    def _source(self, number: int) -> SqliteSource:
        return self._sources.setdefault(number, SqliteSource(self._log, number, self._spec.shards))

    def _poll(self, number: int, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        delivery = self._source(number).read_from(self._shard(number).next_sequence)
        yield from self._take(number, delivery)
        timers = ctx.timer_service()
        self._timers[number] = timers.current_processing_time() + (
            self._spec.fold_every_ms if delivery.caught_up else 1
        )
        timers.register_processing_time_timer(self._timers[number])


class GatherAndFold(Fold):
    """Gathers the messages of each shard and folds them together, from a timer or as soon as they are many.

    What is gathered and not folded yet is in Flink state, so no checkpoint misses it.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        """Register the state."""
        super().open(runtime_context)
        self._gathered: dict[int, list[TickMessage]] = {}
        self._awaited: dict[int, int] = {}
        self._gathered_state = _list_state(runtime_context, "gathered")

    def process_element(self, value: Row, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Gather a message."""
        content, number = value
        message, gathered = decode(content), self._gathered_of(number)
        gathered.append(message)
        self._gathered_state.add(content)
        if sum(one.ticks.height for one in gathered) >= _ENOUGH_ROWS:
            yield from self._fold(number)
            return
        timers = ctx.timer_service()
        wait_ms = self._spec.fold_every_ms * (1 if message.caught_up else _BEHIND_WAITS)
        due_ms = timers.current_processing_time() + wait_ms
        if due_ms < self._awaited.get(number, due_ms + 1):
            self._awaited[number] = due_ms
            timers.register_processing_time_timer(due_ms)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        """Fold what was gathered, perhaps before a restart, unless an earlier timer or many ticks have done so."""
        number = ctx.get_current_key()
        if number not in self._gathered or self._awaited.get(number) == timestamp:
            yield from self._fold(number)

    def _lost(self, number: int, cursor: Cursor) -> str | None:
        """Raise LostError instead: Flink keeps the place in the topic, so a shard cannot read it again for itself."""
        lost = super()._lost(number, cursor)
        if lost is not None:
            raise LostError(f"{lost} Start the job again: ./barmill job start {self._spec.name} --from beginning")
        return None

    def _gathered_of(self, number: int) -> list[TickMessage]:
        if number not in self._gathered:
            self._gathered[number] = [decode(content) for content in self._gathered_state.get()]
        return self._gathered[number]

    def _fold(self, number: int) -> Iterator[bytes]:
        gathered, self._gathered[number] = self._gathered_of(number), []
        self._gathered_state.clear()
        self._awaited.pop(number, None)
        for delivery in deliveries(gathered):
            yield from self._take(number, delivery)


class ToTexts(FlatMapFunction):  # type: ignore[misc]
    """Turns publications into messages for Kafka."""

    def __init__(self, spec_path: Path) -> None:
        self._spec_path = spec_path

    def open(self, _runtime_context: RuntimeContext) -> None:
        """Read the spec."""
        self._spec = BarsJobSpec.read(self._spec_path)

    def flat_map(self, value: bytes) -> Iterator[Row]:
        """Yield (topic, lines)."""
        for topic, lines in texts(self._spec, Publication.unpack(value)):
            yield Row(topic, lines)


class Publish(MapFunction):  # type: ignore[misc]
    """Writes publications to the bar store, each in one transaction before the next checkpoint can pass.

    Each is on the disk before the next is taken, so the store is never behind a completed checkpoint: Flink tells
    Python functions nothing of a checkpoint, so there is no later moment to sync at. A replay, which is not gone on
    from after a power cut, does without, and keeps every late tick for its file of rejects.
    """

    def __init__(self, spec_path: Path) -> None:
        self._spec_path = spec_path

    def open(self, _runtime_context: RuntimeContext) -> None:
        """Open the bar store."""
        spec = BarsJobSpec.read(self._spec_path)
        self._bars_db = spec.bars_db
        with noticing_damage(self._bars_db):
            self._store = BarStore.open(spec.bars_db, durable=not spec.final_only, keep_all_late=spec.final_only)

    def close(self) -> None:
        """Give the bar store back."""
        self._store.close()

    def map(self, value: bytes) -> int:
        """Write one publication and return how many bars it held."""
        one = Publication.unpack(value)
        with noticing_damage(self._bars_db):
            self._store.publish(one.progress, one.bars, one.late, one.anew_from, one.reason)
        return 0 if one.bars is None else one.bars.height
