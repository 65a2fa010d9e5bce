"""Parquet and Arrow files: columns of any type as plain types, and the readable parts of a damaged file."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from barmill.ingest.files.streams import ARROW_MAGIC, PARQUET_MAGIC, ReplayFileError

_BATCH_ROWS = 250_000
# Exceptions that pyarrow raises on damaged data: its own, OSError, and ValueError for invalid text.
_DAMAGE_ERRORS = (pa.ArrowException, OSError, ValueError, EOFError)
_ERROR_CHARACTERS = 200
# About 250,000 years, close to the limit of times that Polars can print.
_MAX_TIME_S = 8 * 10**12
_UNCHANGED_TYPES = (pa.types.is_integer, pa.types.is_float64, pa.types.is_string, pa.types.is_string_view)
_BYTES_TYPES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)


@dataclass(frozen=True)
class Part:
    """Some rows of a file, or the reason why they cannot be read.

    first: number of the first row, from 1. count: the number of rows; if they cannot be read, the expected number, or 0
    if unknown. share: the share of the file read up to the end of this part, 0 to 1.
    """

    first: int
    count: int
    table: pl.DataFrame | None = None
    problem: str = ""
    share: float = 1.0


class ColumnarFile:
    """An open Parquet or Arrow file. names: its columns; struct members have names such as price.value."""

    def __init__(self, stream: BinaryIO, head: bytes, label: str) -> None:
        """Open a file; raise ReplayFileError if not even its columns can be read."""
        self._stream, self._label = stream, label
        try:
            if head.startswith(PARQUET_MAGIC):
                self._file: Any = pq.ParquetFile(stream, page_checksum_verification=True)
                self._schema, self._read = self._file.schema_arrow, self._parquet
            elif head.startswith(ARROW_MAGIC):
                self._open_arrow(stream)
            else:
                self._open_stream(stream)
        except _DAMAGE_ERRORS as error:
            kind = "Parquet" if head.startswith(PARQUET_MAGIC) else "Arrow"
            raise ReplayFileError(f"{label} is not a complete {kind} file: {_one_line(error)}.") from error
        self.names = [name for field in self._schema for name in _leaf_names(field)]

    def parts(self, columns: Sequence[str]) -> Iterator[Part]:
        """Yield the file's rows with these columns, in order; an unreadable part takes the place of its rows.

        Raise ReplayFileError if a column is not a time, number or text.
        """
        yield from self._read(columns)

    def _open_arrow(self, stream: BinaryIO) -> None:
        try:
            self._file = pa.ipc.open_file(stream)
            self._read = self._arrow
        except _DAMAGE_ERRORS:
            # The footer is at the end; without it, the file is a stream after the first eight bytes.
            stream.seek(8)
            self._open_stream(stream)
        self._schema = self._file.schema

    def _open_stream(self, stream: BinaryIO) -> None:
        self._file = pa.ipc.open_stream(stream)
        self._schema, self._read = self._file.schema, self._arrow_stream

    def _parquet(self, columns: Sequence[str]) -> Iterator[Part]:
        metadata, rows_so_far = self._file.metadata, 0
        total = max(metadata.num_rows, 1)
        for group in range(metadata.num_row_groups):
            count, start = metadata.row_group(group).num_rows, rows_so_far
            try:
                batches = self._file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns))
                for batch in batches:
                    table = self._plain_table(_valid_batch(batch), columns)
                    yield Part(rows_so_far + 1, table.height, table, "", (rows_so_far + table.height) / total)
                    rows_so_far += table.height
            except _DAMAGE_ERRORS as error:
                lost_rows = start + count - rows_so_far
                problem = f"row group {group + 1} of {metadata.num_row_groups} is damaged"
                yield Part(rows_so_far + 1, lost_rows, None, f"{problem} ({_one_line(error)})", (start + count) / total)
            rows_so_far = start + count

    def _arrow(self, columns: Sequence[str]) -> Iterator[Part]:
        rows_so_far, total = 0, max(self._file.num_record_batches, 1)
        for number in range(self._file.num_record_batches):
            share = (number + 1) / total
            try:
                table = self._plain_table(_valid_batch(self._file.get_batch(number)), columns)
            except _DAMAGE_ERRORS as error:
                problem = f"record batch {number + 1} of {total} is damaged"
                yield Part(rows_so_far + 1, 0, None, f"{problem} ({_one_line(error)})", share)
                continue
            yield Part(rows_so_far + 1, table.height, table, "", share)
            rows_so_far += table.height

    def _arrow_stream(self, columns: Sequence[str]) -> Iterator[Part]:
        rows_so_far, number = 0, 0
        while True:
            number += 1
            try:
                table = self._plain_table(_valid_batch(self._file.read_next_batch()), columns)
            except StopIteration:
                return
            except _DAMAGE_ERRORS as error:
                problem = f"the file ends or is damaged in record batch {number}"
                yield Part(rows_so_far + 1, 0, None, f"{problem} ({_one_line(error)})")
                return
            yield Part(rows_so_far + 1, table.height, table)
            rows_so_far += table.height

    def _plain_table(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pl.DataFrame:
        table = pa.Table.from_batches([batch])
        while any(pa.types.is_struct(field.type) for field in table.schema):
            table = table.flatten()
        plain_columns = {}
        for name in columns:
            column = table.column(name)
            try:
                plain_columns[name] = pl.Series(name, pl.from_arrow(_plain_column(column)))
            except pa.ArrowNotImplementedError as error:
                raise ReplayFileError(
                    f"{self._label} has a column {name} of type {column.type}, which is not a time, number or text;"
                    " choose another column with --map, or convert it."
                ) from error
        return pl.DataFrame(plain_columns)


def _valid_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with valid UTF-8 text, where an invalid value costs only its own row.

    Raise pa.ArrowInvalid for any other damage.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        is_text = [pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in batch.schema.types]
        as_bytes = [
            column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary()) if text else column
            for column, text in zip(batch.columns, is_text, strict=True)
        ]
        for column in as_bytes:
            column.validate(full=True)
        arrays = [
            pa.array([_decode_marked(value) for value in column.to_pylist()], pa.string()) if text else column
            for column, text in zip(as_bytes, is_text, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, batch.schema.names)
    return batch


def _decode_marked(value: bytes | None) -> str | None:
    """Return bytes as text; mark invalid UTF-8 with a control character, so that it is not read as a name or number."""
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("utf-8", "backslashreplace") + "\x1a" if value is not None else None


def _plain_column(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as whole numbers, 64-bit floats, text or timestamps, without any change of plausible values.

    Decimals, shorter floats and all other types become the text of their value; for a float this is the shortest text
    that reads as the same value. Dates become timestamps, and timestamps with a zone are converted to UTC. Times of
    unprintable years are clamped.
    """
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    arrow_type = array.type
    if isinstance(arrow_type, pa.BaseExtensionType):
        array = array.storage
        arrow_type = array.type
    if pa.types.is_dictionary(arrow_type):
        array = array.dictionary_decode()
        return _plain_column(pa.chunked_array([array]))
    if pa.types.is_timestamp(arrow_type):
        unit = "ms" if arrow_type.unit == "s" else arrow_type.unit
        array = _clamp_times(array, arrow_type.unit).cast(pa.timestamp(unit))
        return array.cast(pa.timestamp(unit, "UTC")) if arrow_type.tz else array
    if pa.types.is_date(arrow_type):
        return _clamp_times(array.cast(pa.timestamp("ms")), "ms")
    if pa.types.is_float16(arrow_type):
        array = array.cast(pa.float32())
    if any(is_type(arrow_type) for is_type in _UNCHANGED_TYPES):
        return array
    if any(is_type(arrow_type) for is_type in _BYTES_TYPES):
        return pa.array([_bytes_text(value) for value in array.to_pylist()], pa.string())
    return array.cast(pa.string())


def _clamp_times(array: pa.Array, unit: str) -> pa.Array:
    """Return timestamps without their zone; clamp those of unprintable years, which are wrong in any case."""
    limit = _MAX_TIME_S * 10 ** {"s": 0, "ms": 3, "us": 6}[unit] if unit != "ns" else 2**63 - 1
    numbers = pc.max_element_wise(array.view(pa.int64()), -limit, skip_nulls=False)
    return pc.min_element_wise(numbers, limit, skip_nulls=False).view(pa.timestamp(unit))


def _bytes_text(value: bytes | None) -> str | None:
    """Return bytes as text; sixteen bytes that are not text are a UUID, other bytes become hexadecimal."""
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()


def _leaf_names(field: pa.Field) -> list[str]:
    if not pa.types.is_struct(field.type):
        return [field.name]
    members = [field.type.field(number) for number in range(field.type.num_fields)]
    return [f"{field.name}.{name}" for member in members for name in _leaf_names(member)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_ERROR_CHARACTERS]
