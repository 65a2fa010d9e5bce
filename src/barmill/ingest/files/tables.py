"""Chunks of CSV or JSON Lines as raw rows: parsed as a whole if the chunk is clean, otherwise line by line."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from barmill.ingest.files.layout import Fields, is_path
from barmill.ingest.files.lines import Lines, TruncatedLine
from barmill.ingest.mapping.paths import MISSING, path_of
from barmill.model.tick import MAX_TEXT_KEPT

BROKEN_SCHEMA = {"line": pl.Int64(), "reason": pl.String(), "detail": pl.String()}
SEPARATORS = ",;\t|"
# By default, Python's csv rejects fields of more than 131,072 characters; an instrument's name of one megabyte must be
# read whole to be rejected as too long.
csv.field_size_limit(1 << 30)

# Decimal numbers with at most 15 digits survive conversion to binary floats.
_LONG_NUMBER = re.compile(rb"[0-9.]{17,}")
# Fields in which a whole number must not become a float, even among floats.
_EXACT = ("time", "instrument", "id")
_EXPONENT = re.compile(rb"[0-9][eE][+-]?[0-9]")

Record = dict[str, str | None]


@dataclass(frozen=True)
class Rows:
    """Raw rows (with `line`), the lines that could not be split into columns, and the last line's number.

    broken: BROKEN_SCHEMA. share: how much of the file has been read up to their end, 0 to 1.
    """

    ticks: pl.DataFrame
    broken: pl.DataFrame
    last_line: int
    share: float = 1.0


def truncated_line(truncated: TruncatedLine) -> Rows:
    """Return no rows, and a reject for a line that could not be read to its end."""
    line_text = f": {_row_text(truncated.data)}" if truncated.data else ""
    return one_reject(
        truncated.line, "truncated_file" if truncated.damage else "broken_line", f"{truncated.problem}{line_text}"
    )


def one_reject(line: int, reason: str, detail: str, share: float = 1.0) -> Rows:
    """Return no rows and one reject."""
    return Rows(pl.DataFrame(), _broken([(line, reason, detail)]), line, share)


def empty_rows(last_line: int) -> Rows:
    """Return no rows and no rejects, read up to a line."""
    return Rows(pl.DataFrame(), _broken([]), last_line)


def csv_rows(lines: Lines, header: Sequence[str], separator: str, fields: Fields) -> Rows:
    """Parse lines of a CSV file whose columns are `header`; a line that does not fit is broken."""
    count = lines.data.count(b"\n")
    table = _parse_clean_csv(lines.data, header, separator, count, fields)
    if table is not None:
        return _with_line_numbers(fields.select(table), lines, count)
    return _parse_by_line(lines, _csv_line(header, separator), fields)


def csv_sample(data: bytes, header: Sequence[str], separator: str, rows: int) -> list[Record]:
    """Return the rows of the first `rows` lines as text; skip broken lines."""
    parse, sample = _csv_line(header, separator), list[Record]()
    for line in data.split(b"\n", rows)[:rows]:
        try:
            sample += parse(line.decode("utf-8"))
        except ValueError:
            continue  # the row reader turns this line into a reject
    return sample


def json_rows(lines: Lines, fields: Fields | None = None, names: Sequence[str] | None = None, rows: str = "") -> Rows:
    """Parse lines of a JSON Lines file; without `fields`, every member of the objects is a column.

    names: the column names of a line that is a list; empty: columns are named 1, 2, 3 and so on; None: a list is a
    broken line. rows: path to the rows within each line; all of them get the number of the line.
    """
    count = lines.data.count(b"\n")
    table = None if rows else _parse_clean_json(lines.data, count, fields)
    if table is not None:
        return _with_line_numbers(table if fields is None else fields.select(table), lines, count)
    columns = fields.columns if fields else ()
    return _parse_by_line(lines, lambda text: json_records(text, columns, names, rows), fields)


def header_of(line: bytes) -> tuple[list[str], str]:
    """Return the column names in a CSV file's first line, and its separator.

    Raise UnicodeDecodeError or csv.Error if the line is not readable CSV.
    """
    text = line.decode("utf-8").rstrip("\r\n")
    separator = max(SEPARATORS, key=text.count)
    return [name.strip() for name in next(csv.reader([text], delimiter=separator), [])], separator


def _with_line_numbers(table: pl.DataFrame, lines: Lines, count: int) -> Rows:
    numbers = pl.int_range(lines.first_line, lines.first_line + count, dtype=pl.Int64)
    return Rows(table.with_columns(line=numbers), _broken([]), lines.first_line + count - 1, lines.share)


def _parse_clean_csv(
    data: bytes, header: Sequence[str], separator: str, count: int, fields: Fields
) -> pl.DataFrame | None:
    """Parse a chunk at once; return None if it has quotes or blank lines, or if a line or number does not fit.

    Also return None if there is only one column.
    """
    separator_bytes = separator.encode()
    blank = data.count(b"\n\n") + data.startswith(b"\n") + data.count(b"\n\r\n") + data.startswith(b"\r\n")
    if b'"' in data or blank or len(header) < 2 or data.count(separator_bytes) != count * (len(header) - 1):
        return None
    first = data[: data.find(b"\n")].split(separator_bytes)
    times = [
        first[list(header).index(name)].strip() for name in fields.columns_by_field.get("time", ()) if name in header
    ]
    types = fields.types(all(time.isdigit() for time in times) if len(first) == len(header) else False)
    schema = {name: types.get(name, pl.String()) for name in header}
    try:
        table = pl.read_csv(io.BytesIO(data), has_header=False, schema=schema, separator=separator, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    return table if table.height == count and table.width == len(header) else None


def _parse_clean_json(data: bytes, count: int, fields: Fields | None) -> pl.DataFrame | None:
    """Parse a chunk of flat objects at once; return None if this fails, or if a number might not be exact."""
    if _EXPONENT.search(data) or any(b"." in number for number in _LONG_NUMBER.findall(data)):
        return None
    try:
        table = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return None
    if table.height != count:
        return None
    if fields is not None:
        exact = {name for field in _EXACT for name in fields.columns_by_field.get(field, ())}
        table = table.select(name for name in fields.columns if name in table.columns)
        if table.width < len(fields.columns):
            return None
    else:
        exact = {*_EXACT}
    rounded = any(table.schema[name].is_float() for name in exact if name in table.columns)
    flat = not any(dtype.is_nested() for dtype in table.dtypes)
    return table if flat and not rounded else None


def _parse_by_line(lines: Lines, parse: Callable[[str], Sequence[Record]], fields: Fields | None) -> Rows:
    """Parse line by line; each unreadable line becomes a reject with its line number."""
    records, numbers, broken = list[Record](), list[int](), list[tuple[int, str, str]]()
    number = lines.first_line - 1
    for line in _split_lines(lines.data):
        number += 1
        if not line.strip():
            continue
        try:
            parsed = parse(line.decode("utf-8"))
            records += parsed
            numbers += [number] * len(parsed)
        except UnicodeDecodeError:
            broken.append((number, "broken_line", f"not UTF-8: {_row_text(line)}"))
        except ValueError as error:
            broken.append((number, "broken_line", f"{error}: {_row_text(line)}"))
    names = list(dict.fromkeys(name for row in records for name in row)) if fields is None else fields.columns
    schema = dict.fromkeys(names, pl.String())
    columns = {name: [row.get(name) for row in records] for name in names}
    if not records:
        table = pl.DataFrame()
    elif fields is None:
        # Empty objects alone are rows without any other column than `line`.
        table = pl.DataFrame(columns | {"line": numbers}, schema | {"line": pl.Int64()})
    else:
        table = fields.select(pl.DataFrame(columns, schema)).with_columns(line=pl.Series(numbers, dtype=pl.Int64))
    return Rows(table, _broken(broken), number, lines.share)


def _split_lines(data: bytes) -> list[bytes]:
    """Split at newlines only, consistent with the line numbers."""
    return data.removesuffix(b"\n").split(b"\n")


def _csv_line(header: Sequence[str], separator: str) -> Callable[[str], Sequence[Record]]:
    def parse(text: str) -> Sequence[Record]:
        text = text.rstrip("\r")
        try:
            fields = (
                next(csv.reader([text], delimiter=separator, strict=True)) if '"' in text else text.split(separator)
            )
        except csv.Error as error:
            raise ValueError(f"quotes do not match ({error})") from error
        if len(fields) != len(header):
            raise ValueError(f"{len(fields)} columns instead of {len(header)}")
        return [dict(zip(header, fields, strict=True))]

    return parse


def json_records(
    text: str, columns: Sequence[str] = (), names: Sequence[str] | None = None, rows: str = ""
) -> list[Record]:
    """Return the rows of a JSON text with their members as texts, numbers exactly as written.

    Raise ValueError if it is not JSON or has no rows. columns: the required members; a name that is not a member is
    a path. names, rows: see json_rows; without `rows`, the text is one row. With `rows`, a row that cannot be read has
    no members.
    """
    try:
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not rows:
        return [_record(value, columns, names)]
    path = path_of(rows)
    matches = [match.value for match in path.all(value)]
    if not matches:
        raise ValueError(path.mismatch_text(value))
    items = [record for match in matches for record in (match if isinstance(match, list) else [match])]
    return [_record_or_none(record, columns, names) for record in items]


def _record_or_none(row: object, columns: Sequence[str], names: Sequence[str] | None) -> Record:
    try:
        return _record(row, columns, names)
    except ValueError:
        return {}


def _record(row: object, columns: Sequence[str], names: Sequence[str] | None) -> Record:
    if isinstance(row, list) and names is not None:
        row = dict(zip(names or map(str, range(1, len(row) + 1)), row, strict=bool(names)))
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    values = {name: _member(row, name) for name in columns} if columns else row
    return {name: _json_text(value) for name, value in values.items()}


def _member(row: dict[str, object], name: str) -> object:
    if name in row:
        return row[name]
    return path_of(name).first(row) if is_path(name) else None


def _json_text(value: object) -> str | None:
    if value is None or value is MISSING:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    # A lone surrogate is not a character; it is shown in escaped form.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _broken(rows: list[tuple[int, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, BROKEN_SCHEMA, orient="row")


def _row_text(data: bytes) -> str:
    return data[:MAX_TEXT_KEPT].decode("utf-8", "backslashreplace")
