"""CSV that is safe to open in a spreadsheet: no text in it is interpreted as a formula.

A text that begins with = + - @ (also full-width), a tab, a carriage return or a line feed gets an apostrophe as prefix,
as does a text with apostrophes before such a character. `unescape_cell` therefore restores exactly what was written.
Numbers are not changed.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import IO

import polars as pl

_FORMULA = "^'*[=+\\-@\t\r\n＝＋－＠]"


def escape_cell(text: str) -> str:
    """Return a text that is safe in a cell."""
    return f"'{text}" if re.match(_FORMULA, text) else text


def unescape_cell(text: str) -> str:
    """Return the text that was passed to `escape_cell`."""
    return text[1:] if text.startswith("'") and re.match(_FORMULA, text) else text


def escape_table(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose texts are safe in cells. Column names are not changed."""
    return table.with_columns(pl.col(pl.String).str.replace(_FORMULA, "'${0}"))


def write_csv(table: pl.DataFrame, target: IO[bytes] | Path, *, header: bool = True) -> None:
    """Write a table as CSV, with texts that are safe in cells."""
    escape_table(table).write_csv(target, include_header=header)


def csv_bytes(table: pl.DataFrame) -> bytes:
    """Return a table as CSV with a header, as `write_csv` writes it."""
    stream = BytesIO()
    write_csv(table, stream)
    return stream.getvalue()
