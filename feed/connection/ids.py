"""Ids of ticks: of several parts, as numbers where the way in needs these, and what tells ticks of one id apart."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import blake2b

from feed.mapping.exact_json import text_of

_HIGHEST = 2**63 - 1
_CONTENT = ("price", "price_open", "price_close", "volume")
_PRECISIONS_NS = (1_000_000_000, 1_000_000, 1_000)


def numbered(text: str) -> int:
    """Return a number from 0 up, of 63 bits, that stands for this text: always the same, and hardly ever for two."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") & _HIGHEST


def id_of(value: object) -> int | None:
    """Return a provider's id as a number: whole numbers as they are, other texts by `numbered`, None for none."""
    if value is None:
        return None
    if type(value) is int and abs(value) <= _HIGHEST:
        return value
    text = str(value).strip()
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() else None
    return number if number is not None and number <= _HIGHEST else numbered(text)


def escaped(part: str) -> str:
    """Return a part of an id as it is joined with others by `/`, so that different parts never make the same id."""
    return part.replace("\\", "\\\\").replace("/", "\\/")


def content_of(row: Mapping[str, object]) -> str:
    """Return a short digest of the prices and volume of a row, however their numbers are written."""
    texts = "|".join(_number_text(row.get(name)) for name in _CONTENT)
    return b64encode(blake2b(texts.encode(), digest_size=3).digest()).decode()


def same_time(one_ns: int, other_ns: int) -> bool:
    """Tell whether two times are the same but for the precision of one of them."""
    apart_ns = abs(one_ns - other_ns)
    return not apart_ns or any(apart_ns < step and not (one_ns % step and other_ns % step) for step in _PRECISIONS_NS)


def _number_text(value: object) -> str:
    text = text_of(value) or ""
    try:
        return repr(float(text))
    except ValueError:
        return text
