"""JSON read without rounding: a number keeps every digit that was sent, and NaN is noticed instead of failing."""

import json
import re
from typing import NamedTuple, Self

import orjson

# Numbers of at most 15 digits survive a binary float; orjson, which is several times as fast, reads these.
_LONG_NUMBER = re.compile(rb"[0-9.]{16}")
# Python refuses to read longer whole numbers, since that takes time quadratic in their length.
_MOST_DIGITS = 4_000


class JsonError(ValueError):
    """The text is not JSON; the message says why."""


class Number(float):
    """A number that a binary float may not hold exactly; as text it is what was sent."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Keep the text beside the float."""
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


class Parsed(NamedTuple):
    """A JSON value, and whether it holds NaN or Infinity, which JSON does not have."""

    value: object
    holds_nan: bool = False


def read_json(text: str | bytes) -> Parsed:
    """Read JSON; raise JsonError where the text is none, or is nested too deeply to be read."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if _LONG_NUMBER.search(data) is None:
        try:
            return Parsed(orjson.loads(data))
        except orjson.JSONDecodeError:
            pass  # it may hold NaN, which the other reader takes
    constants: list[str] = []

    def constant(name: str) -> Number:
        constants.append(name)
        return Number(name)

    try:
        value = json.loads(data.decode(), parse_float=Number, parse_int=_whole, parse_constant=constant)
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    return Parsed(value, bool(constants))


def text_of(value: object) -> str | None:
    """Return a value of JSON as the text that was sent, None for null; what Unicode does not allow is escaped."""
    if value is None:
        return None
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=True, default=str)
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _whole(digits: str) -> int | Number:
    return int(digits) if len(digits) <= _MOST_DIGITS else Number(digits)
