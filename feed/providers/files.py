"""One file after the other made raw rows, whatever container, format and layout they have."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from feed.files.columnar import ARROW_MAGIC, ARROW_STREAM, PARQUET_MAGIC, Columnar
from feed.files.containers import Document, documents
from feed.files.errors import ReplayFileError
from feed.files.json_documents import array_lines, json_kind, one_line
from feed.files.layout import Fields, Layout
from feed.files.lines import CutLine, Lines, read_lines
from feed.files.tables import (
    SEPARATORS,
    Record,
    Rows,
    csv_rows,
    csv_sample,
    cut_line,
    header_of,
    json_records,
    json_rows,
    nothing,
    refused,
)

_SAMPLE_ROWS = 1_000
_SHOWN_ROWS = 20
_NUMBER = re.compile(r"[+-]?\d[\d.,:/ TZ+-]*(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Shape:
    """What a document looks like.

    kind: CSV, JSON Lines, JSON array, Parquet or Arrow. columns: as the file calls them.
    """

    document: Document
    kind: str
    columns: Sequence[str]
    separator: str = ""


def rows_of(path: Path, layout: Layout) -> Iterator[tuple[Shape, Rows]]:
    """Yield the file's rows in order, each chunk with the document it is from.

    Raise ReplayFileError where the file cannot be read at all, or does not fit the layout.
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


def _columnar(document: Document, layout: Layout) -> Iterator[tuple[Shape, Rows]]:
    kind = "Parquet" if document.head.startswith(PARQUET_MAGIC) else "Arrow"
    with document.seekable() as stream:
        file = Columnar(stream, document.head, document.shown)
        shape = Shape(document, kind, file.names)
        fields = layout.fields(file.names, document.shown)
        yield shape, nothing(0)
        for part in file.parts(fields.columns):
            if part.table is None:
                lost = f": rows {part.first:,} to {part.first + part.count - 1:,} are lost" if part.count else ""
                yield shape, refused(part.first, "truncated_file", f"{part.problem}{lost}", part.share)
                continue
            last = part.first + part.count - 1
            line = pl.int_range(part.first, last + 1, dtype=pl.Int64)
            rows = fields.select(part.table).with_columns(line=line)
            yield shape, replace(nothing(last), ticks=rows, share=part.share)


def _json(document: Document, layout: Layout, kind: str) -> Iterator[tuple[Shape, Rows]]:
    shape, fields = Shape(document, "JSON Lines" if kind == "lines" else "JSON array", ()), None
    parts = layout.columns if layout.columns or not layout.header else None
    whole, document = one_line(document) if kind == "lines" else (None, document)
    texts = [whole] if whole else read_lines(document) if kind == "lines" else array_lines(document)
    for lines in texts:
        if isinstance(lines, CutLine):
            yield shape, cut_line(lines)
            continue
        if fields is None and (sample := _sample(lines, parts, layout.rows, document.shown)):
            names = list(dict.fromkeys(name for row in sample for name in row))
            fields = layout.fields(names, document.shown, paths=True, sample=sample[:_SHOWN_ROWS])
            shape = replace(shape, columns=names)
        yield shape, json_rows(lines, fields, parts, layout.rows)


def _sample(lines: Lines, parts: Sequence[str] | None, path: str, shown: str) -> list[Record]:
    """Return the first rows that can be read."""
    rows, sample = lines.data.split(b"\n", _SAMPLE_ROWS)[:_SAMPLE_ROWS], list[Record]()
    for row in rows:
        try:
            sample += json_records(row.decode("utf-8"), (), parts, path)
        except ValueError:
            continue  # a reject, which the reader of rows makes
    if not sample and rows[0].lstrip().startswith(b"["):
        raise ReplayFileError(
            f"{shown} holds lists, such as {rows[0].decode('utf-8', 'replace')[:80]}; name their parts with"
            " --columns a,b,c, or number them with --no-header."
        )
    return [row for row in sample if row]


def _csv(document: Document, layout: Layout) -> Iterator[tuple[Shape, Rows]]:
    shape: Shape | None = None
    fields: Fields | None = None
    blank = Shape(document, "CSV", ())
    for lines in read_lines(document):
        if isinstance(lines, CutLine):
            yield shape or blank, cut_line(lines)
            continue
        if shape is None or fields is None:
            columns, separator, lines = _columns(document, layout, lines)
            shape = Shape(document, "CSV", columns, separator)
            sample = csv_sample(lines.data, columns, separator, _SHOWN_ROWS)
            fields = layout.fields(columns, document.shown, sample=sample)
            yield shape, nothing(lines.first_line - 1)
        if lines.data:
            yield shape, csv_rows(lines, _distinct(shape.columns), shape.separator, fields)


def _columns(document: Document, layout: Layout, lines: Lines) -> tuple[list[str], str, Lines]:
    """Return the columns, the separator, and the lines that are data."""
    skipped = re.match(rb"(?:[ \t]*\r?\n)*", lines.data)
    data, first_line = lines.data[skipped.end() :] if skipped else lines.data, lines.first_line
    first_line += lines.data.count(b"\n", 0, len(lines.data) - len(data))
    first, _, rest = data.partition(b"\n")
    if b"\0" in first:
        raise ReplayFileError(
            f"{document.shown} is no text, and no format that is known; convert it to CSV, JSON Lines or Parquet first."
        )
    try:
        names, separator = header_of(first)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReplayFileError(
            f"{document.shown} does not start with a line of UTF-8 text; convert it to UTF-8 first."
        ) from error
    if len(names) < 2 and document.shown.lower().endswith((".parquet", ".pq")):
        raise ReplayFileError(f"{document.shown} is not a whole Parquet file: it does not begin as one.")
    if layout.columns:
        separator = _separator(first.decode("utf-8"), len(layout.columns)) or separator
        return list(layout.columns), separator, replace(lines, data=data, first_line=first_line)
    if not layout.header:
        return (
            [str(number + 1) for number in range(len(names))],
            separator,
            replace(lines, data=data, first_line=first_line),
        )
    if _is_data(names):
        raise ReplayFileError(
            f"{document.shown} has no line of column names: its first line is {first.decode()[:80].strip()}; name its"
            " columns with --columns a,b,c, or number them with --no-header."
        )
    return names, separator, replace(lines, data=rest, first_line=first_line + 1)


def _separator(line: str, count: int) -> str | None:
    """Return the separator that gives as many columns as there should be."""
    return next((one for one in SEPARATORS if line.count(one) == count - 1), None)


def _is_data(names: Sequence[str]) -> bool:
    """Tell whether the cells of a first line read as values and not as names."""
    return sum(_NUMBER.fullmatch(name) is not None for name in names) * 2 > len(names)


def _distinct(names: Sequence[str]) -> list[str]:
    """Tell apart columns of the same name, of which none is read."""
    return [name if names.count(name) == 1 else f"{name}\0{number}" for number, name in enumerate(names)]
