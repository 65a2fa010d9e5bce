"""The tick log on SQLite: every accepted tick in arrival order, in columnar blocks, with its sequence number.

    blocks    first_sequence, rows, source, min_time_ns, max_time_ns, received_ms, data (see feed/block.py), crc
    damaged_blocks  blocks that could not be read, put aside: see feed/damage.py
    sources   name, cursor, live, complete_to_ms, ended, read, accepted, rejected, problem, updated_ms, prefix, made_ms,
              arrived_ms, newest_ns, reused_ids
    rejects   source and REJECT_SCHEMA, bounded; rejects_by_reason keeps the counts for ever
    log       one row: next_sequence, dropped_to_ns, the newest time in any block that retention dropped, and id, by
              which things made of one log are distinguished from those of another; trusted_ms, see feed/upkeep.py
    epochs    first_sequence, id: one row for each time that writing began. A log that was restored from a backup
              continues with an epoch that the lost part did not have, so its ticks are not taken for the lost ones

A batch, its rejects and the provider's cursor are written in one transaction: after a crash the provider goes on
exactly where the log ends, so no tick is lost or doubled. Several threads may write, each by a connection of its own:
sequence numbers are given out in the transaction.
"""

import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from bar.sqlite import Database
from bar.sqlite_file import immediate, open_for_reading, open_for_writing
from feed import damage
from feed.block import encode_block
from feed.log_tables import log_migrations
from feed.tick import REJECT_SCHEMA, TICK_SCHEMA

MAX_REJECTS_KEPT = 1_000_000


@dataclass(frozen=True)
class Source:
    """Where one provider stands: what it delivered and up to which time of its own it is complete.

    prefix: what the names of its instruments begin with; where several fit a name, the longest is meant.
    arrived_ms, newest_ns: when its last ticks came, and the newest time among them; None where that is not known.
    reused_ids: how many of its ticks have an id that another one of their instrument had; see feed/duplicates.py.
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
class Backlog:
    """The next ticks for a reader: one run from one source, and how the log stood when it was read.

    ticks has TICK_SCHEMA and is None when the reader has everything; its first row has sequence first_sequence.
    epoch: the epoch of the tick before next_sequence; None where there is none. damaged_to_ns: the newest time in
    damaged blocks that were passed over in front of these ticks.
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
        """Tell whether nothing is left behind these ticks."""
        return self.next_sequence >= self.end_sequence


class TickLog:
    """One tick log file, for one of its writers or for any number of readers."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._damaged: dict[int, str] = {}

    @classmethod
    def open(cls, path: Path, *, durable: bool = True) -> Self:
        """Open for writing, making the file when there is none."""
        return cls(open_for_writing(path, log_migrations, durable=durable))

    @classmethod
    def read_only(cls, path: Path) -> Self:
        """Open for reading; raise StoreMissingError when there is no file."""
        return cls(open_for_reading(path, log_migrations))

    @property
    def db(self) -> Database:
        """The file itself, for upkeep."""
        return self._db

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        """Add a batch and move the source's cursor, all or nothing; return the sequence after the last tick.

        origin: what the ticks and rejects are filed under, where the source itself is too coarse.
        """
        data = encode_block(ticks) if ticks.height else b""
        now_ms = time.time_ns() // 1_000_000
        with immediate(self._db):
            execute = self._db.conn.execute
            first = self.end_sequence()
            if ticks.height:
                oldest_ns, newest_ns = ticks["time_ns"].min(), ticks["time_ns"].max()
                block = (
                    first,
                    ticks.height,
                    origin or source,
                    oldest_ns,
                    newest_ns,
                    now_ms,
                    data,
                    damage.checksum(data),
                )
                execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", block)
                execute("UPDATE log SET next_sequence = ?", (first + ticks.height,))
                arrival = "UPDATE sources SET arrived_ms = ?, newest_ns = ? WHERE name = ?"
                execute(arrival, (now_ms, newest_ns, source))
            if rejects.height:
                self._add_rejects(origin or source, rejects, now_ms)
            execute(
                "UPDATE sources SET cursor = ?, complete_to_ms = coalesce(?, complete_to_ms), read = read + ?,"
                " accepted = accepted + ?, rejected = rejected + ?, reused_ids = reused_ids + ?, problem = NULL,"
                " updated_ms = ? WHERE name = ?",
                (cursor, complete_to_ms, read, ticks.height, rejects.height, reused_ids, now_ms, source),
            )
        return first + ticks.height

    def start_source(self, name: str, *, live: bool, prefix: str = "", made_ms: int = 0) -> str | None:
        """Register a source, or take it up again; return the cursor to go on from.

        made_ms: when it was made; one that was made anew under an old name does not go on where the old one stood.
        """
        now_ms = time.time_ns() // 1_000_000
        with immediate(self._db):
            execute = self._db.conn.execute
            execute(
                "UPDATE sources SET cursor = NULL, complete_to_ms = NULL, problem = NULL"
                " WHERE name = ? AND made_ms <> ?",
                (name, made_ms),
            )
            execute(
                "INSERT INTO sources (name, live, updated_ms, prefix, made_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET live = excluded.live, ended = 0, prefix = excluded.prefix,"
                " made_ms = excluded.made_ms",
                (name, live, now_ms, prefix, made_ms),
            )
        row = self._db.conn.execute("SELECT cursor FROM sources WHERE name = ?", (name,)).fetchone()
        return None if row[0] is None else str(row[0])

    def end_source(self, name: str) -> None:
        """Mark that this source has no more to give, so that its last bars can close."""
        with self._db.atomic():
            self._db.conn.execute("UPDATE sources SET ended = 1 WHERE name = ?", (name,))

    def end_other_sources(self, names: Collection[str]) -> None:
        """Mark every source but these as ended: what no longer delivers must not keep bars from closing."""
        for source in self.sources():
            if source.name not in names and not source.ended:
                self.end_source(source.name)

    def report_problem(self, name: str, problem: str) -> None:
        """Note why this source delivers nothing; the next batch clears it."""
        with self._db.atomic():
            self._db.conn.execute("UPDATE sources SET problem = ? WHERE name = ?", (problem, name))

    def sources(self) -> tuple[Source, ...]:
        """Return every source that ever wrote here."""
        rows = self._db.conn.execute(
            "SELECT name, cursor, live, complete_to_ms, ended, read, accepted, rejected, problem, updated_ms, prefix,"
            " made_ms, arrived_ms, newest_ns, reused_ids FROM sources ORDER BY name"
        )
        return tuple(Source(n, c, bool(live), t, bool(ended), *rest) for n, c, live, t, ended, *rest in rows)

    def id(self) -> str:
        """Return what tells this log from any other."""
        return str(self._db.conn.execute("SELECT id FROM log").fetchone()[0])

    def end_sequence(self) -> int:
        """Return the sequence the next tick will get."""
        return int(self._db.conn.execute("SELECT next_sequence FROM log").fetchone()[0])

    def begin_epoch(self, at_least: int = 1) -> None:
        """Begin to write, in an epoch that no other state of this log has; the next tick gets at least this sequence.

        at_least: beyond what was ever made of this log, also of a part that a restored backup does not hold.
        """
        with immediate(self._db):
            begin = (self.end_sequence(), secrets.token_hex(8))
            self._db.conn.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?)", begin)
            self._db.conn.execute("UPDATE log SET next_sequence = max(next_sequence, ?)", (at_least,))

    def epoch_before(self, sequence: int) -> str | None:
        """Return the epoch of the tick before this sequence; None at the beginning and beyond the end of the log."""
        if sequence > self.end_sequence():
            return None
        query = "SELECT id FROM epochs WHERE first_sequence < ? ORDER BY first_sequence DESC LIMIT 1"
        row = self._db.conn.execute(query, (sequence,)).fetchone()
        return None if row is None else str(row[0])

    def trusted_ms(self) -> int | None:
        """Return the time to judge ages by (see feed/upkeep.py); None before the first upkeep."""
        row = self._db.conn.execute("SELECT trusted_ms FROM log").fetchone()
        return None if row[0] is None else int(row[0])

    def dropped_to_ns(self) -> int | None:
        """Return the newest time stamp that retention has dropped, or None if the log is whole."""
        row = self._db.conn.execute("SELECT dropped_to_ns FROM log").fetchone()
        return None if row[0] is None else int(row[0])

    def read_from(self, sequence: int, max_rows: int) -> Backlog:
        """Read the next ticks from `sequence` on, about `max_rows` at most, all of one source.

        Ticks, sources and end of the log are as of one moment. Damaged blocks are passed over.
        """
        conn = self._db.conn
        conn.execute("BEGIN")
        try:
            end, sources = self.end_sequence(), self.sources()
            source, first, parts, rows, damaged_to_ns = None, sequence, list[pl.DataFrame](), 0, None
            # The block that holds `sequence` may start before it: compaction joins blocks under a reader's feet.
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
            # Where nothing is left, what is missing up to the end has been dropped, or was never written.
            first = first if parts else max(sequence, end)
            epoch = self.epoch_before(first + rows)
        finally:
            conn.execute("ROLLBACK")  # nothing was written, and after damaged pages COMMIT reports the damage once more
        self._put_aside()
        return Backlog(first, pl.concat(parts) if parts else None, source, sources, end, epoch, damaged_to_ns)

    def _ticks_of(self, block: int) -> pl.DataFrame | None:
        """Return the ticks of a block, given by its first sequence; None where it is damaged, which is remembered."""
        try:
            return damage.read_block(self._db, block)
        except damage.DamagedBlockError as error:
            self._damaged[block] = str(error)
            return None

    def _put_aside(self) -> None:
        """Put aside what was found to be damaged, now that nothing is being read."""
        if self._damaged:
            found, self._damaged = self._damaged, {}
            damage.put_aside(self._db, found)

    def _each(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (first sequence, ticks) of the blocks whose first sequences a query gives, without damaged ones.

        All is as of one moment, so compaction and retention take nothing away meanwhile.
        """
        conn = self._db.conn
        alone = not conn.in_transaction
        if alone:
            conn.execute("BEGIN")
        try:
            for (first,) in conn.execute(query, values).fetchall():
                if (ticks := self._ticks_of(first)) is not None:
                    yield first, ticks
        finally:
            if alone:
                conn.execute("ROLLBACK")
        self._put_aside()

    def blocks(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield (first sequence, ticks) of every block that is not damaged, in order."""
        return self._each("SELECT first_sequence FROM blocks ORDER BY first_sequence")

    def newest(self, max_rows: int) -> pl.DataFrame:
        """Return the newest ticks, `max_rows` or a block more, in the order they came."""
        blocks, rows = list[pl.DataFrame](), 0
        for _, ticks in self._each("SELECT first_sequence FROM blocks ORDER BY first_sequence DESC"):
            blocks.append(ticks)
            rows += blocks[-1].height
            if rows >= max_rows:
                break
        return pl.concat(reversed(blocks)) if blocks else pl.DataFrame(schema=TICK_SCHEMA)

    def newest_time_ns(self, source: str | None = None) -> int | None:
        """Return the newest time stamp in the log, or of what is filed under one source, or None if there is none."""
        query = "SELECT max(max_time_ns) FROM blocks WHERE source = coalesce(?, source)"
        row = self._db.conn.execute(query, (source,)).fetchone()
        return None if row[0] is None else int(row[0])

    def arrived_ms(self) -> int:
        """Return when the last ticks came; 0 where there are none."""
        row = self._db.conn.execute("SELECT received_ms FROM blocks ORDER BY first_sequence DESC LIMIT 1").fetchone()
        return 0 if row is None else int(row[0])

    def recent(self, from_ns: int, source: str | None = None) -> Iterator[pl.DataFrame]:
        """Yield the ticks of every block, or every one of a source, that may hold a time from `from_ns` on."""
        query = (
            "SELECT first_sequence FROM blocks WHERE max_time_ns >= ? AND source = coalesce(?, source)"
            " ORDER BY first_sequence"
        )
        return (ticks for _, ticks in self._each(query, (from_ns, source)))

    def rejects(self) -> pl.DataFrame:
        """Return the kept rejects, oldest first: source, rejected_ms and REJECT_SCHEMA."""
        names = ("source", "rejected_ms", *REJECT_SCHEMA)
        rows = self._db.conn.execute(f"SELECT {', '.join(names)} FROM rejects ORDER BY number").fetchall()
        return pl.DataFrame(rows, {"source": pl.String(), "rejected_ms": pl.Int64(), **REJECT_SCHEMA}, orient="row")

    def rejects_by_reason(self) -> dict[str, int]:
        """Return how many rows were ever refused at the door, by reason."""
        return dict(self._db.conn.execute("SELECT reason, sum(count) FROM rejects_by_reason GROUP BY 1 ORDER BY 1"))

    def _add_rejects(self, source: str, rejects: pl.DataFrame, now_ms: int) -> None:
        names = ", ".join(REJECT_SCHEMA)
        marks = ", ".join("?" * (len(REJECT_SCHEMA) + 2))
        rows = ((source, now_ms, *row) for row in rejects.iter_rows())
        cursor = self._db.conn.executemany(f"INSERT INTO rejects (source, rejected_ms, {names}) VALUES ({marks})", rows)
        self._db.conn.executemany(
            "INSERT INTO rejects_by_reason VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            [(source, reason, count) for reason, count in rejects.group_by("reason").len().iter_rows()],
        )
        cursor.execute("DELETE FROM rejects WHERE number <= (SELECT max(number) FROM rejects) - ?", (MAX_REJECTS_KEPT,))
