"""Looks at files before they are replayed: what they are, what is in them, and which options may help."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl

from feed.files.containers import natural
from feed.files.findings import Findings
from feed.files.layout import Layout
from feed.providers.files import Shape, rows_of
from feed.tick import REJECT_SCHEMA, TICK_SCHEMA, Checked, check
from feed.time_text import iso_text

# Without being asked for more, as many rows are looked at.
_GLANCE_ROWS = 100_000
_INSTRUMENTS_SHOWN = 5
_NONE = Checked(pl.DataFrame(schema=TICK_SCHEMA), pl.DataFrame(schema=REJECT_SCHEMA))


@dataclass(frozen=True)
class Inspected:
    """One document: its shape, what was found, and whether all of it was looked at."""

    path: Path
    shape: Shape
    found: Findings
    whole: bool


def inspect(files: Sequence[Path], layout: Layout, lateness_ms: int, *, whole: bool) -> list[Inspected]:
    """Look at each document of the files, at its beginning or at all of it.

    Raise ReplayFileError where one cannot be read, or does not fit the layout.
    """
    newest_ns = dict[str, int]()
    seen = list[Inspected]()
    for path in files:
        seen += _inspected(path, layout, lateness_ms, newest_ns, whole)
    return seen


def _inspected(path: Path, layout: Layout, lateness_ms: int, newest_ns: dict[str, int], whole: bool) -> list[Inspected]:
    seen = list[Inspected]()
    for shape, rows in rows_of(path, layout):
        if not seen or seen[-1].shape.document is not shape.document:
            found = Findings(lateness_ms=lateness_ms, newest_ns=newest_ns)
            seen.append(Inspected(path, shape, found, whole=True))
        found = seen[-1].found
        seen[-1] = Inspected(path, shape, found, whole=True)
        found.columns = shape.columns
        found.add(rows.ticks, check(rows.ticks, None) if rows.ticks.height else _NONE, rows.broken)
        if not whole and found.rows >= _GLANCE_ROWS:
            seen[-1] = Inspected(path, shape, found, whole=rows.share >= 1)
            break
    return seen


def in_natural_order(files: Sequence[Path], seen: Sequence[Inspected]) -> list[Path] | None:
    """Return the files by their names' natural order if their times rise in it, and not in the order given."""
    first_ns = dict[Path, int]()
    for one in seen:
        if one.found.first_ns is not None:
            first_ns.setdefault(one.path, one.found.first_ns)
    if len(set(files)) < len(files) or any(path not in first_ns for path in files):
        return None
    better = sorted(files, key=lambda path: natural(str(path)))
    return better if _rise(better, first_ns) and not _rise(files, first_ns) else None


def _rise(files: Sequence[Path], first_ns: dict[Path, int]) -> bool:
    return all(first_ns[before] <= first_ns[after] for before, after in pairwise(files))


def as_text(one: Inspected) -> str:
    """Describe a document in a few lines."""
    found = one.found
    packing = f" in {', in '.join(reversed(one.shape.document.packing))}" if one.shape.document.packing else ""
    shown = ", ".join(one.shape.columns)
    columns = shown if len(shown) <= 200 else shown[:200] + "…"
    separator = {"\t": " separated by tabs", ";": " separated by semicolons", "|": " separated by |"}
    kind = one.shape.kind + separator.get(one.shape.separator, "")
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in sorted(found.rejected.items()))
    part = "" if one.whole else " at its beginning"
    lines = [
        f"{one.shape.document.shown}: {kind}{packing}, columns {columns or 'unknown'}",
        f"  {found.rows:,} rows{part}: {found.ticks:,} ticks" + (f", rejects: {rejected}" if rejected else ""),
    ]
    if found.from_ns is not None and found.to_ns is not None:
        names = list(found.instruments)
        more = ", …" * (len(names) > _INSTRUMENTS_SHOWN)
        lines.append(f"  {iso_text(found.from_ns)} to {iso_text(found.to_ns)}, {found.order}")
        many = f"{len(names):,} instruments" if len(names) > 1 else "instrument"
        lines.append(f"  {many}: {', '.join(names[:_INSTRUMENTS_SHOWN])}{more}")
    return "\n".join([*lines, *(f"  damage: {text}" for text in found.damage[:3])])


def as_json(one: Inspected, advice: Sequence[str]) -> dict[str, object]:
    """Describe a document for programs."""
    found, shape = one.found, one.shape
    return {
        "file": shape.document.shown,
        "format": shape.kind,
        "packing": list(shape.document.packing),
        "columns": list(shape.columns),
        "whole": one.whole,
        "rows": found.rows,
        "ticks": found.ticks,
        "rejected": found.rejected,
        "from": None if found.from_ns is None else iso_text(found.from_ns),
        "to": None if found.to_ns is None else iso_text(found.to_ns),
        "order": found.order,
        "late": found.late,
        "instruments": len(found.instruments),
        "damage": found.damage,
        "advice": list(advice),
    }
