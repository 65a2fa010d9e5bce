"""One message of the topic `ticks`: some ticks of one shard, and how the tick log stood when they were read.

    Arrow IPC stream (feed/block.py, with a column `sequence`) | JSON, UTF-8 | length of the JSON, 4 bytes, big-endian

The ticks come first because readers of Arrow stop at the end of its stream: any of them can open a message as it is.

    v               1
    first_sequence  where in the log the batch begins that these ticks are a part of
    next_sequence   up to where the log is told to this shard with this message, this sequence itself not included
    end_sequence    where the log ended when the batch was read
    source          whose ticks these are, or null without ticks
    sources         every source of the log: name, live, complete_to_ms, ended, prefix (see feed/ticklog.py)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson
import polars as pl

from feed.block import decode_block, encode_block
from feed.tick import TICK_SCHEMA

VERSION = 1
SEQUENCED_SCHEMA: dict[str, pl.DataType] = {**TICK_SCHEMA, "sequence": pl.Int64()}
NO_TICKS = pl.DataFrame(schema=SEQUENCED_SCHEMA)
_LENGTH_BYTES = 4


class MessageError(ValueError):
    """These bytes are no message of the topic `ticks`, or one of a later Barmill."""


@dataclass(frozen=True)
class SourceState:
    """How far a source says that it is complete, as the tick log had it."""

    name: str
    live: bool
    complete_to_ms: int | None
    ended: bool
    prefix: str = ""


@dataclass(frozen=True)
class TickMessage:
    """A message; ticks has SEQUENCED_SCHEMA, in the order of the log, and may be empty."""

    ticks: pl.DataFrame
    first_sequence: int
    next_sequence: int
    end_sequence: int
    source: str | None
    sources: Sequence[SourceState]

    @property
    def caught_up(self) -> bool:
        """Tell whether nothing was left in the log behind this message."""
        return self.next_sequence >= self.end_sequence


def encode(message: TickMessage) -> bytes:
    """Pack a message into the value to produce."""
    about = {
        "v": VERSION,
        "first_sequence": message.first_sequence,
        "next_sequence": message.next_sequence,
        "end_sequence": message.end_sequence,
        "source": message.source,
        "sources": [asdict(source) for source in message.sources],
    }
    text = orjson.dumps(about)
    return encode_block(message.ticks) + text + len(text).to_bytes(_LENGTH_BYTES, "big")


def decode(value: bytes) -> TickMessage:
    """Unpack a value; raise MessageError where it is not one of ours."""
    end = len(value) - _LENGTH_BYTES
    start = end - int.from_bytes(value[end:], "big")
    if start <= 0:
        raise MessageError("A message in the topic of ticks is cut off or was put there by another program.")
    try:
        about = orjson.loads(value[start:end])
        if about["v"] != VERSION:
            raise MessageError(f"A message in the topic of ticks has version {about['v']}; update Barmill to read it.")
        return TickMessage(
            decode_block(value[:start], SEQUENCED_SCHEMA),
            about["first_sequence"],
            about["next_sequence"],
            about["end_sequence"],
            about["source"],
            tuple(SourceState(**source) for source in about["sources"]),
        )
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        if isinstance(error, MessageError):
            raise
        raise MessageError("A message in the topic of ticks was put there by another program.") from error
