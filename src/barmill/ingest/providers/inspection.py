"""Inspection of files before a replay: their format, their content, and options that may help."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl

from barmill.ingest.files.containers import natural_key
from barmill.ingest.files.findings import Findings
from barmill.ingest.files.layout import Layout
from barmill.ingest.providers.files import DocumentFormat, rows_of
from barmill.model.tick import REJECT_SCHEMA, TICK_SCHEMA, CheckedRows, check
from barmill.model.time_text import iso_text

# By default, the inspection of a file ends when one of its documents has this many rows.
_DEFAULT_ROWS = 100_000
_INSTRUMENTS_SHOWN = 5
_NO_ROWS = CheckedRows(pl.DataFrame(schema=TICK_SCHEMA), pl.DataFrame(schema=REJECT_SCHEMA))


@dataclass(frozen=True)
class InspectedDocument:
    """One document: its format, the findings, and whether all of it was inspected."""

    path: Path
    document_format: DocumentFormat
    findings: Findings
    is_complete: bool


def inspect(files: Sequence[Path], layout: Layout, lateness_ms: int, *, inspect_all: bool) -> list[InspectedDocument]:
    """Inspect the documents of the files; lateness_ms: the allowed lateness, to count late rows.

    Unless inspect_all, the inspection of a file ends after about the first 100,000 rows of one of its documents. Raise
    ReplayFileError if a document cannot be read, or does not fit the layout.
    """
    newest_ns = dict[str, int]()
    results = list[InspectedDocument]()
    for path in files:
        results += _inspect_file(path, layout, lateness_ms, newest_ns, inspect_all)
    return results


def _inspect_file(
    path: Path, layout: Layout, lateness_ms: int, newest_ns: dict[str, int], inspect_all: bool
) -> list[InspectedDocument]:
    results = list[InspectedDocument]()
    for document_format, rows in rows_of(path, layout):
        if not results or results[-1].document_format.document is not document_format.document:
            findings = Findings(lateness_ms=lateness_ms, newest_ns=newest_ns)
            results.append(InspectedDocument(path, document_format, findings, is_complete=True))
        findings = results[-1].findings
        results[-1] = InspectedDocument(path, document_format, findings, is_complete=True)
        findings.columns = document_format.columns
        findings.add(rows.ticks, check(rows.ticks, None) if rows.ticks.height else _NO_ROWS, rows.broken)
        if not inspect_all and findings.rows >= _DEFAULT_ROWS:
            results[-1] = InspectedDocument(path, document_format, findings, is_complete=rows.share >= 1)
            break
    return results


def in_natural_order(files: Sequence[Path], results: Sequence[InspectedDocument]) -> list[Path] | None:
    """Return the files in natural order if only then their times rise; None in all other cases."""
    first_ns = dict[Path, int]()
    for inspected in results:
        if inspected.findings.first_ns is not None:
            first_ns.setdefault(inspected.path, inspected.findings.first_ns)
    if len(set(files)) < len(files) or any(path not in first_ns for path in files):
        return None
    sorted_files = sorted(files, key=lambda path: natural_key(str(path)))
    return sorted_files if _times_rise(sorted_files, first_ns) and not _times_rise(files, first_ns) else None


def _times_rise(files: Sequence[Path], first_ns: dict[Path, int]) -> bool:
    return all(first_ns[before] <= first_ns[after] for before, after in pairwise(files))


def as_text(inspected: InspectedDocument) -> str:
    """Return a description of a document in a few lines."""
    findings = inspected.findings
    packing = (
        f" in {', in '.join(reversed(inspected.document_format.document.packing))}"
        if inspected.document_format.document.packing
        else ""
    )
    joined_names = ", ".join(inspected.document_format.columns)
    columns = joined_names if len(joined_names) <= 200 else joined_names[:200] + "…"
    separator = {"\t": " separated by tabs", ";": " separated by semicolons", "|": " separated by |"}
    kind = inspected.document_format.kind + separator.get(inspected.document_format.separator, "")
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in sorted(findings.rejected.items()))
    part = "" if inspected.is_complete else " at the beginning"
    lines = [
        f"{inspected.document_format.document.label}: {kind}{packing}, columns {columns or 'unknown'}",
        f"  {findings.rows:,} rows{part}: {findings.ticks:,} ticks" + (f", rejects: {rejected}" if rejected else ""),
    ]
    if findings.from_ns is not None and findings.to_ns is not None:
        names = list(findings.instruments)
        more = ", …" * (len(names) > _INSTRUMENTS_SHOWN)
        lines.append(f"  {iso_text(findings.from_ns)} to {iso_text(findings.to_ns)}, {findings.order}")
        subject = f"{len(names):,} instruments" if len(names) > 1 else "instrument"
        lines.append(f"  {subject}: {', '.join(names[:_INSTRUMENTS_SHOWN])}{more}")
    return "\n".join([*lines, *(f"  damage: {text}" for text in findings.damage[:3])])


def as_json(inspected: InspectedDocument, advice: Sequence[str]) -> dict[str, object]:
    """Return the findings about a document as JSON values for programs."""
    findings, document_format = inspected.findings, inspected.document_format
    return {
        "file": document_format.document.label,
        "format": document_format.kind,
        "packing": list(document_format.document.packing),
        "columns": list(document_format.columns),
        "whole": inspected.is_complete,
        "rows": findings.rows,
        "ticks": findings.ticks,
        "rejected": findings.rejected,
        "from": None if findings.from_ns is None else iso_text(findings.from_ns),
        "to": None if findings.to_ns is None else iso_text(findings.to_ns),
        "order": findings.order,
        "late": findings.late,
        "instruments": len(findings.instruments),
        "damage": findings.damage,
        "advice": list(advice),
    }
