"""CSV that a spreadsheet can be trusted with: no text in it is taken for a formula.

A text that begins with one of = + - @ (also full-width), a tab, a carriage return or a line feed gets an apostrophe
before it, as does one that has apostrophes before such a character; so `readable` gives back exactly what was written.
Numbers are as they are.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import IO

import polars as pl

_FORMULA = "^'*[=+\\-@\t\r\n＝＋－＠]"


def harmless(text: str) -> str:
    """Return a text as it may be in a cell."""
    return f"'{text}" if re.match(_FORMULA, text) else text


def readable(text: str) -> str:
    """Return what `harmless` was given."""
    return text[1:] if text.startswith("'") and re.match(_FORMULA, text) else text


def harmless_table(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table whose texts may be in cells."""
    return table.with_columns(pl.col(pl.String).str.replace(_FORMULA, "'${0}"))


def write_csv(table: pl.DataFrame, target: IO[bytes] | Path, *, header: bool = True) -> None:
    """Write a table as CSV."""
    harmless_table(table).write_csv(target, include_header=header)


def csv_text(table: pl.DataFrame) -> bytes:
    """Return a table as CSV."""
    stream = BytesIO()
    write_csv(table, stream)
    return stream.getvalue()
