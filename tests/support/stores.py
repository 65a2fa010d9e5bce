"""Small real stores for pages to read: a tick log, and the bars that its ticks make."""

import time
from collections.abc import Sequence
from contextlib import closing

import polars as pl

from barmill.model.frames import Frame, parse_frame, parse_frames
from barmill.model.recompute import bars as recomputed
from barmill.model.tick import REJECT_SCHEMA, TICK_SCHEMA
from barmill.platform.clock import NS_PER_MS
from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_for_writing
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.tick_log import TickLog

FRAMES = tuple(map(parse_frame, ("1s", "1m", "1h")))

Trade = tuple[int, str, float, float | None]  # ms, instrument, price, volume


class Stores:
    """The writing side of a home: ticks in, bars out at once."""

    def __init__(
        self,
        home: Home,
        source: str = "market",
        *,
        live: bool = True,
        job: str = "bars",
        frames: Sequence[Frame] = FRAMES,
    ) -> None:
        self._home = home
        self._log = TickLog.open(home.ticks_db, durable=False)
        self._bars = BarStore.open(home.bars_db, durable=False)
        self._source, self._job, self._frames = source, job, frames
        self._ticks = pl.DataFrame(schema={**TICK_SCHEMA, "sequence": pl.Int64()})
        self._log.start_source(source, live=live)

    def write(self, trades: Sequence[Trade], *, closed_to_ms: int) -> None:
        """Log these trades, and publish the bars they change: closed where they end by `closed_to_ms`, else forming."""
        first = self._log.end_sequence()
        ticks = pl.DataFrame(
            {
                "time_ns": [ms * NS_PER_MS for ms, *_ in trades],
                "instrument": [name for _, name, *_ in trades],
                "price_open": [price for _, _, price, _ in trades],
                "price_close": [price for _, _, price, _ in trades],
                "volume": [volume for *_, volume in trades],
                "id": None,
                "line": None,
                "id_text": None,
            },
            schema=TICK_SCHEMA,
        )
        none_refused = pl.DataFrame(schema=REJECT_SCHEMA)
        end = self._log.append(
            self._source, ticks, none_refused, read=ticks.height, cursor="", complete_to_ms=closed_to_ms
        )
        numbered = ticks.with_columns(sequence=pl.int_range(first, end, dtype=pl.Int64))
        self._ticks = pl.concat([self._ticks, numbered], rechunk=True)
        changed = (
            [self._changed(frame, min(ticks["time_ns"]), closed_to_ms) for frame in self._frames]
            if ticks.height
            else []
        )
        self._bars.publish(
            self._progress(self._job, self._frames, closed_to_ms), pl.concat(changed) if changed else None
        )

    def make_once(self, job: str, frames: str, *, closed_to_ms: int) -> None:
        """Publish the bars that another job makes of all ticks so far, and let it stop there."""
        made = parse_frames(frames)
        bars = pl.concat(self._changed(frame, 0, closed_to_ms) for frame in made)
        self._bars.publish(self._progress(job, made, closed_to_ms), bars)

    def stay_heard(self) -> None:
        """Let feed and job be heard of for an hour to come, and the feed be complete, however slow the machine is."""
        for path, table, columns in (
            (self._home.ticks_db, "sources", ("updated_ms", "complete_to_ms")),
            (self._home.bars_db, "progress", ("updated_ms",)),
        ):
            later = ", ".join(f"{column} = {column} + 3600000" for column in columns)
            with closing(open_for_writing(path).conn) as connection, connection:
                connection.execute(f"UPDATE {table} SET {later}")

    def close(self) -> None:
        """Give the files back."""
        self._log.close()
        self._bars.close()

    def _changed(self, frame: Frame, oldest_ns: int, closed_to_ms: int) -> pl.DataFrame:
        length_ns = frame.length_ms * NS_PER_MS
        from_ns = oldest_ns // length_ns * length_ns
        closed = pl.when(pl.col("end_ms") <= closed_to_ms).then(pl.lit("closed")).otherwise(pl.lit("forming"))
        return recomputed(self._ticks.filter(pl.col("time_ns") >= from_ns), frame).with_columns(state=closed)

    def _progress(self, job: str, frames: Sequence[Frame], updated_ms: int) -> Progress:
        newest_ns = self._ticks.select(pl.max("time_ns")).item()
        return Progress(
            job=job,
            shard=0,
            frames=",".join(frame.text for frame in frames),
            lateness_ms=300_000,
            shards=1,
            next_sequence=self._log.end_sequence(),
            read=self._log.end_sequence() - 1,
            late=0,
            forming=0,
            held=0,
            newest_tick_ms=None if newest_ns is None else newest_ns // NS_PER_MS,
            final=False,
            updated_ms=updated_ms,
        )


def fill(home: Home, *, source: str = "market", now_ms: int | None = None, stay_heard: bool = False) -> int:
    """Write two instruments' bars of the last seconds and return the time taken for now."""
    now_ms = now_ms or time.time_ns() // 1_000_000
    stores = Stores(home, source)
    trades = [(now_ms - 4_000 + 100 * i, "AAA/USD", 10 + i / 4, 2.0) for i in range(40)]
    stores.write([*trades, (now_ms - 1_500, "BBB", 7.125, None)], closed_to_ms=now_ms)
    if stay_heard:
        stores.stay_heard()
    stores.close()
    return now_ms
