"""The messages that a job publishes to Kafka: JSON, made and read many at a time. docs/kafka.md is for other readers.

    topic     key                           value: "v" (VERSION) and "job", then
    bars      instrument, frame, start_ms   BAR_SCHEMA
    rejects   job, shard                    "shard", "source", "rejected_ms" and REJECT_SCHEMA; or "shard", "anew_from":
                                            the shard reads the log again from there on, so forget what it refused since
    progress  job, shard                    the other fields of Progress

Of one key, later messages take the place of earlier ones; only rejects are all of them kept.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import polars as pl

from bar.model import BAR_KEY, BAR_SCHEMA
from bar.store import Progress
from feed.tick import REJECT_SCHEMA

VERSION = 1
BARS, REJECTS, PROGRESS = "bars", "rejects", "progress"
_BAR = {"v": pl.Int64(), "job": pl.String(), **BAR_SCHEMA}
_REJECT = {
    "v": pl.Int64(),
    "job": pl.String(),
    "shard": pl.Int64(),
    "source": pl.String(),
    "rejected_ms": pl.Int64(),
    "anew_from": pl.Int64(),
    **REJECT_SCHEMA,
}
_PROGRESS_TYPES = {int: pl.Int64(), str: pl.String(), bool: pl.Boolean(), int | None: pl.Int64()}
_PROGRESS = {"v": pl.Int64(), **{field.name: _PROGRESS_TYPES[field.type] for field in fields(Progress)}}  # type: ignore[index]


class MessageError(ValueError):
    """A message is not one of ours, or one of a later Barmill."""


@dataclass(frozen=True)
class Refusals:
    """Messages of the topic of rejects, between two new beginnings.

    anew: (job, shard, sequence) of the new beginnings in front of them. late: job, shard, source, rejected_ms and
    REJECT_SCHEMA.
    """

    anew: tuple[str, int, int] | None
    late: pl.DataFrame


def bar_messages(job: str, bars: pl.DataFrame) -> pl.DataFrame:
    """Return (key, value) of each bar (BAR_SCHEMA)."""
    return _messages(bars.with_columns(v=pl.lit(VERSION), job=pl.lit(job)), BAR_KEY, tuple(_BAR))


def reject_messages(job: str, shard: int, late: pl.DataFrame, rejected_ms: int) -> pl.DataFrame:
    """Return (key, value) of each tick that came too late (source and REJECT_SCHEMA)."""
    about = {"v": VERSION, "job": job, "shard": shard, "rejected_ms": rejected_ms}
    named = late.with_columns(pl.lit(value).alias(name) for name, value in about.items())
    return _messages(named, ("job", "shard"), tuple(name for name in _REJECT if name != "anew_from"))


def anew_message(job: str, shard: int, anew_from: int) -> pl.DataFrame:
    """Return (key, value) of the word that a shard reads the log again."""
    row = pl.DataFrame({"v": VERSION, "job": job, "shard": shard, "anew_from": anew_from})
    return _messages(row, ("job", "shard"), row.columns)


def progress_message(progress: Progress) -> pl.DataFrame:
    """Return (key, value) of how far a shard is."""
    row = pl.DataFrame({"v": VERSION, **asdict(progress)}, _PROGRESS)
    return _messages(row, ("job", "shard"), row.columns)


def read_bars(values: Sequence[bytes]) -> pl.DataFrame:
    """Return job and BAR_SCHEMA of messages of the topic of bars; raise MessageError where one is not of ours."""
    return _read(values, _BAR).drop("v")


def read_progress(values: Sequence[bytes]) -> list[Progress]:
    """Return what messages of the topic of progress say; raise MessageError where one is not of ours."""
    # Version 0.1 did not say where a shard began.
    table = _read(values, _PROGRESS).drop("v").with_columns(pl.col("begun_sequence").fill_null(1))
    return [Progress(**row) for row in table.iter_rows(named=True)]


def read_rejects(values: Sequence[bytes]) -> list[Refusals]:
    """Return what messages of the topic of rejects say, in their order; raise MessageError where one is not of ours."""
    table = _read(values, _REJECT).drop("v")
    table = table.with_columns(part=pl.col("anew_from").is_not_null().cum_sum())
    found = []
    for _, part in table.group_by("part", maintain_order=True):
        first = part.row(0, named=True)
        anew = None if first["anew_from"] is None else (first["job"], first["shard"], first["anew_from"])
        found.append(Refusals(anew, part.filter(pl.col("anew_from").is_null()).drop("anew_from", "part")))
    return found


def _messages(table: pl.DataFrame, key: Sequence[str], value: Sequence[str]) -> pl.DataFrame:
    return table.select(
        pl.struct(*key).struct.json_encode().alias("key"), pl.struct(*value).struct.json_encode().alias("value")
    )


def _read(values: Sequence[bytes], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    try:
        table = pl.read_ndjson(b"\n".join(values), schema=schema)
    except pl.exceptions.PolarsError as error:
        raise MessageError("A message was put into a topic of Barmill's by another program.") from error
    if table.height != len(values) or not table["v"].eq_missing(VERSION).all():
        raise MessageError("A message was put there by another program or a later Barmill; update Barmill to read it.")
    return table
