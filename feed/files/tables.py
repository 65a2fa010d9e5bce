"""Chunks of CSV or JSON Lines made into raw rows: at once where the chunk is clean, line by line where it is not."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from feed.files.layout import Fields, is_path
from feed.files.lines import CutLine, Lines
from feed.mapping.paths import MISSING, path_of
from feed.tick import MAX_TEXT_KEPT

BROKEN_SCHEMA = {"line": pl.Int64(), "reason": pl.String(), "detail": pl.String()}
SEPARATORS = ",;\t|"
# Python's csv refuses longer fields; a name of a megabyte must arrive whole to be refused for what it is.
csv.field_size_limit(1 << 30)

# Decimal numbers of at most 15 digits survive being read as binary floats.
_LONG_NUMBER = re.compile(rb"[0-9.]{17,}")
# Fields in which a whole number among floats must not become a float.
_EXACT = ("time", "instrument", "id")
_EXPONENT = re.compile(rb"[0-9][eE][+-]?[0-9]")

Record = dict[str, str | None]


@dataclass(frozen=True)
class Rows:
    """Raw rows (with `line`), the lines that could not be split into columns, and the last line's number.

    share: how much of the file has been read with them.
    """

    ticks: pl.DataFrame
    broken: pl.DataFrame
    last_line: int
    share: float = 1.0


def cut_line(cut: CutLine) -> Rows:
    """Make a reject of a line that could not be read to its end."""
    shown = f": {_shown(cut.data)}" if cut.data else ""
    return refused(cut.line, "truncated_file" if cut.damage else "broken_line", f"{cut.problem}{shown}")


def refused(line: int, reason: str, detail: str, share: float = 1.0) -> Rows:
    """Return no rows but one reject."""
    return Rows(pl.DataFrame(), _broken([(line, reason, detail)]), line, share)


def nothing(last_line: int) -> Rows:
    """Return no rows at all, having read up to a line."""
    return Rows(pl.DataFrame(), _broken([]), last_line)


def csv_rows(lines: Lines, header: Sequence[str], separator: str, fields: Fields) -> Rows:
    """Read lines of a CSV file whose columns are `header`."""
    count = lines.data.count(b"\n")
    table = _clean_csv(lines.data, header, separator, count, fields)
    if table is not None:
        return _numbered(fields.select(table), lines, count)
    return _by_line(lines, _csv_line(header, separator), fields)


def csv_sample(data: bytes, header: Sequence[str], separator: str, rows: int) -> list[Record]:
    """Return the first rows of some lines as they are, without those that are broken."""
    parse, sample = _csv_line(header, separator), list[Record]()
    for line in data.split(b"\n", rows)[:rows]:
        try:
            sample += parse(line.decode("utf-8"))
        except ValueError:
            continue  # a reject, which the reader of rows makes
    return sample


def json_rows(lines: Lines, fields: Fields | None = None, names: Sequence[str] | None = None, rows: str = "") -> Rows:
    """Read lines of a JSON Lines file; without `fields`, every member of the objects is a column.

    names: those of the parts of a line that is a list; none if parts are called 1, 2, 3 and so on. None: a list is a
    broken line. rows: path to the rows within each line, which all have the number of the line.
    """
    count = lines.data.count(b"\n")
    table = None if rows else _clean_json(lines.data, count, fields)
    if table is not None:
        return _numbered(table if fields is None else fields.select(table), lines, count)
    wanted = fields.columns if fields else ()
    return _by_line(lines, lambda text: json_records(text, wanted, names, rows), fields)


def header_of(line: bytes) -> tuple[list[str], str]:
    """Return the columns of a CSV file's first line and the separator they are written with."""
    text = line.decode("utf-8").rstrip("\r\n")
    separator = max(SEPARATORS, key=text.count)
    return [name.strip() for name in next(csv.reader([text], delimiter=separator), [])], separator


def _numbered(table: pl.DataFrame, lines: Lines, count: int) -> Rows:
    numbers = pl.int_range(lines.first_line, lines.first_line + count, dtype=pl.Int64)
    return Rows(table.with_columns(line=numbers), _broken([]), lines.first_line + count - 1, lines.share)


def _clean_csv(data: bytes, header: Sequence[str], separator: str, count: int, fields: Fields) -> pl.DataFrame | None:
    """Read a chunk without quotes, whose every line has every column and every number reads as one, or return None."""
    as_bytes = separator.encode()
    blank = data.count(b"\n\n") + data.startswith(b"\n") + data.count(b"\n\r\n") + data.startswith(b"\r\n")
    if b'"' in data or blank or len(header) < 2 or data.count(as_bytes) != count * (len(header) - 1):
        return None
    first = data[: data.find(b"\n")].split(as_bytes)
    times = [first[list(header).index(name)].strip() for name in fields.chosen.get("time", ()) if name in header]
    types = fields.types(all(time.isdigit() for time in times) if len(first) == len(header) else False)
    schema = {name: types.get(name, pl.String()) for name in header}
    try:
        table = pl.read_csv(io.BytesIO(data), has_header=False, schema=schema, separator=separator, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    return table if table.height == count and table.width == len(header) else None


def _clean_json(data: bytes, count: int, fields: Fields | None) -> pl.DataFrame | None:
    """Read a chunk of flat objects whose numbers are exact as they are read, or return None."""
    if _EXPONENT.search(data) or any(b"." in number for number in _LONG_NUMBER.findall(data)):
        return None
    try:
        table = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return None
    if table.height != count:
        return None
    if fields is not None:
        exact = {name for ours in _EXACT for name in fields.chosen.get(ours, ())}
        table = table.select(name for name in fields.columns if name in table.columns)
        if table.width < len(fields.columns):
            return None
    else:
        exact = {*_EXACT}
    rounded = any(table.schema[name].is_float() for name in exact if name in table.columns)
    flat = not any(dtype.is_nested() for dtype in table.dtypes)
    return table if flat and not rounded else None


def _by_line(lines: Lines, parse: Callable[[str], Sequence[Record]], fields: Fields | None) -> Rows:
    """Read line by line, keeping every line that cannot be read with its number."""
    good, numbers, broken = list[Record](), list[int](), list[tuple[int, str, str]]()
    number = lines.first_line - 1
    for line in _split(lines.data):
        number += 1
        if not line.strip():
            continue
        try:
            found = parse(line.decode("utf-8"))
            good += found
            numbers += [number] * len(found)
        except UnicodeDecodeError:
            broken.append((number, "broken_line", f"not UTF-8: {_shown(line)}"))
        except ValueError as error:
            broken.append((number, "broken_line", f"{error}: {_shown(line)}"))
    names = list(dict.fromkeys(name for row in good for name in row)) if fields is None else fields.columns
    table = pl.DataFrame({name: [row.get(name) for row in good] for name in names}, dict.fromkeys(names, pl.String()))
    if fields is not None and good:
        table = fields.select(table)
    if good:
        table = table.with_columns(line=pl.Series(numbers, dtype=pl.Int64))
    return Rows(table if good else pl.DataFrame(), _broken(broken), number, lines.share)


def _split(data: bytes) -> list[bytes]:
    """Split at newlines alone, as the line numbers count."""
    return data.removesuffix(b"\n").split(b"\n")


def _csv_line(header: Sequence[str], separator: str) -> Callable[[str], Sequence[Record]]:
    def parse(text: str) -> Sequence[Record]:
        text = text.rstrip("\r")
        try:
            fields = (
                next(csv.reader([text], delimiter=separator, strict=True)) if '"' in text else text.split(separator)
            )
        except csv.Error as error:
            raise ValueError(f"quotes that do not match ({error})") from error
        if len(fields) != len(header):
            raise ValueError(f"{len(fields)} columns where there should be {len(header)}")
        return [dict(zip(header, fields, strict=True))]

    return parse


def json_records(
    text: str, wanted: Sequence[str] = (), names: Sequence[str] | None = None, rows: str = ""
) -> list[Record]:
    """Return the rows of a JSON text with their members as texts, numbers exactly as they are written.

    Raise ValueError where it is none, or has no rows. wanted: members that are needed; one that is no member is a path.
    names, rows: see json_rows; without `rows`, the text is one row. One among several that is no object has no members.
    """
    try:
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not rows:
        return [_record(value, wanted, names)]
    path = path_of(rows)
    places = [place.value for place in path.all(value)]
    if not places:
        raise ValueError(path.why_not(value))
    found = [one for place in places for one in (place if isinstance(place, list) else [place])]
    return [_record_or_none(one, wanted, names) for one in found]


def _record_or_none(row: object, wanted: Sequence[str], names: Sequence[str] | None) -> Record:
    try:
        return _record(row, wanted, names)
    except ValueError:
        return {}


def _record(row: object, wanted: Sequence[str], names: Sequence[str] | None) -> Record:
    if isinstance(row, list) and names is not None:
        row = dict(zip(names or map(str, range(1, len(row) + 1)), row, strict=bool(names)))
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    found = {name: _member(row, name) for name in wanted} if wanted else row
    return {name: _json_text(value) for name, value in found.items()}


def _member(row: dict[str, object], name: str) -> object:
    if name in row:
        return row[name]
    return path_of(name).first(row) if is_path(name) else None


def _json_text(value: object) -> str | None:
    if value is None or value is MISSING:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    # Half a surrogate pair is no character, and is shown as it was escaped.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _broken(rows: list[tuple[int, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, BROKEN_SCHEMA, orient="row")


def _shown(data: bytes) -> str:
    return data[:MAX_TEXT_KEPT].decode("utf-8", "backslashreplace")
