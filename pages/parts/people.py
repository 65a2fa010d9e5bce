"""How accounts and sessions are shown."""

from collections.abc import Sequence

import polars as pl

from control.clock import utc_text
from control.people.accounts import Account
from control.people.sessions import Session


def account_table(accounts: Sequence[Account]) -> pl.DataFrame:
    """Return one row for each account."""
    rows = [
        {
            "Name": one.name,
            "Role": one.role.value,
            "State": account_state(one),
            "Signs in with": "the OIDC provider" if one.identity else "a password",
            "Last seen": "never" if one.last_seen_ms is None else utc_text(one.last_seen_ms),
            "Added": utc_text(one.created_ms),
        }
        for one in accounts
    ]
    return pl.DataFrame(rows)


def account_state(account: Account) -> str:
    """Say in a word or two whether people can sign in with an account."""
    if account.disabled:
        return "disabled"
    return "waits for its link" if account.waiting else "active"


def session_table(sessions: Sequence[Session]) -> pl.DataFrame:
    """Return one row for each session."""
    rows = [
        {
            "Since": utc_text(one.created_ms),
            "Last seen": utc_text(one.last_seen_ms),
            "Address": one.address,
            "Browser": one.user_agent,
            "Ends at the latest": utc_text(one.expires_ms),
        }
        for one in sessions
    ]
    return pl.DataFrame(rows)
