"""The tick log on SQLite: every accepted tick in arrival order, in columnar blocks, with its sequence number.

    blocks    first_sequence, rows, source, min_time_ns, max_time_ns, received_ms, data (see tick_damage.py), crc
    damaged_blocks  quarantined blocks that could not be read; see barmill/storage/tick_damage.py
    sources   name, cursor, live, complete_to_ms, ended, read, accepted, rejected, problem, updated_ms, prefix, made_ms,
              arrived_ms, newest_ns, reused_ids
    rejects   number, source, rejected_ms and REJECT_SCHEMA, only the newest million; rejects_by_reason: source, reason
              and count of all rejects ever
    log       one row: next_sequence; dropped_to_ns, the newest time in any block that retention dropped; id, which
              identifies data derived from this log; trusted_ms, see maintenance.py
    epochs    first_sequence, id: one row for each time that writing began. A log restored from a backup continues with
              an epoch that the lost part did not have, so its ticks cannot be mistaken for the lost ones

A batch, its rejects and the provider's cursor are written in one transaction: after a crash the provider resumes
exactly where the log ends, so no tick is lost or duplicated. Several threads may write, each with a separate
connection; sequence numbers are assigned in the transaction.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from barmill.model.tick import REJECT_SCHEMA, TICK_SCHEMA
from barmill.platform.clock import NS_PER_MS, now_ms
from barmill.platform.sqlite_file import Database, Store, immediate, open_for_reading, open_for_writing
from barmill.storage import tick_damage
from barmill.storage.log_tables import log_migrations
from barmill.storage.tick_damage import encode_block

MAX_REJECTS_KEPT = 1_000_000


@dataclass(frozen=True)
class Source:
    """The state of one source: what it delivered, and up to which of its times it is complete.

    prefix: the common prefix of its instruments' names; if several prefixes match a name, the longest applies.
    arrived_ms, newest_ns: when its last ticks arrived, and the newest time among them; None if unknown.
    reused_ids: how many of its ticks have an id that another tick of their instrument had; see
    barmill/ingest/identity.py.
    """

    name: str
    cursor: str | None
    live: bool
    complete_to_ms: int | None
    ended: bool
    read: int
    accepted: int
    rejected: int
    problem: str | None
    updated_ms: int
    prefix: str = ""
    made_ms: int = 0
    arrived_ms: int | None = None
    newest_ns: int | None = None
    reused_ids: int = 0


@dataclass(frozen=True)
class OldestBlock:
    """The first block left in a log: its source, its oldest tick, and when its newest ticks were received."""

    first_sequence: int
    source: str
    oldest_ms: int
    received_ms: int


@dataclass(frozen=True)
class Backlog:
    """The next ticks for a reader: one run from one source, and the state of the log when it was read.

    ticks has TICK_SCHEMA and is None if the reader has everything; its first row has sequence first_sequence.
    epoch: the epoch of the tick before next_sequence; None if there is none. damaged_to_ns: the newest time in damaged
    blocks that were skipped before these ticks.
    """

    first_sequence: int
    ticks: pl.DataFrame | None
    source: str | None
    sources: tuple[Source, ...]
    end_sequence: int
    epoch: str | None = None
    damaged_to_ns: int | None = None

    @property
    def next_sequence(self) -> int:
        """Return the sequence to read from next time."""
        return self.first_sequence + (0 if self.ticks is None else self.ticks.height)

    @property
    def caught_up(self) -> bool:
        """Return whether no ticks are left after these."""
        return self.next_sequence >= self.end_sequence


class TickLog(Store):
    """A tick log file, opened by one of its writers or readers."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._damaged: dict[int, str] = {}

    @classmethod
    def open(cls, path: Path, *, durable: bool = True) -> Self:
        """Open for writing; create the file if it is missing."""
        return cls(open_for_writing(path, log_migrations, durable=durable))

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """Open for reading. Raise StoreMissingError if there is no file."""
        return cls(open_for_reading(path, log_migrations))

    def append(
        self,
        source: str,
        ticks: pl.DataFrame,
        rejects: pl.DataFrame,
        *,
        origin: str | None = None,
        read: int,
        cursor: str | None,
        complete_to_ms: int | None,
        reused_ids: int = 0,
    ) -> int:
        """Add a batch and move the source's cursor, all or nothing. Return the sequence after the last tick.

        ticks, rejects: TICK_SCHEMA and REJECT_SCHEMA. origin: the source name to store with the ticks and rejects, if
        `source` is too coarse. read: the number of rows read from the source. cursor: where to resume after this batch.
        complete_to_ms: up to when the source is complete; None leaves it unchanged. reused_ids: see Source.
        """
        data = encode_block(ticks) if ticks.height else b""
        at_ms = now_ms()
        with immediate(self.db):
            execute = self.db.conn.execute
            first = self.end_sequence()
            if ticks.height:
                oldest_ns, newest_ns = ticks["time_ns"].min(), ticks["time_ns"].max()
                # Retention judges ages by the trusted time. A clock that is behind for a while makes no block older.
                [trusted_ms] = execute("SELECT coalesce(trusted_ms, 0) FROM log").fetchone()
                block = (
                    first,
                    ticks.height,
                    origin or source,
                    oldest_ns,
                    newest_ns,
                    max(at_ms, trusted_ms),
                    data,
                    tick_damage.checksum(data),
                )
                execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", block)
                execute("UPDATE log SET next_sequence = ?", (first + ticks.height,))
                arrival = "UPDATE sources SET arrived_ms = ?, newest_ns = ? WHERE name = ?"
                execute(arrival, (at_ms, newest_ns, source))
            if rejects.height:
                self._add_rejects(origin or source, rejects, at_ms)
            execute(
                "UPDATE sources SET cursor = ?, complete_to_ms = coalesce(?, complete_to_ms), read = read + ?,"
                " accepted = accepted + ?, rejected = rejected + ?, reused_ids = reused_ids + ?, problem = NULL,"
                " updated_ms = ? WHERE name = ?",
                (cursor, complete_to_ms, read, ticks.height, rejects.height, reused_ids, at_ms, source),
            )
        return first + ticks.height

    def start_source(self, name: str, *, live: bool, prefix: str = "", made_ms: int = 0) -> str | None:
        """Register a source or resume it. Return the cursor to continue from.

        made_ms: when it was created. A source created again under an old name does not resume at the old cursor.
        """
        at_ms = now_ms()
        with immediate(self.db):
            execute = self.db.conn.execute
            execute(
                "UPDATE sources SET cursor = NULL, complete_to_ms = NULL, problem = NULL"
                " WHERE name = ? AND made_ms <> ?",
                (name, made_ms),
            )
            execute(
                "INSERT INTO sources (name, live, updated_ms, prefix, made_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET live = excluded.live, ended = 0, prefix = excluded.prefix,"
                " made_ms = excluded.made_ms",
                (name, live, at_ms, prefix, made_ms),
            )
        row = self.db.conn.execute("SELECT cursor FROM sources WHERE name = ?", (name,)).fetchone()
        return None if row[0] is None else str(row[0])

    def end_source(self, name: str) -> None:
        """Mark that this source has ended, so that its last bars can close."""
        with self.db.atomic():
            self.db.conn.execute("UPDATE sources SET ended = 1 WHERE name = ?", (name,))

    def end_other_sources(self, names: Collection[str]) -> None:
        """Mark every other source as ended: a source that no longer delivers must not keep bars from closing."""
        for source in self.sources():
            if source.name not in names and not source.ended:
                self.end_source(source.name)

    def report_problem(self, name: str, problem: str) -> None:
        """Record why this source delivers nothing. The next batch clears it."""
        with self.db.atomic():
            self.db.conn.execute("UPDATE sources SET problem = ? WHERE name = ?", (problem, name))

    def sources(self) -> tuple[Source, ...]:
        """Return every source that was ever started in this log, by name."""
        rows = self.db.conn.execute(
            "SELECT name, cursor, live, complete_to_ms, ended, read, accepted, rejected, problem, updated_ms, prefix,"
            " made_ms, arrived_ms, newest_ns, reused_ids FROM sources ORDER BY name"
        )
        return tuple(
            Source(name, cursor, bool(live), complete_to_ms, bool(ended), *rest)
            for name, cursor, live, complete_to_ms, ended, *rest in rows
        )

    def id(self) -> str:
        """Return the id of this log."""
        return str(self.db.conn.execute("SELECT id FROM log").fetchone()[0])

    def oldest_block(self) -> OldestBlock | None:
        """Return the first block; None if the log is empty."""
        query = "SELECT first_sequence, source, min_time_ns, received_ms FROM blocks ORDER BY first_sequence LIMIT 1"
        row = self.db.conn.execute(query).fetchone()
        return None if row is None else OldestBlock(row[0], row[1], row[2] // NS_PER_MS, row[3])

    def end_sequence(self) -> int:
        """Return the sequence that the next tick will get."""
        return int(self.db.conn.execute("SELECT next_sequence FROM log").fetchone()[0])

    def begin_epoch(self, min_sequence: int = 1) -> None:
        """Begin a new epoch, which no other copy of this log has. The next tick gets at least `min_sequence`.

        min_sequence: after everything ever derived from this log, including parts that a restored backup lacks.
        """
        with immediate(self.db):
            begin = (self.end_sequence(), secrets.token_hex(8))
            self.db.conn.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?)", begin)
            self.db.conn.execute("UPDATE log SET next_sequence = max(next_sequence, ?)", (min_sequence,))

    def epoch_before(self, sequence: int) -> str | None:
        """Return the epoch of the tick before this sequence; None at the beginning and beyond the end of the log."""
        if sequence > self.end_sequence():
            return None
        query = "SELECT id FROM epochs WHERE first_sequence < ? ORDER BY first_sequence DESC LIMIT 1"
        row = self.db.conn.execute(query, (sequence,)).fetchone()
        return None if row is None else str(row[0])

    def trusted_ms(self) -> int | None:
        """Return the time to judge ages by (see barmill/storage/maintenance.py); None before the first maintenance."""
        row = self.db.conn.execute("SELECT trusted_ms FROM log").fetchone()
        return None if row[0] is None else int(row[0])

    def dropped_to_ns(self) -> int | None:
        """Return the newest time stamp that retention has dropped; None if it has dropped nothing."""
        row = self.db.conn.execute("SELECT dropped_to_ns FROM log").fetchone()
        return None if row[0] is None else int(row[0])

    def read_from(self, sequence: int, max_rows: int) -> Backlog:
        """Read the next ticks from `sequence` on, about `max_rows` at most, all from one source.

        Ticks, sources and end of the log are read in one transaction. Damaged blocks are skipped.
        """
        conn = self.db.conn
        conn.execute("BEGIN")
        try:
            end, sources = self.end_sequence(), self.sources()
            source, first, parts, rows, damaged_to_ns = None, sequence, list[pl.DataFrame](), 0, None
            # The block that holds `sequence` may start before it: compaction may join blocks between two reads.
            start = "coalesce((SELECT max(first_sequence) FROM blocks WHERE first_sequence <= :at), 0)"
            columns = "first_sequence, rows, source, max_time_ns"
            query = f"SELECT {columns} FROM blocks WHERE first_sequence >= {start} ORDER BY 1"
            for block_first, block_rows, block_source, newest_ns in conn.execute(query, {"at": sequence}):
                if block_first + block_rows <= sequence:
                    continue
                gap = block_first > first + rows
                if parts and (gap or block_source != source or rows + block_rows > max_rows):
                    break
                ticks = self._ticks_of(block_first)
                if ticks is None and parts:
                    break
                if ticks is None:
                    damaged_to_ns = max(damaged_to_ns or newest_ns, newest_ns)
                    continue
                skipped = max(0, sequence - block_first)
                first = first if parts else block_first + skipped
                source = block_source
                parts.append(ticks.slice(skipped))
                rows += block_rows - skipped
            # If no tick is left, those missing up to the end were dropped or never written.
            first = first if parts else max(sequence, end)
            epoch = self.epoch_before(first + rows)
        finally:
            # Nothing was written, and after damaged pages COMMIT would report the damage again.
            conn.execute("ROLLBACK")
        self._quarantine_damaged()
        return Backlog(first, pl.concat(parts) if parts else None, source, sources, end, epoch, damaged_to_ns)

    def _ticks_of(self, block: int) -> pl.DataFrame | None:
        """Return the ticks of a block, given by its first sequence; None if it is damaged, which is recorded."""
        try:
            return tick_damage.read_block(self.db, block)
        except tick_damage.DamagedBlockError as error:
            self._damaged[block] = str(error)
            return None

    def _quarantine_damaged(self) -> None:
        """Quarantine the damaged blocks that were found, once no read is in progress."""
        if self._damaged:
            damaged, self._damaged = self._damaged, {}
            tick_damage.quarantine(self.db, damaged)

    def _read_blocks(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (first sequence, ticks) of the blocks whose first sequences a query returns, skipping damaged ones.

        All reads share one transaction, so compaction and retention do not interfere.
        """
        conn = self.db.conn
        own_transaction = not conn.in_transaction
        if own_transaction:
            conn.execute("BEGIN")
        try:
            for (first,) in conn.execute(query, values).fetchall():
                if (ticks := self._ticks_of(first)) is not None:
                    yield first, ticks
        finally:
            if own_transaction:
                conn.execute("ROLLBACK")
        self._quarantine_damaged()

    def blocks(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (first sequence, ticks in TICK_SCHEMA) of every undamaged block, in order."""
        return self._read_blocks("SELECT first_sequence FROM blocks ORDER BY first_sequence")

    def newest(self, max_rows: int) -> pl.DataFrame:
        """Return the newest ticks (TICK_SCHEMA) in arrival order: `max_rows`, rounded up to whole blocks."""
        blocks, rows = list[pl.DataFrame](), 0
        for _, ticks in self._read_blocks("SELECT first_sequence FROM blocks ORDER BY first_sequence DESC"):
            blocks.append(ticks)
            rows += blocks[-1].height
            if rows >= max_rows:
                break
        return pl.concat(reversed(blocks)) if blocks else pl.DataFrame(schema=TICK_SCHEMA)

    def newest_time_ns(self, source: str | None = None) -> int | None:
        """Return the newest time stamp in the log, or of one source; None if there is none."""
        query = "SELECT max(max_time_ns) FROM blocks WHERE source = coalesce(?, source)"
        row = self.db.conn.execute(query, (source,)).fetchone()
        return None if row[0] is None else int(row[0])

    def arrived_ms(self) -> int:
        """Return when the last ticks arrived, in ms; 0 if there are none."""
        row = self.db.conn.execute("SELECT received_ms FROM blocks ORDER BY first_sequence DESC LIMIT 1").fetchone()
        return 0 if row is None else int(row[0])

    def recent(self, from_ns: int, source: str | None = None) -> Iterator[pl.DataFrame]:
        """Yield the ticks (TICK_SCHEMA) of every undamaged block that holds a time from `from_ns` on.

        A block may also hold earlier ticks. source: only yield blocks of this source.
        """
        query = (
            "SELECT first_sequence FROM blocks WHERE max_time_ns >= ? AND source = coalesce(?, source)"
            " ORDER BY first_sequence"
        )
        return (ticks for _, ticks in self._read_blocks(query, (from_ns, source)))

    def rejects(self) -> pl.DataFrame:
        """Return the kept rejects, oldest first: source, rejected_ms and REJECT_SCHEMA."""
        names = ("source", "rejected_ms", *REJECT_SCHEMA)
        rows = self.db.conn.execute(f"SELECT {', '.join(names)} FROM rejects ORDER BY number").fetchall()
        return pl.DataFrame(rows, {"source": pl.String(), "rejected_ms": pl.Int64(), **REJECT_SCHEMA}, orient="row")

    def rejects_by_reason(self) -> dict[str, int]:
        """Return how many rows were ever rejected at intake, by reason."""
        return dict(self.db.conn.execute("SELECT reason, sum(count) FROM rejects_by_reason GROUP BY 1 ORDER BY 1"))

    def _add_rejects(self, source: str, rejects: pl.DataFrame, now_ms: int) -> None:
        names = ", ".join(REJECT_SCHEMA)
        marks = ", ".join("?" * (len(REJECT_SCHEMA) + 2))
        rows = ((source, now_ms, *row) for row in rejects.iter_rows())
        cursor = self.db.conn.executemany(f"INSERT INTO rejects (source, rejected_ms, {names}) VALUES ({marks})", rows)
        self.db.conn.executemany(
            "INSERT INTO rejects_by_reason VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(source, reason, count) for reason, count in rejects.group_by("reason").len().iter_rows()],
        )
        cursor.execute("DELETE FROM rejects WHERE number <= (SELECT max(number) FROM rejects) - ?", (MAX_REJECTS_KEPT,))
