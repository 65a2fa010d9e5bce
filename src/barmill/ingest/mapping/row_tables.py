"""Rows as tables for ingest, every value as text so that nothing is rounded before the checks, and a filter of rows."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from barmill.model.tick_time import time_ns
from barmill.platform.exact_json import text_of

RawRow = Mapping[str, object]

REASON = "not_picked"
_MAX_NAMES = 10_000
_NAMES_SHOWN = 3
_NAME_CHARACTERS = 80
_COLUMNS = ("time", "instrument", "price", "price_open", "price_close", "volume")


def times_ns(values: Iterable[object]) -> list[int | None]:
    """Parse times in any format as nanoseconds since the epoch; None for values that are not times."""
    texts = pl.DataFrame({"time": [text_of(value) for value in values]}, {"time": pl.String})
    return texts.select(time_ns()).to_series().to_list()


def table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Return rows as a table for ingest, with every value as text, so that nothing is rounded."""
    names = [name for name in _COLUMNS if any(name in row for row in rows)] + ["id"]
    columns: dict[str, list[object]] = {name: [text_of(row.get(name)) for row in rows] for name in names}
    return pl.DataFrame(columns, dict.fromkeys(names, pl.String()))


def rejected_rows(rows: Sequence[Mapping[str, object]], reason: str, details: Sequence[str]) -> pl.DataFrame:
    """Return rows that are rejected before any check, as a table for `Batch.broken`."""
    texts = table(rows)
    if "price" in texts.columns:
        sides = [pl.col("price").alias(name) for name in ("price_open", "price_close") if name not in texts.columns]
        texts = texts.with_columns(sides).drop("price")
    return texts.with_columns(reason=pl.lit(reason), detail=pl.Series(details, dtype=pl.String), line=None)


class InstrumentFilter:
    """A filter of rows by whether the feed reads their instrument; names must match the provider's spelling exactly.

    The first row of each other name becomes a reject, and further rows of that name are only counted; otherwise a
    response for a whole market would hide all other rejects. rows: the number of rows left out.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._names: dict[str, None] = {}

    def split(self, rows: Sequence[RawRow], selected: frozenset[str]) -> tuple[list[RawRow], pl.DataFrame]:
        """Return the rows of `selected` (all rows if it is empty) and the rejects; rows without a name are kept."""
        selected_rows, others = list[RawRow](), list[RawRow]()
        for row in rows:
            name = row.get("instrument")
            (selected_rows if not selected or name is None or name in selected else others).append(row)
        self.rows += len(others)
        new = [row for row in others if self._is_new(str(row["instrument"]))]
        if not new:
            return selected_rows, pl.DataFrame()
        details = [_detail(str(row["instrument"]), selected) for row in new]
        return selected_rows, rejected_rows(new, REASON, details)

    @property
    def sentence(self) -> str:
        """Return a sentence about the rows left out so far, or an empty text."""
        if not self.rows:
            return ""
        names = f"{len(self._names):,} instruments" if len(self._names) > 1 else "an instrument"
        return f"{self.rows:,} rows of {names} that the feed does not read were ignored ({shown_names(self._names)})."

    def _is_new(self, name: str) -> bool:
        if name in self._names:
            return False
        self._names[name] = None
        if len(self._names) > _MAX_NAMES:
            del self._names[next(iter(self._names))]
        return True


def shown_names(names: Sequence[str] | Mapping[str, None] | frozenset[str]) -> str:
    """Return the first three names, quoted, and the number of further names."""
    quoted = [f'"{text_of(name[:_NAME_CHARACTERS])}"' for name in list(names)[:_NAMES_SHOWN]]
    return ", ".join(quoted) + (f" and {len(names) - len(quoted):,} more" if len(names) > len(quoted) else "")


def _detail(name: str, selected: frozenset[str]) -> str:
    similar = [candidate for candidate in selected if candidate.casefold() == name.casefold()]
    like = f', such as "{similar[0]}"' if similar else ""
    return (
        "the feed does not read this instrument; enable it with exactly this name, or map this name to the enabled one"
        f' by "names" in the mapping{like}'
    )
