"""Messages on Kafka: ticks from the shipper, and bars from jobs. docs/how-to/kafka.md describes them for readers.

    topic     key                           value: "v" (VERSION) and "job", then
    bars      instrument, frame, start_ms   BAR_SCHEMA
    rejects   job, shard                    "shard", "source", "rejected_ms" and REJECT_SCHEMA; or "shard", "anew_from":
                                            the shard reads the log again from there, so delete its rejects from there
    progress  job, shard                    the other fields of Progress

A later message replaces an earlier one with the same key, except for rejects, which are all kept.

A message in the topic of ticks has three parts:

    Arrow IPC stream (tick_damage.py, with a column `sequence`) | JSON, UTF-8 | length of the JSON, 4 bytes, big-endian

The ticks come first because Arrow readers stop at the end of the stream: any of them can open a message as it is. The
JSON has these fields:

    v               1
    first_sequence  the first sequence of the batch that these ticks are part of
    next_sequence   the sequence up to which this shard has the log after this message, exclusive
    end_sequence    where the log ended when the batch was read
    source          the source of the ticks, or null without ticks
    sources         every source of the log: name, live, complete_to_ms, ended, prefix (see barmill/storage/tick_log.py)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import orjson
import polars as pl

from barmill.model.bar import BAR_KEY, BAR_SCHEMA
from barmill.model.tick import REJECT_SCHEMA, TICK_SCHEMA
from barmill.storage.bar_store import Progress
from barmill.storage.tick_damage import decode_block, encode_block

SEQUENCED_SCHEMA: dict[str, pl.DataType] = {**TICK_SCHEMA, "sequence": pl.Int64()}
NO_TICKS = pl.DataFrame(schema=SEQUENCED_SCHEMA)
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class SourceState:
    """The time up to which a source is complete, as recorded in the tick log."""

    name: str
    live: bool
    complete_to_ms: int | None
    ended: bool
    prefix: str = ""


@dataclass(frozen=True)
class TickMessage:
    """A message in the topic of ticks, see above. ticks has SEQUENCED_SCHEMA, in log order, and may be empty."""

    ticks: pl.DataFrame
    first_sequence: int
    next_sequence: int
    end_sequence: int
    source: str | None
    sources: Sequence[SourceState]

    @property
    def caught_up(self) -> bool:
        """Return whether no ticks were left in the log after this message."""
        return self.next_sequence >= self.end_sequence


def encode(message: TickMessage) -> bytes:
    """Encode a message as the value to produce."""
    header = {
        "v": VERSION,
        "first_sequence": message.first_sequence,
        "next_sequence": message.next_sequence,
        "end_sequence": message.end_sequence,
        "source": message.source,
        "sources": [asdict(source) for source in message.sources],
    }
    text = orjson.dumps(header)
    return encode_block(message.ticks) + text + len(text).to_bytes(_LENGTH_BYTES, "big")


def decode(value: bytes) -> TickMessage:
    """Decode a value. Raise MessageError if it is not a valid message."""
    end = len(value) - _LENGTH_BYTES
    start = end - int.from_bytes(value[end:], "big")
    if start <= 0:
        raise MessageError("A message in the topic of ticks is truncated or was written by another program.")
    try:
        header = orjson.loads(value[start:end])
        if header["v"] != VERSION:
            raise MessageError(f"A message in the topic of ticks has version {header['v']}; update Barmill to read it.")
        return TickMessage(
            decode_block(value[:start], SEQUENCED_SCHEMA),
            header["first_sequence"],
            header["next_sequence"],
            header["end_sequence"],
            header["source"],
            tuple(SourceState(**source) for source in header["sources"]),
        )
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        if isinstance(error, MessageError):
            raise
        raise MessageError("A message in the topic of ticks was written by another program.") from error


VERSION = 1
BARS, REJECTS, PROGRESS = "bars", "rejects", "progress"
_BAR_MESSAGE_SCHEMA = {"v": pl.Int64(), "job": pl.String(), **BAR_SCHEMA}
_REJECT_MESSAGE_SCHEMA = {
    "v": pl.Int64(),
    "job": pl.String(),
    "shard": pl.Int64(),
    "source": pl.String(),
    "rejected_ms": pl.Int64(),
    "anew_from": pl.Int64(),
    **REJECT_SCHEMA,
}
_PROGRESS_TYPES = {int: pl.Int64(), str: pl.String(), bool: pl.Boolean(), int | None: pl.Int64()}
_PROGRESS_MESSAGE_SCHEMA = {"v": pl.Int64(), **{field.name: _PROGRESS_TYPES[field.type] for field in fields(Progress)}}  # type: ignore[index]


class MessageError(ValueError):
    """A message is damaged, is not from Barmill, or is from a later version."""


@dataclass(frozen=True)
class RejectBatch:
    """Messages of the topic of rejects, between two restarts of reading.

    restart: the restart before them as (job, shard, sequence), or None.
    late: job, shard, source, rejected_ms and REJECT_SCHEMA.
    """

    restart: tuple[str, int, int] | None
    late: pl.DataFrame


def bar_messages(job: str, bars: pl.DataFrame) -> pl.DataFrame:
    """Return (key, value) of each bar (BAR_SCHEMA)."""
    return _messages(bars.with_columns(v=pl.lit(VERSION), job=pl.lit(job)), BAR_KEY, tuple(_BAR_MESSAGE_SCHEMA))


def reject_messages(job: str, shard: int, late: pl.DataFrame, rejected_ms: int) -> pl.DataFrame:
    """Return (key, value) of each tick that came too late (source and REJECT_SCHEMA)."""
    header = {"v": VERSION, "job": job, "shard": shard, "rejected_ms": rejected_ms}
    named = late.with_columns(pl.lit(value).alias(name) for name, value in header.items())
    return _messages(named, ("job", "shard"), tuple(name for name in _REJECT_MESSAGE_SCHEMA if name != "anew_from"))


def read_again_message(job: str, shard: int, read_again_from: int) -> pl.DataFrame:
    """Return (key, value) of the message about a shard that reads the log again from this sequence on."""
    row = pl.DataFrame({"v": VERSION, "job": job, "shard": shard, "anew_from": read_again_from})
    return _messages(row, ("job", "shard"), row.columns)


def progress_message(progress: Progress) -> pl.DataFrame:
    """Return (key, value) of a shard's progress."""
    row = pl.DataFrame({"v": VERSION, **asdict(progress)}, _PROGRESS_MESSAGE_SCHEMA)
    return _messages(row, ("job", "shard"), row.columns)


def read_bars(values: Sequence[bytes]) -> pl.DataFrame:
    """Return job and BAR_SCHEMA of messages from the topic of bars. Raise MessageError if one is not from Barmill."""
    return _read(values, _BAR_MESSAGE_SCHEMA).drop("v")


def read_progress(values: Sequence[bytes]) -> list[Progress]:
    """Decode messages from the topic of progress. Raise MessageError if one is not from Barmill."""
    # Version 0.1 did not record where a shard began.
    table = _read(values, _PROGRESS_MESSAGE_SCHEMA).drop("v").with_columns(pl.col("begun_sequence").fill_null(1))
    return [Progress(**row) for row in table.iter_rows(named=True)]


def read_rejects(values: Sequence[bytes]) -> list[RejectBatch]:
    """Decode messages from the topic of rejects, in order. Raise MessageError if one is not from Barmill."""
    table = _read(values, _REJECT_MESSAGE_SCHEMA).drop("v")
    table = table.with_columns(part=pl.col("anew_from").is_not_null().cum_sum())
    batches = []
    for _, part in table.group_by("part", maintain_order=True):
        first = part.row(0, named=True)
        restart = None if first["anew_from"] is None else (first["job"], first["shard"], first["anew_from"])
        batches.append(RejectBatch(restart, part.filter(pl.col("anew_from").is_null()).drop("anew_from", "part")))
    return batches


def _messages(table: pl.DataFrame, key: Sequence[str], value: Sequence[str]) -> pl.DataFrame:
    return table.select(
        pl.struct(*key).struct.json_encode().alias("key"), pl.struct(*value).struct.json_encode().alias("value")
    )


def _read(values: Sequence[bytes], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    try:
        table = pl.read_ndjson(b"\n".join(values), schema=schema)
    except pl.exceptions.PolarsError as error:
        raise MessageError("A message in a Barmill topic was written by another program.") from error
    if table.height != len(values) or not table["v"].eq_missing(VERSION).all():
        raise MessageError(
            "A message in a Barmill topic was written by another program or a later version; update Barmill to read it."
        )
    return table
