"""Paths into JSON: RFC 9535, with what stands before the first name left out.

jsonpath-rfc9535 reads them, because it keeps to the standard, has types, and says where each thing it found is. A path
that leads to one place is then walked here, step by step: that is quicker, and tells where a wrong path ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jsonpath_rfc9535 import JSONPathError, JSONPathQuery, compile
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

from feed.mapping.errors import MappingError

MAX_PATH_CHARACTERS = 300
_SHOWN_CHARACTERS = 80
_NAMES_SHOWN = 8
_REFUSED = ("..", "(", ",", "$")

Step = str | int


class _Missing:
    """What is found where nothing is."""


MISSING = _Missing()


@dataclass(frozen=True)
class Found:
    """Something in an answer, and the steps that lead to it."""

    value: object
    steps: tuple[Step, ...]

    @property
    def key(self) -> str | None:
        """Return the last name on the way here, such as the instrument that a list of trades stands under."""
        return next((step for step in reversed(self.steps) if isinstance(step, str)), None)


@dataclass(frozen=True)
class Path:
    """One path. steps: those before the first that can lead to several places; `one_place` says that these are all."""

    text: str
    query: JSONPathQuery
    steps: tuple[Step, ...]
    one_place: bool

    def first(self, value: object) -> object:
        """Return the first thing at this path, or MISSING."""
        if self.one_place:
            count, there = self.walked(value)
            return there if count == len(self.steps) else MISSING
        return next((found.value for found in self.all(value)), MISSING)

    def all(self, value: object) -> Iterator[Found]:
        """Yield everything at this path, in the order of the answer."""
        if self.one_place:
            if (there := self.first(value)) is not MISSING:
                yield Found(there, self.steps)
            return
        for node in self.query.finditer(value):  # type: ignore[arg-type]  # JSON, which the type of an answer cannot say
            yield Found(node.value, node.location)

    def walked(self, value: object) -> tuple[int, object]:
        """Return how many of the steps lead somewhere, and what is there."""
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

    def why_not(self, value: object) -> str:
        """Say how far this path leads into a value in which nothing is at its end."""
        count, there = self.walked(value)
        return f'"{self.text}" leads nowhere: {_place(self.steps[:count])} is {shown(there)}'


@lru_cache(maxsize=1_000)
def path_of(text: str) -> Path:
    """Read a path such as `data[0].price`, `result.*[*]` or `$['a b']`; raise MappingError where it is none.

    Descents, functions and lists of names are refused: each could make a small path take forever in a large answer.
    """
    if len(text) > MAX_PATH_CHARACTERS:
        raise MappingError(f"A path has at most {MAX_PATH_CHARACTERS} characters.")
    rest = text.strip().removeprefix("$").removeprefix("@").removeprefix(".")
    if refused := next((one for one in _REFUSED if one in text.strip().removeprefix("$")), None):
        raise MappingError(f'"{text}" holds "{refused}"; a path has names, numbers, * and plain filters only.')
    try:
        query = compile("$" if not rest else f"${rest}" if rest.startswith("[") else f"$.{rest}")
    except JSONPathError as error:
        raise MappingError(
            f"\"{text}\" is no path ({error}); it looks like data[0].price, with other names quoted as in ['a b']."
        ) from None
    steps = []
    for segment in query.segments:
        selector = segment.selectors[0]
        if len(segment.selectors) > 1 or not isinstance(selector, NameSelector | IndexSelector):
            break
        steps.append(selector.name if isinstance(selector, NameSelector) else selector.index)
    return Path(text, query, tuple(steps), len(steps) == len(query.segments))


def first_at(value: object, path: str) -> object:
    """Return the first thing at a path, or None where nothing is; an empty path is the value itself."""
    found = path_of(path).first(value)
    return None if found is MISSING else found


def shown(value: object) -> str:
    """Describe something in an answer in a few words."""
    match value:
        case dict():
            names = ", ".join(str(name) for name in list(value)[:_NAMES_SHOWN])
            more = ", …" if len(value) > _NAMES_SHOWN else ""
            return _cut(f"an object with {names}{more}") if value else "an empty object"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case str():
            return _cut(f'the text "{value}"')
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
    return _cut(f"the number {value}")


def _place(steps: tuple[Step, ...]) -> str:
    if not steps:
        return "there"
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
