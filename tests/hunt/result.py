"""What a part of a hunt found."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """rows: how many were tried. differences: results that are wrong; lost: rows without any result. Sentences."""

    rows: int = 0
    differences: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __add__(self, other: "Found") -> "Found":
        return Found(self.rows + other.rows, self.differences + other.differences, self.lost + other.lost)


# Tries about so many rows, made from a seed.
Kind = Callable[[int, int], Found]


def compared(rows: int, about: str, right: Iterable[Hashable], found: Iterable[Hashable]) -> Found:
    """Compare what came out with what should have, as multisets; what is missing is lost."""
    wanted, got = Counter(right), Counter(found)
    lost, more = list((wanted - got).elements()), list((got - wanted).elements())
    return Found(rows, _said(about, "too much", more), _said(about, "missing", lost))


def in_order(rows: int, about: str, right: Sequence[Hashable], found: Sequence[Hashable]) -> Found:
    """Compare as `compared` does, and also the order."""
    result = compared(rows, about, right, found)
    if result.differences or result.lost or list(right) == list(found):
        return result
    at = next(n for n, (wanted, other) in enumerate(zip(right, found, strict=True)) if wanted != other)
    return Found(rows, (f"{about}: position {at} holds {found[at]}, not {right[at]}",))


def _said(about: str, what: str, rows: Sequence[Hashable]) -> tuple[str, ...]:
    return tuple(f"{about}: {what}: {row}" for row in rows)
