"""Lone surrogates in JSON: half of a pair, which is no character, so no database, column or request can contain it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.platform.exact_json import read_json, text_of

HALVES = st.integers(0xD800, 0xDFFF).map(chr)
TEXTS = st.lists(st.characters(codec="utf-8") | HALVES, max_size=8).map("".join)


def literal(text: str) -> str:
    """Write a JSON string with every character as an escape."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.sampled_from(("", ", 12345678901234567890")))
def test_every_text_of_json_can_be_encoded(text: str, long_number: str) -> None:
    written = literal(text)
    value = read_json(f"[{written}, {{{written}: [{written}]}}{long_number}]").value
    assert isinstance(value, list)
    # Two halves side by side may be a pair, which is one character.
    expected = text_of(text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
    name, (inside,) = next(iter(value[1].items()))
    assert [value[0], name, inside] == [expected] * 3
    assert str(value).encode()


@pytest.mark.parametrize(
    ("sent", "found"),
    [(r"\ud800", r"\ud800"), (r"a\uDFFFé", r"a\udfffé"), (r"\ud83d\ude00", "😀"), (r"\\ud800", r"\ud800")],
)
def test_half_of_a_pair_is_escaped_and_a_pair_is_a_character(sent: str, found: str) -> None:
    assert read_json(f'{{"{sent}": "{sent}"}}').value == {found: found}
