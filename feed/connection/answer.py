"""What a provider answered, and reading it as JSON without letting it take all memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from feed.connection.errors import BrokenAnswerError
from feed.mapping.exact_json import JsonError, Parsed, read_json

MAX_VALUES = 1_000_000
MAX_DEPTH = 64


@dataclass(frozen=True)
class Answer:
    """An answer with status 2xx.

    body: decompressed. server_ms: the clock of the provider by the Date header, which knows whole seconds, or None.
    asked_ms, took_ms: when the question went out by our clock, and how long the answer took.
    """

    host: str
    content_type: str
    body: bytes
    server_ms: int | None
    asked_ms: int
    took_ms: float

    @property
    def skew_ms(self) -> float | None:
        """Return the provider's clock less ours, to half a second, or None where the answer does not say."""
        if self.server_ms is None:
            return None
        return self.server_ms + 500 - (self.asked_ms + self.took_ms / 2)


def json_of(answer: Answer) -> object:
    """Return the value of `parsed`."""
    return parsed(answer).value


def parsed(answer: Answer) -> Parsed:
    """Read an answer as JSON; raise BrokenAnswerError where it is none, or one that is made to fill the memory."""
    # Each value but the first of a list or an object has a comma before it; commas in texts only make this stricter.
    values = answer.body.count(b",") + answer.body.count(b"[") + answer.body.count(b"{")
    if values > MAX_VALUES:
        raise BrokenAnswerError(f"{answer.host} answered with more than {MAX_VALUES:,} values; ask for fewer at once.")
    try:
        found = read_json(answer.body)
    except JsonError:
        kind = answer.content_type.partition(";")[0] or "something without a type"
        raise BrokenAnswerError(
            f"{answer.host} answered with {kind} that is not JSON; check the base URL and the path."
        ) from None
    if _deeper_than(found.value, MAX_DEPTH):
        raise BrokenAnswerError(f"{answer.host} answered with JSON nested deeper than {MAX_DEPTH} levels.")
    return found


def _deeper_than(value: object, depth: int) -> bool:
    """Walk down level by level, since a recursion as deep as the answer could be would itself be the accident."""
    level = _nested([value])
    while level and depth > 0:
        level = _nested(chain.from_iterable(level))
        depth -= 1
    return bool(level)


def _nested(values: Iterable[object]) -> list[Iterable[object]]:
    """Return what the lists and objects among the values hold."""
    return [one.values() if isinstance(one, dict) else one for one in values if isinstance(one, dict | list)]
