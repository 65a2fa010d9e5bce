"""Bars as files to take along, with names that say what is in them. Pure."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from bar.csv_file import csv_text
from bar.reader import BarQuery
from charts.studies import StudyLine

MOST_EXPORTED = 100_000


@dataclass(frozen=True)
class BarFile:
    """A file for the browser to keep."""

    name: str
    media_type: str
    content: bytes


def table_of(bars: pl.DataFrame, lines: Sequence[StudyLine]) -> pl.DataFrame:
    """Return the bars with a column more for each line, called as the line is."""
    return bars.with_columns(pl.Series(line.label, line.values, pl.Float64) for line in lines)


def csv_file(table: pl.DataFrame, query: BarQuery) -> BarFile:
    """Write a table of bars as CSV."""
    return BarFile(file_name(table, query, "csv"), "text/csv", csv_text(table))


def parquet_file(table: pl.DataFrame, query: BarQuery) -> BarFile:
    """Write a table of bars as Parquet."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return BarFile(file_name(table, query, "parquet"), "application/vnd.apache.parquet", buffer.getvalue())


def file_name(table: pl.DataFrame, query: BarQuery, ending: str) -> str:
    """Return a name that says which bars these are: from the start of the first to the end of the last."""
    span = [_moment(table["start_ms"][0]), _moment(table["end_ms"][-1])] if table.height else ["none"]
    as_of = [] if query.as_of_ms is None else [f"as-of-{_moment(query.as_of_ms)}"]
    instrument = re.sub(r"[^A-Za-z0-9.]+", "-", query.instrument)
    return f"{'_'.join([instrument, query.frame.text, *span, *as_of])}.{ending}"


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1_000, UTC).strftime("%Y%m%dT%H%M%SZ")
