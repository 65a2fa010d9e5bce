"""Administration of accounts: password rules and hashes, changes of accounts, and the first admin of a home.

Accounts are disabled, never removed, so that names in the audit log keep their meaning.
"""

import functools
import os
import re
import secrets
import threading
import unicodedata
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from barmill.audit.accounts import (
    AccountError,
    LastAdminError,
    PasswordRuleError,
    all_accounts,
    get_account,
    open_audited_db,
)
from barmill.audit.actions import action
from barmill.audit.roles import FIRST_START, Actor, Permission, Role
from barmill.auth.sessions import digest, end_sessions
from barmill.platform.clock import MS_PER_HOUR, now_ms
from barmill.platform.home import Home
from barmill.platform.settings_file import read_secret_file
from barmill.platform.sqlite_file import Database, immediate

MIN_PASSWORD_LENGTH = 10
# Longer passwords would only take more time to hash.
MAX_PASSWORD_LENGTH = 1_000

_hasher = PasswordHasher()
# Each hash takes 64 MiB and some tenths of a CPU second. Limit them, so that many guesses at once do not overload the
# machine.
_hash_slots = threading.BoundedSemaphore(2)


def check_rules(password: str, account: str) -> None:
    """Raise PasswordRuleError unless the password is strong enough for this account."""
    if len(password) < MIN_PASSWORD_LENGTH:
        raise PasswordRuleError(f"The password has {len(password)} characters; use at least {MIN_PASSWORD_LENGTH}.")
    if len(password) > MAX_PASSWORD_LENGTH:
        raise PasswordRuleError(f"The password is longer than {MAX_PASSWORD_LENGTH} characters; choose a shorter one.")
    if password.casefold() == account.casefold():
        raise PasswordRuleError("The password is the account's name; choose another one.")
    if len(set(password)) == 1:
        raise PasswordRuleError("The password repeats a single character; choose another one.")


def hash_password(password: str) -> str:
    """Return the hash to store, with its own salt and parameters."""
    with _hash_slots:
        return _hasher.hash(_normalized(password))


def password_matches(password_hash: str | None, password: str) -> bool:
    """Return whether this is the password. Without a hash, return False after the same time."""
    dummy = _dummy_hash()
    if len(password) > MAX_PASSWORD_LENGTH:
        return False
    try:
        with _hash_slots:
            _hasher.verify(password_hash or dummy, _normalized(password))
    except VerifyMismatchError:
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Return whether the hash was made with outdated parameters and should be replaced."""
    return _hasher.check_needs_rehash(password_hash)


def _normalized(password: str) -> str:
    # Different keyboards may enter the same letters as different code points.
    return unicodedata.normalize("NFKC", password)


@functools.cache
def _dummy_hash() -> str:
    return _hasher.hash(secrets.token_hex())


LINK_VALID_MS = 24 * MS_PER_HOUR
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


def normalize_name(text: str) -> str:
    """Return a name in the form that accounts use: lowercase, without surrounding spaces."""
    return text.strip().lower()


def add_account(db: Database, actor: Actor, name: str, role: Role, password: str | None = None) -> None:
    """Add an account. Without a password, it waits for the user to choose one with a link from `new_link`.

    Raise AccountError if the name is invalid or taken, and PasswordRuleError if the password is too weak.
    """
    check_name(name)
    password_hash = None
    if password is not None:
        check_rules(password, name)
        password_hash = hash_password(password)
    with action(db, actor, "account.add", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        insert_account(db, name, role, password_hash=password_hash)
        change.after = {"role": role.value}


def new_link(db: Database, actor: Actor, name: str) -> str:
    """Return the token of a new one-time link to choose a password. The previous link becomes invalid.

    The link is valid for 24 hours. Raise AccountError if the account does not exist, is disabled or signs in with OIDC.
    """
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
    """Change the role of an account. It applies from the next action on, even in open pages.

    Raise AccountError if the account does not exist or its role comes from OIDC, and LastAdminError as
    `require_other_admin` does.
    """
    with action(db, actor, "account.role", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        before = get_account(db, name)
        if before.identity is not None:
            raise AccountError(f"The role of {name} comes from the OIDC provider; change it there.")
        if role is not Role.ADMIN:
            require_other_admin(db, name)
        db.conn.execute("UPDATE accounts SET role = ? WHERE name = ?", (role.value, name))
        change.before, change.after = {"role": before.role.value}, {"role": role.value}


def disable_account(db: Database, actor: Actor, name: str) -> None:
    """Disable an account, and end its sessions and its link; raise LastAdminError as `require_other_admin` does."""
    with action(db, actor, "account.disable", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        before = get_account(db, name)
        require_other_admin(db, name)
        db.conn.execute("UPDATE accounts SET disabled = 1 WHERE name = ?", (name,))
        db.conn.execute("DELETE FROM welcome_links WHERE account = ?", (name,))
        ended = end_sessions(db, name)
        change.before, change.after = {"disabled": before.disabled, "sessions": ended}, {"disabled": True}


def enable_account(db: Database, actor: Actor, name: str) -> None:
    """Enable a disabled account. Raise NoSuchAccountError if there is no such account."""
    with action(db, actor, "account.enable", name, needs=Permission.MANAGE_ACCOUNTS) as change:
        before = get_account(db, name)
        db.conn.execute("UPDATE accounts SET disabled = 0 WHERE name = ?", (name,))
        change.before, change.after = {"disabled": before.disabled}, {"disabled": False}


def check_name(name: str) -> None:
    """Raise AccountError unless an account may have this name."""
    if not _NAME.fullmatch(name):
        raise AccountError(
            "An account name has 1 to 64 lowercase letters, digits or . _ @ + -, and starts with a letter or digit."
        )


def insert_account(
    db: Database, name: str, role: Role, *, password_hash: str | None = None, identity: str | None = None
) -> None:
    """Insert a new account in the caller's transaction. Raise AccountError if the name is taken."""
    inserted = db.conn.execute(
        "INSERT INTO accounts (name, role, password_hash, disabled, created_ms, identity) VALUES (?, ?, ?, 0, ?, ?)"
        " ON CONFLICT (name) DO NOTHING",
        (name, role.value, password_hash, now_ms(), identity),
    )
    if not inserted.rowcount:
        raise AccountError(f"An account named {name} already exists; choose another name.")


def require_other_admin(db: Database, name: str) -> None:
    """Raise LastAdminError if this account is the only active admin; check in the caller's transaction."""
    others_query = "SELECT count(*) FROM accounts WHERE role = 'admin' AND disabled = 0 AND name <> ?"
    (count,) = db.conn.execute(others_query, (name,)).fetchone()
    active_query = "SELECT 1 FROM accounts WHERE role = 'admin' AND disabled = 0 AND name = ?"
    if not count and db.conn.execute(active_query, (name,)).fetchone():
        raise LastAdminError(f"{name} is the last active admin; make another account an admin first.")


FIRST_ADMIN = "admin"
PASSWORD_FILE_VARIABLE = "BARMILL_FIRST_ADMIN_FILE"


def ensure_first_admin(home: Home) -> str | None:
    """Create the first admin if there are no accounts. Return an active admin without a password, or None.

    None: an active admin can sign in, or no account is an active admin. Raise AccountError if the password file cannot
    be used.
    """
    with open_audited_db(home) as db, immediate(db):
        return _ensure_first_admin(db)


def first_admin_link(home: Home) -> tuple[str, str] | None:
    """Return the admin of `ensure_first_admin` and the token of a new one-time link, or None if it returns None."""
    with open_audited_db(home) as db, immediate(db):
        name = _ensure_first_admin(db)
        return None if name is None else (name, new_link(db, FIRST_START, name))


def _ensure_first_admin(db: Database) -> str | None:
    accounts = all_accounts(db)
    admins = [account for account in accounts if account.role is Role.ADMIN and not account.disabled]
    if any(not admin.awaits_sign_in for admin in admins) or (accounts and not admins):
        return None
    if admins:
        return admins[0].name
    password_file = os.environ.get(PASSWORD_FILE_VARIABLE, "")
    password = read_secret_file(Path(password_file), "password", AccountError) if password_file else None
    add_account(db, FIRST_START, FIRST_ADMIN, Role.ADMIN, password)
    return None if password else FIRST_ADMIN
