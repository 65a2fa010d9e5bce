"""Parquet and Arrow files: columns of any type made plain, and the parts that can be read of a damaged file."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feed.files.errors import ReplayFileError

PARQUET_MAGIC, ARROW_MAGIC, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_BATCH_ROWS = 250_000
# What pyarrow raises on damaged data: its own exceptions, OSError among them, and ValueError for text that is none.
_DAMAGE = (pa.ArrowException, OSError, ValueError, EOFError)
_ERROR_CHARACTERS = 200
# Some 250,000 years, which is nearly as far as Polars can print moments.
_MOST_S = 8 * 10**12
_AS_THEY_ARE = (pa.types.is_integer, pa.types.is_float64, pa.types.is_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)


@dataclass(frozen=True)
class Part:
    """Some rows of a file, or how some of them cannot be read.

    first: number of the first row, from 1. count: how many rows there are, or should be. share: how much of the file
    has been read with it.
    """

    first: int
    count: int
    table: pl.DataFrame | None = None
    problem: str = ""
    share: float = 1.0


class Columnar:
    """An open Parquet or Arrow file. names: its columns; members of a struct are called like price.value."""

    def __init__(self, stream: BinaryIO, head: bytes, shown: str) -> None:
        """Raise ReplayFileError where the file does not even say which columns it has."""
        self._stream, self._shown = stream, shown
        try:
            if head.startswith(PARQUET_MAGIC):
                self._file: Any = pq.ParquetFile(stream, page_checksum_verification=True)
                self._schema, self._read = self._file.schema_arrow, self._parquet
            elif head.startswith(ARROW_MAGIC):
                self._open_arrow(stream)
            else:
                self._open_stream(stream)
        except _DAMAGE as error:
            kind = "Parquet" if head.startswith(PARQUET_MAGIC) else "Arrow"
            raise ReplayFileError(f"{shown} is not a whole {kind} file: {_one_line(error)}.") from error
        self.names = [name for field in self._schema for name in _leaves(field)]

    def parts(self, columns: Sequence[str]) -> Iterator[Part]:
        """Yield the file's rows with these columns, in order, and what cannot be read where it would have been."""
        yield from self._read(columns)

    def _open_arrow(self, stream: BinaryIO) -> None:
        try:
            self._file = pa.ipc.open_file(stream)
            self._read = self._arrow
        except _DAMAGE:  # its directory is at its end; without it, the file is a stream behind eight bytes
            stream.seek(8)
            self._open_stream(stream)
        self._schema = self._file.schema

    def _open_stream(self, stream: BinaryIO) -> None:
        self._file = pa.ipc.open_stream(stream)
        self._schema, self._read = self._file.schema, self._arrow_stream

    def _parquet(self, columns: Sequence[str]) -> Iterator[Part]:
        metadata, done = self._file.metadata, 0
        total = max(metadata.num_rows, 1)
        for group in range(metadata.num_row_groups):
            count, start = metadata.row_group(group).num_rows, done
            try:
                batches = self._file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=_tops(columns))
                for batch in batches:
                    table = self._plain(_valid(batch), columns)
                    yield Part(done + 1, table.height, table, "", (done + table.height) / total)
                    done += table.height
            except _DAMAGE as error:
                lost = start + count - done
                problem = f"row group {group + 1} of {metadata.num_row_groups} is damaged"
                yield Part(done + 1, lost, None, f"{problem} ({_one_line(error)})", (start + count) / total)
            done = start + count

    def _arrow(self, columns: Sequence[str]) -> Iterator[Part]:
        done, total = 0, max(self._file.num_record_batches, 1)
        for number in range(self._file.num_record_batches):
            share = (number + 1) / total
            try:
                table = self._plain(_valid(self._file.get_batch(number)), columns)
            except _DAMAGE as error:
                problem = f"record batch {number + 1} of {total} is damaged"
                yield Part(done + 1, 0, None, f"{problem} ({_one_line(error)})", share)
                continue
            yield Part(done + 1, table.height, table, "", share)
            done += table.height

    def _arrow_stream(self, columns: Sequence[str]) -> Iterator[Part]:
        done, number = 0, 0
        while True:
            number += 1
            try:
                table = self._plain(_valid(self._file.read_next_batch()), columns)
            except StopIteration:
                return
            except _DAMAGE as error:
                problem = f"the file ends or is damaged in record batch {number}"
                yield Part(done + 1, 0, None, f"{problem} ({_one_line(error)})")
                return
            yield Part(done + 1, table.height, table)
            done += table.height

    def _plain(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pl.DataFrame:
        table = pa.Table.from_batches([batch])
        while any(pa.types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
        found = {}
        for name in columns:
            column = table.column(name)
            try:
                found[name] = pl.Series(name, pl.from_arrow(_plain(column)))
            except pa.ArrowNotImplementedError as error:
                raise ReplayFileError(
                    f"{self._shown} has a column {name} of type {column.type}, which is no time, number or text;"
                    " name another one with --map, or convert it."
                ) from error
        return pl.DataFrame(found)


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose text is UTF-8: a value that is not costs its own row only. Raise for any other damage."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        is_text = [pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in batch.schema.types]
        as_bytes = [
            one.view(pa.binary() if pa.types.is_string(one.type) else pa.large_binary()) if text else one
            for one, text in zip(batch.columns, is_text, strict=True)
        ]
        for one in as_bytes:
            one.validate(full=True)
        arrays = [
            pa.array([_marked(value) for value in one.to_pylist()], pa.string()) if text else one
            for one, text in zip(as_bytes, is_text, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, batch.schema.names)
    return batch


def _marked(value: bytes | None) -> str | None:
    """Return bytes as text; where they are none, with a control character, so that no name or number is read."""
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("utf-8", "backslashreplace") + "\x1a" if value is not None else None


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as whole numbers, floats of 64 bits, text or moments, exactly as it is.

    A decimal, a short float and all other types become the text of their value, which for a float is the shortest that
    reads as the same. A moment with a zone is in UTC.
    """
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        array = array.storage
        kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        return _plain(pa.chunked_array([array]))
    if pa.types.is_timestamp(kind):
        unit = "ms" if kind.unit == "s" else kind.unit
        array = _within_reach(array, kind.unit).cast(pa.timestamp(unit))
        return array.cast(pa.timestamp(unit, "UTC")) if kind.tz else array
    if pa.types.is_date(kind):
        return _within_reach(array.cast(pa.timestamp("ms")), "ms")
    if pa.types.is_float16(kind):
        array = array.cast(pa.float32())
    if any(is_kind(kind) for is_kind in _AS_THEY_ARE):
        return array
    if any(is_kind(kind) for is_kind in _BYTES):
        return pa.array([_text_of(one) for one in array.to_pylist()], pa.string())
    return array.cast(pa.string())


def _within_reach(array: pa.Array, unit: str) -> pa.Array:
    """Return moments without their zone; those of years that cannot be printed become others that are as wrong."""
    most = _MOST_S * 10 ** {"s": 0, "ms": 3, "us": 6}[unit] if unit != "ns" else 2**63 - 1
    numbers = pc.max_element_wise(array.view(pa.int64()), -most, skip_nulls=False)
    return pc.min_element_wise(numbers, most, skip_nulls=False).view(pa.timestamp(unit))


def _text_of(value: bytes | None) -> str | None:
    """Return bytes as text; sixteen that are no text are a UUID."""
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()


def _leaves(field: pa.Field) -> list[str]:
    if not pa.types.is_struct(field.type):
        return [field.name]
    members = [field.type.field(number) for number in range(field.type.num_fields)]
    return [f"{field.name}.{name}" for member in members for name in _leaves(member)]


def _tops(columns: Sequence[str]) -> list[str]:
    return list(columns)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_ERROR_CHARACTERS]
