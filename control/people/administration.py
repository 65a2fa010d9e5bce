"""What admins do to accounts: add, link, role, disable, enable.

Accounts are disabled, never removed: the names in the audit trail go on meaning whom they meant.
"""

import re
import secrets

from bar.clock import now_ms
from bar.sqlite import Database
from control.actions import action
from control.people.accounts import get_account
from control.people.errors import AccountError, LastAdminError
from control.people.passwords import check_rules, hashed
from control.people.roles import Actor, Permission, Role
from control.people.sessions import digest, end_sessions

LINK_VALID_MS = 24 * 3_600_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


def normal_name(text: str) -> str:
    """Return a name as accounts have it: small letters, no blanks around."""
    return text.strip().lower()


def add_account(db: Database, actor: Actor, name: str, role: Role, password: str | None = None) -> None:
    """Add an account; without a password, it waits for somebody with a link from `new_link`."""
    check_name(name)
    password_hash = None
    if password is not None:
        check_rules(password, name)
        password_hash = hashed(password)
    with action(db, actor, "account.add", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        insert_account(db, name, role, password_hash=password_hash)
        change.after = {"role": role.value}


def new_link(db: Database, actor: Actor, name: str) -> str:
    """Return the token of a new one-time link to choose a password with; the one before it opens nothing any more."""
    token = secrets.token_urlsafe(32)
    with action(db, actor, "account.link", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        account = get_account(db, name)
        if account.disabled:
            raise AccountError(f"The account {name} is disabled; enable it first.")
        if account.identity is not None:
            raise AccountError(f"{name} signs in with the OIDC provider and has no password here.")
        expires_ms = now_ms() + LINK_VALID_MS
        db.conn.execute("INSERT OR REPLACE INTO welcome_links VALUES (?, ?, ?)", (name, digest(token), expires_ms))
        change.after = {"expires_ms": expires_ms}
    return token


def set_role(db: Database, actor: Actor, name: str, role: Role) -> None:
    """Change what an account is for; it holds from the next action on, also in open pages."""
    with action(db, actor, "account.role", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        before = get_account(db, name)
        if before.identity is not None:
            raise AccountError(f"The role of {name} comes from the OIDC provider; change it there.")
        if role is not Role.ADMIN:
            keep_an_admin(db, name)
        db.conn.execute("UPDATE accounts SET role = ? WHERE name = ?", (role.value, name))
        change.before, change.after = {"role": before.role.value}, {"role": role.value}


def disable_account(db: Database, actor: Actor, name: str) -> None:
    """Let nobody in with this account any more, and end its sessions and its link."""
    with action(db, actor, "account.disable", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        before = get_account(db, name)
        keep_an_admin(db, name)
        db.conn.execute("UPDATE accounts SET disabled = 1 WHERE name = ?", (name,))
        db.conn.execute("DELETE FROM welcome_links WHERE account = ?", (name,))
        ended = end_sessions(db, name)
        change.before, change.after = {"disabled": before.disabled, "sessions": ended}, {"disabled": True}


def enable_account(db: Database, actor: Actor, name: str) -> None:
    """Let people in with this account again."""
    with action(db, actor, "account.enable", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        before = get_account(db, name)
        db.conn.execute("UPDATE accounts SET disabled = 0 WHERE name = ?", (name,))
        change.before, change.after = {"disabled": before.disabled}, {"disabled": False}


def check_name(name: str) -> None:
    """Raise AccountError unless an account may have this name."""
    if not _NAME.fullmatch(name):
        raise AccountError("An account's name is 1 to 64 small letters, digits and . _ @ + -, a letter or digit first.")


def insert_account(
    db: Database, name: str, role: Role, *, password_hash: str | None = None, identity: str | None = None
) -> None:
    """Write a new account in the caller's transaction; raise AccountError if the name is taken."""
    inserted = db.conn.execute(
        "INSERT INTO accounts (name, role, password_hash, disabled, created_ms, identity) VALUES (?, ?, ?, 0, ?, ?)"
        " ON CONFLICT (name) DO NOTHING",
        (name, role.value, password_hash, now_ms(), identity),
    )
    if not inserted.rowcount:
        raise AccountError(f"There is an account named {name} already; choose another name.")


def keep_an_admin(db: Database, without: str) -> None:
    """Raise LastAdminError if nobody else could manage accounts, in the caller's transaction."""
    others = "SELECT count(*) FROM accounts WHERE role = 'admin' AND disabled = 0 AND name <> ?"
    (count,) = db.conn.execute(others, (without,)).fetchone()
    active = "SELECT 1 FROM accounts WHERE role = 'admin' AND disabled = 0 AND name = ?"
    if not count and db.conn.execute(active, (without,)).fetchone():
        raise LastAdminError(f"{without} is the last active admin; make somebody else an admin first.")
