"""What one poll of a shard publishes, packed for its way from the fold to the sink."""

import io
from dataclasses import asdict, dataclass

import orjson
import polars as pl

from bar.fold import finish
from bar.model import BAR_VALUES, BarState
from bar.store import Progress
from feed.tick import REJECT_SCHEMA, rejects_of_ticks


@dataclass(frozen=True)
class Publication:
    """bars: BAR_VALUES and state; late: source and REJECT_SCHEMA; progress: where the shard stands after them.

    bars and late are None where there is none, which is what most polls of a quiet market find. anew_from: the shard
    has begun to read the log from this sequence on, whatever it did before; reason: a sentence that says why, if it had
    a state that it could not go on from.
    """

    progress: Progress
    bars: pl.DataFrame | None
    late: pl.DataFrame | None
    anew_from: int | None = None
    reason: str = ""

    def pack(self) -> bytes:
        """Return the publication as bytes: a line of JSON, then the Arrow streams of bars and late."""
        bars, late = (b"" if table is None else to_bytes(table) for table in (self.bars, self.late))
        about = {"progress": asdict(self.progress), "anew_from": self.anew_from, "reason": self.reason}
        return b"\n".join([orjson.dumps({**about, "bars": len(bars)}), bars + late])

    @staticmethod
    def unpack(data: bytes) -> "Publication":
        """Undo `pack`."""
        line, _, tables = data.partition(b"\n")
        about = orjson.loads(line)
        middle = about["bars"]
        bars, late = (from_bytes(part) if part else None for part in (tables[:middle], tables[middle:]))
        return Publication(Progress(**about["progress"]), bars, late, about["anew_from"], about["reason"])


def published_bars(partials: pl.DataFrame | None) -> pl.DataFrame | None:
    """Turn merged partials with `closed` into rows for the store."""
    if partials is None or not partials.height:
        return None
    state = pl.when(partials["closed"]).then(pl.lit(BarState.CLOSED.value)).otherwise(pl.lit(BarState.FORMING.value))
    return finish(partials).select(*BAR_VALUES, state.alias("state"))


def published_late(late: pl.DataFrame | None, source: str | None) -> pl.DataFrame | None:
    """Turn late ticks into rows for the store."""
    if late is None:
        return None
    return rejects_of_ticks(late, "too_late").select(pl.lit(source, pl.String).alias("source"), *REJECT_SCHEMA)


def to_bytes(frame: pl.DataFrame) -> bytes:
    """Pack a data frame."""
    buffer = io.BytesIO()
    frame.rechunk().write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def from_bytes(data: bytes) -> pl.DataFrame:
    """Undo `to_bytes`."""
    return pl.read_ipc_stream(io.BytesIO(data))
