"""JSON parsing that does not round numbers, and reports NaN and Infinity instead of failing."""

import json
import re
from typing import NamedTuple, Self

import orjson

# Numbers of at most 15 digits survive a binary float, so orjson, which is several times as fast, reads them.
_LONG_NUMBER = re.compile(rb"[0-9.]{16}")
# Python refuses to parse longer integers, since that takes quadratic time.
_MAX_DIGITS = 4_000
# An escape of half a surrogate pair. Python's parser accepts it without its other half, orjson does not.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """The text is not JSON. The message says why."""


class Number(float):
    """A number that a binary float may not hold exactly. Its text is what was sent."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Store the text with the float."""
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


class Parsed(NamedTuple):
    """A JSON value, and whether it contains NaN or Infinity, which are not valid JSON."""

    value: object
    holds_nan: bool = False


def read_json(text: str | bytes) -> Parsed:
    """Parse JSON. Raise JsonError if the text is not JSON or is nested too deeply.

    Lone surrogates in names and texts are escaped, so that every text of the result can be stored, sent and shown.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if _LONG_NUMBER.search(data) is None:
        try:
            return Parsed(orjson.loads(data))
        except orjson.JSONDecodeError:
            pass  # it may contain NaN, which the other parser accepts
    constants: list[str] = []

    def parse_constant(name: str) -> Number:
        constants.append(name)
        return Number(name)

    try:
        value = json.loads(data.decode(), parse_float=Number, parse_int=_parse_int, parse_constant=parse_constant)
        value = _escaped(value) if _SURROGATE.search(data) else value
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    return Parsed(value, bool(constants))


def text_of(value: object) -> str | None:
    """Return a JSON value as text, without rounding numbers; None for null. Invalid Unicode is escaped."""
    if value is None:
        return None
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=True, default=str)
    return _encodable(str(value))


def _escaped(value: object) -> object:
    match value:
        case str():
            return _encodable(value)
        case list():
            return [_escaped(item) for item in value]
        case dict():
            return {_encodable(name): _escaped(item) for name, item in value.items()}
    return value


def _encodable(text: str) -> str:
    """Return the text with lone surrogates, which are not characters and cannot be encoded, as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _parse_int(digits: str) -> int | Number:
    return int(digits) if len(digits) <= _MAX_DIGITS else Number(digits)
