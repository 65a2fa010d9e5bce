"""Records of the audit trail: as a table to look at, and as files to take away. Pure."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields

import polars as pl

from bar.csv_file import harmless
from charts.texts import moment
from control.audit import ChainCheck, Record

_TABLE = ("No.", "Time, UTC", "Actor", "Action", "Subject", "Stage", "Trace", "Result", "Before", "After")


def record_table(records: Sequence[Record]) -> pl.DataFrame:
    """Return one row for each record; Trace is an address of this page that shows all records of one action."""
    rows = [
        (
            one.number,
            moment(one.time_ms),
            one.actor,
            one.action,
            one.subject,
            one.stage,
            trace_address(one.trace_id),
            one.result,
            one.before or "",
            one.after or "",
        )
        for one in records
    ]
    return pl.DataFrame(rows, {name: pl.Int64() if name == "No." else pl.String() for name in _TABLE}, orient="row")


def trace_address(trace_id: str) -> str:
    """Return where everything of one action is shown, relative to any page of the app."""
    return f"audit?audit_trace={trace_id}"


def as_csv(records: Sequence[Record]) -> bytes:
    """Return the records as CSV that a spreadsheet can be trusted with."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(Record)])
    writer.writerows(
        [[harmless(one) if isinstance(one, str) else one for one in astuple(record)] for record in records]
    )
    return text.getvalue().encode()


def as_json(records: Sequence[Record]) -> bytes:
    """Return the records as JSON, exactly as `./barmill audit list --json` prints them."""
    return json.dumps([asdict(one) for one in records], indent=2).encode()


def chain_sentence(check: ChainCheck) -> str:
    """Say what checking the chain found."""
    if check.problem:
        return f"The trail was tampered with. {check.problem} Compare it with a backup."
    return f"The trail is whole and unchanged, from its first record to number {check.records:,}."
