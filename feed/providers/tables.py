"""Chunks of CSV or JSON Lines made into raw rows: at once where the chunk is clean, line by line where it is not."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
import polars as pl

from feed.providers.lines import CutLine, Lines
from feed.tick import MAX_TEXT_KEPT

BROKEN_SCHEMA = {"line": pl.Int64(), "reason": pl.String(), "detail": pl.String()}
_NUMBERS = ("price", "price_open", "price_close", "volume")
# Python's csv refuses longer fields; a name of a megabyte must arrive whole to be refused for what it is.
csv.field_size_limit(1 << 30)


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
    reason = "truncated_file" if cut.damage else "broken_line"
    return Rows(pl.DataFrame(), _broken([(cut.line, reason, f"{cut.problem}: {_shown(cut.data)}")]), cut.line)


def csv_rows(lines: Lines, header: Sequence[str], separator: str) -> Rows:
    """Read lines of a CSV file whose columns are `header`."""
    count = lines.data.count(b"\n")
    table = _clean_csv(lines.data, header, separator, count)
    return _checked_lines(table, lines, count) if table is not None else _by_line(lines, _csv_line(header, separator))


def json_rows(lines: Lines) -> Rows:
    """Read lines of a JSON Lines file."""
    count = lines.data.count(b"\n")
    table = _clean_json(lines.data, count)
    return _checked_lines(table, lines, count) if table is not None else _by_line(lines, _json_line)


def csv_header(line: bytes) -> tuple[list[str], str]:
    """Return the column names of a CSV file's first line and the separator they are written with."""
    text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8").rstrip("\r\n")
    separator = max(",;\t|", key=text.count)
    return [name.strip() for name in next(csv.reader([text], delimiter=separator))], separator


def _checked_lines(table: pl.DataFrame, lines: Lines, count: int) -> Rows:
    """Number the rows and leave out the ones of empty lines."""
    numbered = table.with_columns(line=pl.int_range(lines.first_line, lines.first_line + count, dtype=pl.Int64))
    empty = pl.all_horizontal(pl.col(name).is_null() for name in table.columns)
    return Rows(numbered.filter(~empty), _broken([]), lines.first_line + count - 1, lines.share)


def _clean_csv(data: bytes, header: Sequence[str], separator: str, count: int) -> pl.DataFrame | None:
    """Read a chunk without quotes, whose every line has every column and every number reads as one, or return None."""
    as_bytes = separator.encode()
    blank = data.count(b"\n\n") + data.startswith(b"\n") + data.count(b"\n\r\n")
    if b'"' in data or blank or data.count(as_bytes) != count * (len(header) - 1):
        return None
    whole_time = data[: data.find(b"\n")].split(as_bytes)[list(header).index("time")].strip().isdigit()
    types: dict[str, pl.DataType] = {name: pl.Float64() for name in _NUMBERS}
    types |= {"id": pl.Int64(), "time": pl.Int64() if whole_time else pl.String()}
    schema = {name: types.get(name, pl.String()) for name in header}
    try:
        table = pl.read_csv(io.BytesIO(data), has_header=False, schema=schema, separator=separator, quote_char=None)
    except pl.exceptions.PolarsError:
        return None
    return table if table.height == count else None


def _clean_json(data: bytes, count: int) -> pl.DataFrame | None:
    try:
        table = pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return None
    flat = not any(dtype.is_nested() for dtype in table.dtypes)
    return table if table.height == count and flat else None


def _by_line(lines: Lines, parse: Callable[[str], dict[str, str | None]]) -> Rows:
    """Read line by line, keeping every line that cannot be read with its number."""
    good, broken, number = list[dict[str, object]](), list[tuple[int, str, str]](), lines.first_line - 1
    for line in _split(lines.data):
        number += 1
        if not line.strip():
            continue
        try:
            good.append({**parse(line.decode("utf-8")), "line": number})
        except UnicodeDecodeError:
            broken.append((number, "broken_line", f"not UTF-8: {_shown(line)}"))
        except ValueError as error:
            broken.append((number, "broken_line", f"{error}: {_shown(line)}"))
    names = {name: pl.Int64() if name == "line" else pl.String() for row in good for name in row}
    return Rows(pl.DataFrame(good, names), _broken(broken), number, lines.share)


def _split(data: bytes) -> list[bytes]:
    """Split at newlines alone, as the line numbers count."""
    return data.removesuffix(b"\n").split(b"\n")


def _csv_line(header: Sequence[str], separator: str) -> Callable[[str], dict[str, str | None]]:
    def parse(text: str) -> dict[str, str | None]:
        text = text.rstrip("\r")
        try:
            fields = (
                next(csv.reader([text], delimiter=separator, strict=True)) if '"' in text else text.split(separator)
            )
        except csv.Error as error:
            raise ValueError(f"quotes that do not match ({error})") from error
        if len(fields) != len(header):
            raise ValueError(f"{len(fields)} columns where the header has {len(header)}")
        return dict(zip(header, fields, strict=True))

    return parse


def _json_line(text: str) -> dict[str, str | None]:
    row = orjson.loads(text)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return {
        name: None if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in row.items()
    }


def _broken(rows: list[tuple[int, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, BROKEN_SCHEMA, orient="row")


def _shown(data: bytes) -> str:
    return data[:MAX_TEXT_KEPT].decode("utf-8", "backslashreplace")
