"""The tick log as a source of the bars job: read from SQLite by each shard, or received as messages from Kafka."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import polars as pl

from barmill.kafka.messages import TickMessage
from barmill.model.fold import MAX_ROWS_AT_ONCE
from barmill.model.job_spec import BarsJobSpec
from barmill.model.progress import shard_of
from barmill.platform.clock import NS_PER_MS
from barmill.storage.tick_log import Backlog, TickLog
from flink_jobs.shard import Cursor, Delivery

MAX_ROWS_PER_POLL = MAX_ROWS_AT_ONCE // 2


class SqliteSource:
    """The tick log on SQLite as one shard reads it: only the ticks of its instruments. shards: the number of shards."""

    def __init__(self, log: TickLog, shard: int, shards: int) -> None:
        self._log, self._shard, self._shards = log, shard, shards
        self._is_own: dict[str, bool] = {}

    def describe_loss(self, cursor: Cursor) -> str | None:
        """Return a sentence about ticks that the cursor has read and the log no longer contains, or None."""
        end = self._log.end_sequence()
        if cursor.next_sequence > end:
            return (
                f"The tick log ends before sequence {end}, but ticks up to {cursor.next_sequence - 1} were read; it was"
                " replaced by an older one."
            )
        if cursor.epoch is not None and self._log.epoch_before(cursor.next_sequence) != cursor.epoch:
            return (
                f"The tick log does not contain the ticks that were read up to sequence {cursor.next_sequence - 1}; it"
                " was replaced by an older one and then continued."
            )
        return None

    def read_from(self, sequence: int) -> Delivery:
        """Return the next delivery, starting at `sequence`."""
        backlog = self._log.read_from(sequence, MAX_ROWS_PER_POLL)
        return Delivery(
            self._select(backlog),
            backlog.first_sequence,
            backlog.next_sequence,
            backlog.caught_up,
            backlog.source,
            backlog.sources,
            self._missing_to_ms(sequence, backlog),
            backlog.epoch,
        )

    def _missing_to_ms(self, sequence: int, backlog: Backlog) -> int | None:
        """Return the time up to which requested ticks are missing, or None."""
        if backlog.first_sequence == sequence and backlog.damaged_to_ns is None:
            return None
        missing_ns = [at_ns for at_ns in (backlog.damaged_to_ns, self._log.dropped_to_ns()) if at_ns is not None]
        if not missing_ns and backlog.ticks is not None:
            # Ticks that were lost for another reason than retention are probably not newer than the next one.
            missing_ns.append(backlog.ticks["time_ns"][0])
        return max(missing_ns) // NS_PER_MS if missing_ns else None

    def _select(self, backlog: Backlog) -> pl.DataFrame | None:
        """Return this shard's ticks with their sequence numbers, or None if there are none."""
        if backlog.ticks is None:
            return None
        first = backlog.first_sequence
        ticks = backlog.ticks.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
        if self._shards == 1:
            return ticks
        for name in ticks["instrument"].unique():
            self._is_own.setdefault(name, shard_of(name, self._shards) == self._shard)
        own_ticks = ticks.filter(pl.col("instrument").replace_strict(self._is_own, return_dtype=pl.Boolean))
        return own_ticks if own_ticks.height else None


def kafka_table_sql(name: str, columns: str, spec: BarsJobSpec, options: Mapping[str, str]) -> str:
    """Return the statement that creates a table of one or more topics."""
    all_options = {"connector": "kafka", **spec.client_options(), **options}
    option_list = ", ".join("'{}' = '{}'".format(key, value.replace("'", "''")) for key, value in all_options.items())
    return f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ({option_list})"


def ticks_sql(spec: BarsJobSpec) -> str:
    """Return the statement for the table `ticks`: (shard INT, message BYTES), one row per message of the topic."""
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
    """Yield one delivery for each run of consecutive messages of a partition that have the same source, in order."""
    sources = list[str | None]()
    for message in messages:
        # A message without ticks joins the previous message.
        sources.append(message.source if message.ticks.height or not sources else sources[-1])
    numbered = zip(sources, messages, strict=True)
    for source, group in groupby(numbered, key=lambda pair: pair[0]):
        grouped = [message for _, message in group]
        ticks = [message.ticks for message in grouped if message.ticks.height]
        last = grouped[-1]
        yield Delivery(
            pl.concat(ticks) if ticks else None,
            grouped[0].first_sequence,
            last.next_sequence,
            last.caught_up,
            source,
            last.sources,
        )
