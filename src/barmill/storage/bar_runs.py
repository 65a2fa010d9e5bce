"""The bars of a replay as sorted runs: compressed columns of many series at once, at a fraction of the cost of rows.

bar_runs   one row per run: the shard and the publication that it is part of, its frame, instrument and start of its
           first bar, how many bars and ticks it holds, and its bars as an Arrow stream, by instrument and start

A replay publishes each bar once, when nothing can change it any more, and its bars are then read once, all in order.
So its store has no rows of bars, and only `BarReader.all_bars` and `BarReader.totals` find its bars.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple, Self

import polars as pl

from barmill.model.bar import BAR_KEY, BAR_SCHEMA
from barmill.model.progress import Progress
from barmill.platform.sqlite_file import Database
from barmill.storage.bar_blocks import snapshot
from barmill.storage.bar_store import BarStore

# Readers hold one run of each publication in memory; smaller runs take more time for each bar.
_RUN_BARS = 16_384
# About 500 MB.
_IN_MEMORY_BARS = 2_000_000


class ReplayStore(BarStore):
    """The store of a replay, opened for writing."""

    @classmethod
    def create(cls, path: Path) -> Self:
        """Open the file for writing; create it if it is missing. A replay does not resume after a power failure."""
        store = cls.open(path, durable=False, keep_all_late=True)
        store.db.execute(
            "CREATE TABLE IF NOT EXISTS bar_runs (number INTEGER PRIMARY KEY, shard INTEGER NOT NULL,"
            " publication INTEGER NOT NULL, frame TEXT NOT NULL, instrument TEXT NOT NULL, start_ms INTEGER NOT NULL,"
            " bars INTEGER NOT NULL, ticks INTEGER NOT NULL, data BLOB NOT NULL)"
        )
        return store

    def write_published(self, progress: Progress, bars: pl.DataFrame | None, at_ms: int, number: int) -> None:
        """Write bars (BAR_VALUES and state) in the caller's transaction, as publication `number` of the shard.

        This replaces the shard's publications from this number on.

        A shard that continues from a checkpoint repeats what it had published since then.
        """
        self.db.conn.execute("DELETE FROM bar_runs WHERE shard = ? AND publication >= ?", (progress.shard, number))
        if bars is None:
            return
        complete = bars.with_columns(revision=pl.lit(0, pl.Int64), changed_ms=pl.lit(at_ms, pl.Int64))
        for of_frame in complete.select(BAR_SCHEMA.keys()).partition_by("frame"):
            in_order = _in_key_order(of_frame)
            for run in in_order.iter_slices(_RUN_BARS):
                first = run.select("frame", "instrument", "start_ms").row(0)
                self.db.conn.execute(
                    "INSERT INTO bar_runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (progress.shard, number, *first, run.height, run["ticks"].sum(), _encoded(run)),
                )


def has_runs(db: Database) -> bool:
    """Return whether this is the store of a replay."""
    return db.table("bar_runs").exists()


def totals(db: Database) -> dict[str, tuple[int, int]]:
    """Return (bars, ticks in them) by frame."""
    rows = db.conn.execute("SELECT frame, sum(bars), sum(ticks) FROM bar_runs GROUP BY frame")
    return {frame: (bars, ticks) for frame, bars, ticks in rows}


def all_bars(db: Database, chunk_bars: int) -> Iterator[pl.DataFrame]:
    """Yield all bars (BAR_SCHEMA) by instrument, frame and start, in chunks. An empty store yields one empty chunk.

    Memory use is bounded for any number of bars: runs that do not fit are first merged into longer ones, in a temporary
    file next to the store.
    """
    path = Path(db.conn.execute("PRAGMA database_list").fetchone()[2])
    with snapshot(db), TemporaryFile(dir=path.parent) as file:
        rows = db.conn.execute("SELECT number, instrument, frame, start_ms, bars FROM bar_runs ORDER BY number")
        runs = [_Run((*key,), bars, partial(_stored_run, db, number)) for number, *key, bars in rows.fetchall()]
        # Publications span all series, so one run of each is in memory at a time.
        groups = _grouped(runs)
        yield from _merged(runs if len(groups) == 1 else [*_longer_runs(groups, file)], chunk_bars)


class _Run(NamedTuple):
    """A sorted run: the key of its first bar, the number of its bars, and how to read these."""

    first: tuple[str, str, int]
    bars: int
    read: Callable[[], pl.DataFrame]


def _stored_run(db: Database, number: int) -> pl.DataFrame:
    [data] = db.conn.execute("SELECT data FROM bar_runs WHERE number = ?", (number,)).fetchone()
    return _decoded(data)


def _grouped(runs: Sequence[_Run]) -> list[list[_Run]]:
    """Return the runs in groups that fit into memory, in the order of their publication."""
    groups, bars = [list[_Run]()], 0
    for run in runs:
        if bars and bars + run.bars > _IN_MEMORY_BARS:
            groups.append([])
            bars = 0
        groups[-1].append(run)
        bars += run.bars
    return groups


def _longer_runs(groups: Sequence[Sequence[_Run]], file: IO[bytes]) -> Iterator[_Run]:
    """Write the bars of each group in order to a file, in parts of _RUN_BARS, and yield these parts."""

    def read(offset: int, size: int) -> pl.DataFrame:
        file.seek(offset)
        return _decoded(file.read(size))

    for group in groups:
        for part in _in_key_order(pl.concat(run.read() for run in group)).iter_slices(_RUN_BARS):
            offset = file.seek(0, io.SEEK_END)
            size = file.write(_encoded(part))
            yield _Run(part.select(BAR_KEY).row(0), part.height, partial(read, offset, size))


def _merged(runs: Sequence[_Run], chunk_bars: int) -> Iterator[pl.DataFrame]:
    waiting, least_bars = pl.DataFrame(schema=BAR_SCHEMA), 0
    for run, following in pairwise([*sorted(runs, key=_first), None]):
        assert run is not None
        waiting = pl.concat([waiting, run.read()])
        if following is not None and waiting.height >= least_bars:
            # No later run has a bar before the first one of the following run.
            is_complete = _is_before(following.first)
            complete, waiting = waiting.filter(is_complete), waiting.filter(~is_complete)
            least_bars = 2 * waiting.height + chunk_bars
            if complete.height:
                yield _in_key_order(complete)
    if waiting.height or not runs:
        yield _in_key_order(waiting)


def _first(run: _Run) -> tuple[str, str, int]:
    return run.first


def _is_before(key: tuple[str, str, int]) -> pl.Expr:
    """Return whether a bar comes before this key."""
    instrument, frame, start_ms = key
    same, name = pl.col("instrument") == instrument, pl.col("frame")
    return (pl.col("instrument") < instrument) | (
        same & ((name < frame) | ((name == frame) & (pl.col("start_ms") < start_ms)))
    )


def _in_key_order(bars: pl.DataFrame) -> pl.DataFrame:
    """Sort bars by their key. Sorting numbers in the order of the names takes a third less time than the names."""
    bars = bars.rechunk()  # taking rows out of many chunks takes up to ten times as long
    instruments = pl.Enum(bars["instrument"].unique().sort())
    order = bars.select(pl.col("instrument").cast(instruments).to_physical(), *BAR_KEY[1:])
    return bars[order.select(pl.arg_sort_by(BAR_KEY)).to_series()]


def _encoded(bars: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    bars.rechunk().write_ipc_stream(stream, compression="lz4")
    return stream.getvalue()


def _decoded(data: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(data))
