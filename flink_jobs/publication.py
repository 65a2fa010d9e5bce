"""The result of one poll of a shard, and its encoding on the way to the sink.

The bar store sets state and revision when it writes, because it contains the versions that readers have seen. A topic
cannot, so the published versions are stored with the open bars, in the same checkpoint: publications after a crash
continue from what was committed.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson
import polars as pl

from barmill.model.bar import BAR_SCHEMA, BarState
from barmill.model.fold import finish
from barmill.model.tick import REJECT_SCHEMA, rejects_of_ticks
from barmill.storage.bar_store import BarStore, Progress


@dataclass(frozen=True)
class Publication:
    """The bars, late ticks and progress of one poll.

    bars: BAR_VALUES and state; late: source and REJECT_SCHEMA; progress: the shard's progress after them. bars and late
    are None if there are none, as in most polls of a quiet market. read_again_from: in the first publication of a shard
    without an earlier state, the sequence from which it reads the log, so that the store deletes the late ticks that
    were recorded from there on; otherwise None. reason: why the shard could not continue from its state, as a sentence,
    or ''. number: the number of earlier publications of the shard.
    """

    progress: Progress
    bars: pl.DataFrame | None
    late: pl.DataFrame | None
    read_again_from: int | None = None
    reason: str = ""
    number: int = 0

    def write_to(self, store: BarStore) -> None:
        """Write the publication to a bar store, in one transaction."""
        store.publish(self.progress, self.bars, self.late, self.read_again_from, self.reason, self.number)

    def pack(self) -> bytes:
        """Return the publication as bytes: a line of JSON, then the Arrow streams of bars and late ticks."""
        bars, late = (b"" if table is None else to_bytes(table) for table in (self.bars, self.late))
        header = {
            "progress": asdict(self.progress),
            "read_again_from": self.read_again_from,
            "reason": self.reason,
            "number": self.number,
        }
        return b"\n".join([orjson.dumps({**header, "bars": len(bars)}), bars + late])

    @staticmethod
    def unpack(data: bytes) -> "Publication":
        """Return the publication that `pack` wrote."""
        line, _, tables = data.partition(b"\n")
        header = orjson.loads(line)
        bars_end = header["bars"]
        bars, late = (from_bytes(part) if part else None for part in (tables[:bars_end], tables[bars_end:]))
        return Publication(
            Progress(**header["progress"]), bars, late, header["read_again_from"], header["reason"], header["number"]
        )


def published_bars(partials: pl.DataFrame | None) -> pl.DataFrame | None:
    """Return merged partials with `closed` as rows to publish (BAR_VALUES and state), or None if there are none."""
    if partials is None or not partials.height:
        return None
    state = pl.when("closed").then(pl.lit(BarState.CLOSED.value)).otherwise(pl.lit(BarState.FORMING.value))
    return finish(partials, state.alias("state"))


def published_late(late: pl.DataFrame | None, source: str | None) -> pl.DataFrame | None:
    """Return late ticks as rows to publish (source and REJECT_SCHEMA), or None if there are none."""
    if late is None:
        return None
    return rejects_of_ticks(late, "too_late").select(pl.lit(source, pl.String).alias("source"), *REJECT_SCHEMA)


def to_bytes(frame: pl.DataFrame) -> bytes:
    """Return a data frame as bytes."""
    buffer = io.BytesIO()
    frame.rechunk().write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """Return the data frame that `to_bytes` wrote."""
    return pl.read_ipc_stream(io.BytesIO(data))


_KEY = ["instrument", "frame_ms", "start_ms"]
PUBLISHED_SCHEMA: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "frame_ms": pl.Int64(),
    "start_ms": pl.Int64(),
    "ticks": pl.Int64(),
    "state": pl.String(),
    "revision": pl.Int64(),
}
_NO_VERSIONS = pl.DataFrame(schema=PUBLISHED_SCHEMA)
# Recent versions are merged to one row per bar when there are more than this plus twice the number after the last
# merge.
_RECENT_ROWS = 4_000


class PublishedVersions:
    """The published versions of one shard's bars."""

    def __init__(self) -> None:
        self._published = self._recent = _NO_VERSIONS
        self._recent_merged = 0

    @property
    def held(self) -> int:
        """Return the number of held versions."""
        return self._published.height + self._recent.height

    def restore(self, saved: Sequence[pl.DataFrame]) -> None:
        """Restore the stored versions (PUBLISHED_SCHEMA), oldest first."""
        self._published, self._recent, self._recent_merged = _newest(pl.concat([_NO_VERSIONS, *saved])), _NO_VERSIONS, 0

    def changed_bars(self, bars: pl.DataFrame, changed_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (the bars to publish, with BAR_SCHEMA; the versions to store for them, with PUBLISHED_SCHEMA).

        bars: BAR_VALUES and state, forming or closed, one row per bar. A version is published if it has more ticks than
        the previous one, or as many and closes the bar. A change after the bar closed is a revision.
        """
        previous = self._previous_versions(bars).rename(
            {"ticks": "published_ticks", "state": "published_state", "revision": "published_revision"}
        )
        was_open = pl.col("published_state") == BarState.FORMING.value
        is_new = pl.col("published_ticks").is_null()
        closes = was_open & (pl.col("state") == BarState.CLOSED.value) & (pl.col("ticks") == pl.col("published_ticks"))
        published = (
            bars.with_columns(frame_ms=pl.col("end_ms") - pl.col("start_ms"))
            .join(previous, on=_KEY, how="left", maintain_order="left")
            .filter(is_new | (pl.col("ticks") > pl.col("published_ticks")) | closes)
            .with_columns(
                state=pl.when(is_new | was_open).then("state").otherwise(pl.lit(BarState.REVISED.value)),
                revision=pl.col("published_revision").fill_null(0) + (~(is_new | was_open)).cast(pl.Int64).fill_null(0),
                changed_ms=pl.lit(changed_ms, pl.Int64),
            )
        )
        new_state = published.select(PUBLISHED_SCHEMA.keys())
        self._add(new_state)
        return published.select(BAR_SCHEMA.keys()), new_state

    def retain(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Keep only the versions of bars that these partials belong to, and return them (PUBLISHED_SCHEMA)."""
        published = _newest(pl.concat([self._published, self._recent])).join(partials, on=_KEY, how="semi")
        self._published, self._recent, self._recent_merged = published, _NO_VERSIONS, 0
        return published

    def _previous_versions(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Return the newest published version of every bar with the start of one of these bars."""
        same_start = pl.col("start_ms").is_in(sorted(set(bars["start_ms"].to_numpy().tolist())))
        return _newest(pl.concat([self._published.filter(same_start), self._recent.filter(same_start)]))

    def _add(self, published: pl.DataFrame) -> None:
        self._recent = pl.concat([self._recent, published])
        if self._recent.height > _RECENT_ROWS + 2 * self._recent_merged:
            self._recent = _newest(self._recent)
            self._recent_merged = self._recent.height


def _newest(published: pl.DataFrame) -> pl.DataFrame:
    return published.unique(_KEY, keep="last", maintain_order=True)
