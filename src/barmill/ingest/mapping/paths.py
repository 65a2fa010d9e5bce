"""Paths into JSON: RFC 9535, where the part before the first name may be omitted.

The library jsonpath-rfc9535 parses them, because it follows the standard, is typed, and reports the location of each
match. A path that can match only one location is walked here step by step: this is faster and shows where a wrong path
ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jsonpath_rfc9535 import JSONPathError, JSONPathQuery, compile
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector


class MappingError(ValueError):
    """The response does not match the mapping; the message names the path, what is there and what is needed."""


MAX_PATH_CHARACTERS = 300
_SHOWN_CHARACTERS = 80
_NAMES_SHOWN = 8
_FORBIDDEN = ("..", "(", ",", "$")

Step = str | int


class _Missing:
    """The type of MISSING, the result of a path that matches nothing."""


MISSING = _Missing()


@dataclass(frozen=True)
class PathMatch:
    """A value in a response, and the steps that lead to it."""

    value: object
    steps: tuple[Step, ...]

    @property
    def key(self) -> str | None:
        """Return the last name in the steps, such as the instrument whose value is a list of trades, or None."""
        return next((step for step in reversed(self.steps) if isinstance(step, str)), None)


@dataclass(frozen=True)
class Path:
    """A parsed path.

    steps: the steps before the first step that can match several locations; is_singular: there is no such step.
    """

    text: str
    query: JSONPathQuery
    steps: tuple[Step, ...]
    is_singular: bool

    def first(self, value: object) -> object:
        """Return the first value at this path, or MISSING."""
        if self.is_singular:
            count, value_at = self.matched_steps(value)
            return value_at if count == len(self.steps) else MISSING
        return next((match.value for match in self.all(value)), MISSING)

    def all(self, value: object) -> Iterator[PathMatch]:
        """Yield all values at this path, in the order of the response."""
        if self.is_singular:
            if (first_value := self.first(value)) is not MISSING:
                yield PathMatch(first_value, self.steps)
            return
        for node in self.query.finditer(value):  # type: ignore[arg-type]  # JSON; the static type cannot say so
            yield PathMatch(node.value, node.location)

    def matched_steps(self, value: object) -> tuple[int, object]:
        """Return the number of steps that match, and the value after the last of them."""
        for count, step in enumerate(self.steps):
            if isinstance(step, str):
                if not isinstance(value, dict) or step not in value:
                    return count, value
                value = value[step]
            else:
                if not isinstance(value, list) or not -len(value) <= step < len(value):
                    return count, value
                value = value[step]
        return len(self.steps), value

    def mismatch_text(self, value: object) -> str:
        """Return a message that says where this path ends in a value in which it matches nothing."""
        count, value_at = self.matched_steps(value)
        return f'"{self.text}" matches nothing: {_location(self.steps[:count])} is {short_text(value_at)}'


@lru_cache(maxsize=1_000)
def path_of(text: str) -> Path:
    """Parse a path such as `data[0].price`, `result.*[*]` or `$['a b']`; raise MappingError if it is invalid.

    Descendant segments, parentheses, commas and references to the root within a path are forbidden: with them, a short
    path could take very long in a large response.
    """
    if len(text) > MAX_PATH_CHARACTERS:
        raise MappingError(f"A path may have at most {MAX_PATH_CHARACTERS} characters; shorten it.")
    rest = text.strip().removeprefix("$").removeprefix("@").removeprefix(".")
    if forbidden := next((part for part in _FORBIDDEN if part in text.strip().removeprefix("$")), None):
        raise MappingError(
            f'"{text}" contains "{forbidden}"; a path may only have names, numbers, * and simple filters.'
        )
    try:
        query = compile("$" if not rest else f"${rest}" if rest.startswith("[") else f"$.{rest}")
    except JSONPathError as error:
        raise MappingError(
            f"\"{text}\" is not a path ({error}); write it like data[0].price, and quote special names as in ['a b']."
        ) from None
    steps = []
    for segment in query.segments:
        selector = segment.selectors[0]
        if len(segment.selectors) > 1 or not isinstance(selector, NameSelector | IndexSelector):
            break
        steps.append(selector.name if isinstance(selector, NameSelector) else selector.index)
    return Path(text, query, tuple(steps), len(steps) == len(query.segments))


def first_at(value: object, path: str) -> object:
    """Return the first value at a path, or None if nothing is there; an empty path is the value itself.

    Raise MappingError if the path is invalid.
    """
    value_at = path_of(path).first(value)
    return None if value_at is MISSING else value_at


def short_text(value: object) -> str:
    """Return a short description of a value in a response."""
    match value:
        case dict():
            names = ", ".join(str(name) for name in list(value)[:_NAMES_SHOWN])
            more = ", …" if len(value) > _NAMES_SHOWN else ""
            return _shorten(f"an object with {names}{more}") if value else "an empty object"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case str():
            return _shorten(f'the text "{value}"')
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
    return _shorten(f"the number {value}")


def _location(steps: tuple[Step, ...]) -> str:
    if not steps:
        return "there"
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
