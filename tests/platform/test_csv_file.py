"""Texts in CSV that a spreadsheet could take for formulas."""

import csv
import io
import re

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from barmill.platform.csv_file import csv_bytes, escape_cell, escape_table, unescape_cell
from barmill.platform.home import REPO_ROOT

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
# Lone surrogates are left out: they are no characters, and a Polars column cannot hold them.
CHARACTERS = st.characters(codec="utf-8")
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=20),
    st.builds(str.__add__, st.text("'=+-@\t\r\n", max_size=4), st.text(CHARACTERS, max_size=8)),
)


@given(st.lists(st.tuples(TEXTS, st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9)), max_size=5))
@example([('=HYPERLINK("http://evil.example")', -1.5, -1), ("'=1", 0.1, 0), ("-", -0.0, 1), ("\ttab", 1e300, 2)])
@settings(max_examples=100, deadline=None)
def test_no_text_begins_as_a_formula_and_all_of_it_comes_back(rows: list[tuple[str, float, int]]) -> None:
    names = ("instrument", "price", "count")
    table = pl.DataFrame(rows, {"instrument": pl.String(), "price": pl.Float64(), "count": pl.Int64()}, orient="row")
    found = list(csv.reader(io.StringIO(csv_bytes(table).decode(), newline="")))
    assert tuple(found[0]) == names
    assert not [cell for cell, *_ in found[1:] if cell.startswith(STARTS)]
    assert [(unescape_cell(text), float(price), int(count)) for text, price, count in found[1:]] == rows


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_one_text_is_written_as_a_table_writes_it(text: str) -> None:
    assert unescape_cell(escape_cell(text)) == text
    assert escape_table(pl.DataFrame({"a": [text]}))["a"].to_list() == [escape_cell(text)]


@pytest.mark.parametrize("text", ["", "BTC/USDT", "a=b", "'quoted'", "x-y", "1m"])
def test_other_texts_are_as_they_are(text: str) -> None:
    assert escape_cell(text) == text


def test_what_is_missing_stays_missing() -> None:
    assert csv_bytes(pl.DataFrame({"a": [None, "=1"], "b": [-1.5, None]})) == b"a,b\n,-1.5\n'=1,\n"


def test_all_csv_is_written_here() -> None:
    folders = ("cli", "control", "flink_jobs", "pages", "src", "views", "web")
    sources = [path for folder in folders for path in (REPO_ROOT / folder).rglob("*.py")]
    writing = [path.name for path in sources if re.search(r"\.write_csv\(", path.read_text("utf-8"))]
    assert writing == ["csv_file.py"]
