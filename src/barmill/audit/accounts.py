"""Accounts: who can sign in, and with which role. Also the tables for sign-in, which store only hashes of secrets.

AccountError                    an account cannot be created or changed that way
├── NoSuchAccountError          there is no account with that name
├── LastAdminError              no account would be left that can manage accounts
├── PasswordRuleError           the new password is too short, too long, or too easy to guess
├── LinkError                   the one-time link was used, replaced, or has expired
├── PreferenceError             there is no such preference, or it cannot have that value
└── SignInError                 the sign-in is refused
    └── TooManyFailuresError    too many wrong passwords recently; the right one works again after a while
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from barmill.audit.roles import GRANTS, Actor, Permission, Role
from barmill.audit.trail import audit_migrations
from barmill.platform.errors import ControlError, NotAllowedError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, open_control_db


class AccountError(ControlError):
    """An account cannot be created or changed that way."""


class NoSuchAccountError(AccountError):
    """There is no account with that name."""


class LastAdminError(AccountError):
    """No account would be left that can manage accounts; make another account an admin first."""


class PasswordRuleError(AccountError):
    """The new password is too short, too long, or too easy to guess; choose another one."""


class LinkError(AccountError):
    """The one-time link was used, replaced, or has expired; ask an admin for a new one."""


class PreferenceError(AccountError):
    """There is no such preference, or it cannot have that value."""


class SignInError(AccountError):
    """The sign-in is refused."""


class TooManyFailuresError(SignInError):
    """Too many wrong passwords recently. wait_s: whole seconds after which the right one works again."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"Too many wrong passwords; try again in {wait_s} s.")
        self.wait_s = wait_s


# Each file stores the names of its migrations, so the functions are never renamed.
account_migrations = Migrations("accounts")


@account_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    db.table("accounts").create(
        {"name": str, "role": str, "password_hash": str, "disabled": int, "created_ms": int},
        pk="name",
        not_null={"name", "role", "disabled", "created_ms"},
        strict=True,
    )


@account_migrations()
def add_sign_in(db: Database) -> None:
    """Add tables and columns for sign-in: sessions, one-time links, failures, and identities at an OIDC provider."""
    for statement in (
        "ALTER TABLE accounts ADD COLUMN last_seen_ms INTEGER",
        "ALTER TABLE accounts ADD COLUMN identity TEXT",
        "CREATE UNIQUE INDEX accounts_by_identity ON accounts (identity)",
        "CREATE TABLE sessions (token_hash TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
        " account TEXT NOT NULL REFERENCES accounts (name), created_ms INTEGER NOT NULL,"
        " last_seen_ms INTEGER NOT NULL, idle_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
        " address TEXT NOT NULL, user_agent TEXT NOT NULL) STRICT",
        "CREATE INDEX sessions_by_account ON sessions (account)",
        "CREATE TABLE welcome_links (account TEXT PRIMARY KEY REFERENCES accounts (name), token_hash TEXT NOT NULL"
        " UNIQUE, expires_ms INTEGER NOT NULL) STRICT",
        "CREATE TABLE sign_in_failures (key TEXT PRIMARY KEY, failures INTEGER NOT NULL, last_ms INTEGER NOT NULL)"
        " STRICT",
    ):
        db.conn.execute(statement)


@account_migrations()
def add_preferences(db: Database) -> None:
    """Add the table of account preferences."""
    db.conn.execute(
        "CREATE TABLE preferences (account TEXT PRIMARY KEY REFERENCES accounts (name), settings TEXT NOT NULL,"
        " changed_ms INTEGER NOT NULL) STRICT"
    )


_COLUMNS = "name, role, disabled, created_ms, last_seen_ms, password_hash IS NOT NULL, identity"


@dataclass(frozen=True)
class Account:
    """The public data of an account.

    has_password: whether a password has been chosen.
    identity: the account's identity at an OIDC provider, as "issuer subject".
    """

    name: str
    role: Role
    disabled: bool
    created_ms: int
    last_seen_ms: int | None
    has_password: bool
    identity: str | None

    @property
    def awaits_sign_in(self) -> bool:
        """Return whether the account has neither a password nor an OIDC identity yet."""
        return not self.has_password and self.identity is None


@contextmanager
def open_audited_db(home: Home) -> Iterator[Database]:
    """Open the control database of a home, with accounts and audit log, for the block."""
    db = open_control_db(home, audit_migrations, account_migrations)
    try:
        yield db
    finally:
        db.conn.close()


def all_accounts(db: Database) -> list[Account]:
    """Return every account, by name."""
    return [_account(row) for row in db.conn.execute(f"SELECT {_COLUMNS} FROM accounts ORDER BY name")]


def get_account(db: Database, name: str) -> Account:
    """Return the account with this name. Raise NoSuchAccountError if there is none."""
    row = db.conn.execute(f"SELECT {_COLUMNS} FROM accounts WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NoSuchAccountError(f"There is no account named {name}; ./barmill user list shows all.")
    return _account(row)


def authorize(db: Database, actor: Actor, needs: Permission) -> None:
    """Raise NotAllowedError unless the actor's account is enabled and its current role has the permission.

    An actor without an account has every permission.
    """
    if actor.account is None:
        return
    row = db.conn.execute("SELECT role, disabled FROM accounts WHERE name = ?", (actor.account,)).fetchone()
    if row is None or row[1]:
        raise NotAllowedError(f"The account {actor.account} is disabled; ask an admin.")
    if needs not in GRANTS[Role(row[0])]:
        raise NotAllowedError(f"As {row[0]}, {actor.account} may not {needs.value}; ask an admin.")


def _account(row: tuple[str, str, int, int, int | None, int, str | None]) -> Account:
    name, role, disabled, created_ms, last_seen_ms, has_password, identity = row
    return Account(name, Role(role), bool(disabled), created_ms, last_seen_ms, bool(has_password), identity)
