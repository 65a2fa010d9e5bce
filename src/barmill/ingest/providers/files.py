"""Files as raw rows, one file at a time, in any supported container, format and layout."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from barmill.ingest.files.containers import Document, documents
from barmill.ingest.files.json_documents import array_lines, as_one_line, json_kind
from barmill.ingest.files.layout import Fields, Layout
from barmill.ingest.files.lines import Lines, TruncatedLine, read_lines
from barmill.ingest.files.streams import ARROW_MAGIC, ARROW_STREAM, PARQUET_MAGIC, ReplayFileError
from barmill.ingest.files.tables import (
    SEPARATORS,
    Record,
    Rows,
    csv_rows,
    csv_sample,
    empty_rows,
    header_of,
    json_records,
    json_rows,
    one_reject,
    truncated_line,
)

_SAMPLE_ROWS = 1_000
_SHOWN_ROWS = 20
_NUMBER = re.compile(r"[+-]?\d[\d.,:/ TZ+-]*(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class DocumentFormat:
    """The format of a document.

    kind: CSV, JSON Lines, JSON array, Parquet or Arrow. columns: the names in the file. separator: of a CSV file.
    """

    document: Document
    kind: str
    columns: Sequence[str]
    separator: str = ""


def rows_of(path: Path, layout: Layout) -> Iterator[tuple[DocumentFormat, Rows]]:
    """Yield the file's rows in order, each chunk with the format of its document.

    Raise ReplayFileError if the file cannot be read at all, or does not fit the layout.
    """
    try:
        for document in documents(path):
            if document.head.startswith((PARQUET_MAGIC, ARROW_MAGIC, ARROW_STREAM)):
                yield from _columnar(document, layout)
            elif kind := json_kind(document):
                yield from _json(document, layout, kind)
            else:
                yield from _csv(document, layout)
    except OSError as error:
        raise ReplayFileError(f"{path} cannot be read: {error.strerror or error}.") from error


def _columnar(document: Document, layout: Layout) -> Iterator[tuple[DocumentFormat, Rows]]:
    # Imported here because importing pyarrow takes longer than reading a small CSV file.
    from barmill.ingest.files.columnar import ColumnarFile

    kind = "Parquet" if document.head.startswith(PARQUET_MAGIC) else "Arrow"
    with document.seekable() as stream:
        file = ColumnarFile(stream, document.head, document.label)
        document_format = DocumentFormat(document, kind, file.names)
        fields = layout.fields(file.names, document.label)
        yield document_format, empty_rows(0)
        for part in file.parts(fields.columns):
            if part.table is None:
                lost = f": rows {part.first:,} to {part.first + part.count - 1:,} are lost" if part.count else ""
                yield document_format, one_reject(part.first, "truncated_file", f"{part.problem}{lost}", part.share)
                continue
            last = part.first + part.count - 1
            line = pl.int_range(part.first, last + 1, dtype=pl.Int64)
            rows = fields.select(part.table).with_columns(line=line)
            yield document_format, replace(empty_rows(last), ticks=rows, share=part.share)


def _json(document: Document, layout: Layout, kind: str) -> Iterator[tuple[DocumentFormat, Rows]]:
    document_format, fields = DocumentFormat(document, "JSON Lines" if kind == "lines" else "JSON array", ()), None
    element_names = layout.columns if layout.columns or not layout.header else None
    one_line, document = as_one_line(document) if kind == "lines" else (None, document)
    chunks = [one_line] if one_line else read_lines(document) if kind == "lines" else array_lines(document)
    for lines in chunks:
        if isinstance(lines, TruncatedLine):
            yield document_format, truncated_line(lines)
            continue
        if fields is None and (sample := _sample(lines, element_names, layout.rows, document.label)):
            names = list(dict.fromkeys(name for row in sample for name in row))
            fields = layout.fields(names, document.label, paths=True, sample=sample[:_SHOWN_ROWS])
            document_format = replace(document_format, columns=names)
        yield document_format, json_rows(lines, fields, element_names, layout.rows)


def _sample(lines: Lines, element_names: Sequence[str] | None, path: str, label: str) -> list[Record]:
    """Return the readable rows among the first lines; raise ReplayFileError if these are lists without names."""
    rows, sample = lines.data.split(b"\n", _SAMPLE_ROWS)[:_SAMPLE_ROWS], list[Record]()
    for row in rows:
        try:
            sample += json_records(row.decode("utf-8"), (), element_names, path)
        except ValueError:
            continue  # the row reader turns this line into a reject
    if not sample and rows[0].lstrip().startswith(b"["):
        raise ReplayFileError(
            f"{label} contains lists, such as {rows[0].decode('utf-8', 'replace')[:80]}; name their elements with"
            " --columns a,b,c, or number them with --no-header."
        )
    return [row for row in sample if row]


def _csv(document: Document, layout: Layout) -> Iterator[tuple[DocumentFormat, Rows]]:
    document_format: DocumentFormat | None = None
    fields: Fields | None = None
    unknown_format = DocumentFormat(document, "CSV", ())
    for lines in read_lines(document):
        if isinstance(lines, TruncatedLine):
            yield document_format or unknown_format, truncated_line(lines)
            continue
        if document_format is None or fields is None:
            columns, separator, lines = _columns(document, layout, lines)
            document_format = DocumentFormat(document, "CSV", columns, separator)
            sample = csv_sample(lines.data, columns, separator, _SHOWN_ROWS)
            fields = layout.fields(columns, document.label, sample=sample)
            yield document_format, empty_rows(lines.first_line - 1)
        if lines.data:
            yield (
                document_format,
                csv_rows(lines, _unique_names(document_format.columns), document_format.separator, fields),
            )


def _columns(document: Document, layout: Layout, lines: Lines) -> tuple[list[str], str, Lines]:
    """Return the columns, the separator, and the lines of data; raise ReplayFileError for an unusable first line."""
    skipped = re.match(rb"(?:[ \t]*\r?\n)*", lines.data)
    data, first_line = lines.data[skipped.end() :] if skipped else lines.data, lines.first_line
    first_line += lines.data.count(b"\n", 0, len(lines.data) - len(data))
    first, _, rest = data.partition(b"\n")
    if b"\0" in first:
        raise ReplayFileError(
            f"The format of {document.label} is unknown; convert it to CSV, JSON Lines or Parquet first."
        )
    try:
        names, separator = header_of(first)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReplayFileError(
            f"{document.label} does not start with a line of UTF-8 text; convert it to UTF-8 first."
        ) from error
    if len(names) < 2 and document.label.lower().endswith((".parquet", ".pq")):
        raise ReplayFileError(f"{document.label} is not a complete Parquet file: its beginning is missing.")
    if layout.columns:
        separator = _separator(first.decode("utf-8"), len(layout.columns)) or separator
        return list(layout.columns), separator, replace(lines, data=data, first_line=first_line)
    if not layout.header:
        return (
            [str(number + 1) for number in range(len(names))],
            separator,
            replace(lines, data=data, first_line=first_line),
        )
    if _are_values(names):
        raise ReplayFileError(
            f"{document.label} has no line of column names: its first line is {first.decode()[:80].strip()}; name its"
            " columns with --columns a,b,c, or number them with --no-header."
        )
    return names, separator, replace(lines, data=rest, first_line=first_line + 1)


def _separator(line: str, count: int) -> str | None:
    """Return the separator that yields the expected number of columns, or None."""
    return next((separator for separator in SEPARATORS if line.count(separator) == count - 1), None)


def _are_values(names: Sequence[str]) -> bool:
    """Return whether the cells of a first line look like values rather than names."""
    return sum(_NUMBER.fullmatch(name) is not None for name in names) * 2 > len(names)


def _unique_names(names: Sequence[str]) -> list[str]:
    """Make duplicate column names unique; none of these columns is read."""
    return [name if names.count(name) == 1 else f"{name}\0{number}" for number, name in enumerate(names)]
