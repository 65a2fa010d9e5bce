"""Numbers as text: exactly what is stored."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.platform.home import REPO_ROOT
from barmill.platform.texts import number_text

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ORDINARY = st.one_of(
    st.floats(1e-12, 1e15), st.floats(-1e15, -1e-12), st.decimals(0, 10**6, places=8).map(float), st.integers(-9, 9)
)


@given(st.one_of(NUMBERS, ORDINARY), st.integers(0, 12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_number_comes_back(value: float, decimals: int, grouped: bool) -> None:
    assert float(number_text(value, decimals, grouped=grouped).replace(",", "")) == value


@given(ORDINARY, st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_ordinary_numbers_are_plain_and_have_the_decimals_they_need(value: float, decimals: int) -> None:
    text = number_text(value, decimals)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert len(text.partition(".")[2]) >= decimals
    assert not number_text(value).partition(".")[2].endswith("0")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, 2, "–"),
        (0.0, 0, "0"),
        (-0.0, 2, "0.00"),
        (41.6987654321, 2, "41.6987654321"),
        (41.7, 4, "41.7000"),
        (1.2e-7, 0, "0.00000012"),
        (0.1 + 0.2, 0, "0.30000000000000004"),
        (1e15, 0, "1000000000000000"),
        (1e21, 0, "1e+21"),
        (1e-16, 0, "1e-16"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, decimals: int, text: str) -> None:
    assert number_text(value, decimals) == text


def test_thousands_are_grouped_where_that_is_asked_for() -> None:
    assert [number_text(value, grouped=True) for value in (1234567.5, -1234.0, 999, 0.1234)] == [
        "1,234,567.5",
        "-1,234",
        "999",
        "0.1234",
    ]


def test_no_table_shows_none() -> None:
    for path in (*(REPO_ROOT / "pages").rglob("*.py"), *(REPO_ROOT / "views").rglob("*.py")):
        calls = path.read_text("utf-8").split("st.dataframe(")[1:]
        assert all("placeholder=" in call[:700] for call in calls), path.name
