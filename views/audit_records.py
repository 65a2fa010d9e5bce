"""Accounts, sessions and audit records as tables, and audit records as CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields

import polars as pl

from barmill.audit.accounts import Account
from barmill.audit.trail import ChainCheck, Record
from barmill.auth.sessions import Session
from barmill.platform.csv_file import escape_cell
from barmill.platform.texts import moment, utc_text

_TABLE = ("No.", "Time, UTC", "Actor", "Action", "Subject", "Stage", "Trace", "Result", "Before", "After")


def record_table(records: Sequence[Record]) -> pl.DataFrame:
    """Return one row per record; Trace is the address that shows all records of one action."""
    rows = [
        (
            record.number,
            moment(record.time_ms),
            record.actor,
            record.action,
            record.subject,
            record.stage,
            trace_address(record.trace_id),
            record.result,
            record.before or "",
            record.after or "",
        )
        for record in records
    ]
    return pl.DataFrame(rows, {name: pl.Int64() if name == "No." else pl.String() for name in _TABLE}, orient="row")


def trace_address(trace_id: str) -> str:
    """Return the address that shows all records of one action, relative to any page of the app."""
    return f"audit?audit_trace={trace_id}"


def as_csv(records: Sequence[Record]) -> bytes:
    """Return the records as CSV that is safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(Record)])
    writer.writerows(
        [[escape_cell(value) if isinstance(value, str) else value for value in astuple(record)] for record in records]
    )
    return text.getvalue().encode()


def as_json(records: Sequence[Record]) -> bytes:
    """Return the records as JSON, exactly as `./barmill audit list --json` prints them."""
    return json.dumps([asdict(record) for record in records], indent=2).encode()


def chain_sentence(check: ChainCheck) -> str:
    """Return the result of the check of the hash chain as a sentence."""
    if check.problem:
        return f"The audit log was tampered with. {check.problem} Compare it with a backup."
    return f"The audit log is complete and unchanged, from its first record to number {check.records:,}."


def account_table(accounts: Sequence[Account]) -> pl.DataFrame:
    """Return one row per account."""
    rows = [
        {
            "Name": account.name,
            "Role": account.role.value,
            "State": account_state(account),
            "Signs in with": "the OIDC provider" if account.identity else "a password",
            "Last seen": "never" if account.last_seen_ms is None else utc_text(account.last_seen_ms),
            "Added": utc_text(account.created_ms),
        }
        for account in accounts
    ]
    return pl.DataFrame(rows)


def account_state(account: Account) -> str:
    """Return in a few words whether sign-in with an account is possible."""
    if account.disabled:
        return "disabled"
    return "link not used yet" if account.awaits_sign_in else "active"


def session_table(sessions: Sequence[Session]) -> pl.DataFrame:
    """Return one row per session."""
    rows = [
        {
            "Since": utc_text(session.created_ms),
            "Last seen": utc_text(session.last_seen_ms),
            "Address": session.address,
            "Browser": session.user_agent,
            "Expires": utc_text(session.expires_ms),
        }
        for session in sessions
    ]
    return pl.DataFrame(rows)
