"""Up to when the sources of each instrument are complete. Pure.

An instrument belongs to the sources with the longest prefix that its name begins with. All others say nothing of it, so
that one of them that is stuck keeps no bar of it open.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Protocol

import polars as pl

# By prefix; None while nobody knows.
CompleteTo = Mapping[str, int | None]
FOR_GOOD_MS = 2**61


class Completes(Protocol):
    """What a source says of itself: up to when it is complete, and whether it has nothing more to give."""

    @property
    def prefix(self) -> str: ...  # noqa: D102

    @property
    def complete_to_ms(self) -> int | None: ...  # noqa: D102

    @property
    def ended(self) -> bool: ...  # noqa: D102


def complete_to(sources: Iterable[Completes]) -> dict[str, int | None]:
    """Return by prefix up to when all sources that still run are complete; for good, where none does."""
    found = dict[str, int | None]()
    for source in sources:
        its_own_ms = FOR_GOOD_MS if source.ended else source.complete_to_ms
        so_far_ms = found.get(source.prefix, FOR_GOOD_MS)
        found[source.prefix] = None if its_own_ms is None or so_far_ms is None else min(its_own_ms, so_far_ms)
    return found


def by_instrument(values: Mapping[str, int | None], instrument: pl.Expr) -> pl.Expr:
    """Return the value of the prefix that each instrument belongs to; null where there is none."""
    longest_last = sorted(values, key=len)
    return reduce(
        lambda so_far, prefix: (
            pl.when(instrument.str.starts_with(prefix)).then(pl.lit(values[prefix], pl.Int64)).otherwise(so_far)
        ),
        longest_last,
        pl.lit(None, pl.Int64),
    )
