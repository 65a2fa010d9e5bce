"""Rows of instruments that are read, and those of others, which are rejects and never disappear."""

from collections.abc import Mapping, Sequence

import polars as pl

from feed.mapping.exact_json import text_of
from feed.mapping.table import refused

RawRow = Mapping[str, object]

REASON = "not_picked"
_MOST_NAMES = 10_000
_NAMES_SHOWN = 3
_NAME_CHARACTERS = 80


class Picked:
    """Splits rows by whether their instrument is read; names are compared exactly as the provider spells them.

    The first row of each other name becomes a reject, and all others of that name are only counted: an answer about a
    whole market would otherwise bury every other reject. rows: how many were counted, names: of how many instruments.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._names: dict[str, None] = {}

    def split(self, rows: Sequence[RawRow], wanted: frozenset[str]) -> tuple[list[RawRow], pl.DataFrame]:
        """Return the rows of `wanted` (all rows where it is empty) and the rejects; a row without a name is wanted."""
        own, others = list[RawRow](), list[RawRow]()
        for row in rows:
            name = row.get("instrument")
            (own if not wanted or name is None or name in wanted else others).append(row)
        self.rows += len(others)
        new = [row for row in others if self._is_new(str(row["instrument"]))]
        if not new:
            return own, pl.DataFrame()
        details = [_detail(str(row["instrument"]), wanted) for row in new]
        return own, refused(new, REASON, details)

    @property
    def sentence(self) -> str:
        """Say what was left out so far; empty where nothing was."""
        if not self.rows:
            return ""
        names = f"{len(self._names):,} instruments" if len(self._names) > 1 else "an instrument"
        return f"{self.rows:,} rows of {names} that it does not read were left out ({shown_names(self._names)})."

    def _is_new(self, name: str) -> bool:
        if name in self._names:
            return False
        self._names[name] = None
        if len(self._names) > _MOST_NAMES:
            del self._names[next(iter(self._names))]
        return True


def shown_names(names: Sequence[str] | Mapping[str, None] | frozenset[str]) -> str:
    """Return a few names, quoted, and how many more there are."""
    shown = [f'"{text_of(name[:_NAME_CHARACTERS])}"' for name in list(names)[:_NAMES_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else "")


def _detail(name: str, wanted: frozenset[str]) -> str:
    near = [one for one in wanted if one.casefold() == name.casefold()]
    like = f', such as "{near[0]}"' if near else ""
    return (
        "the feed does not read this instrument; names are compared exactly as the provider spells them: pick this one,"
        f' or map it to the name that is picked by "names" in the mapping{like}'
    )
