"""Accounts: who may sign in, and with which role. What changes them is in administration.py and sign_in.py."""

from dataclasses import dataclass

from bar.sqlite import Database
from control.errors import NotAllowedError
from control.people.errors import NoSuchAccountError
from control.people.roles import GRANTS, Actor, Permission, Role
from control.people.tables import account_migrations

__all__ = ["Account", "account_migrations", "all_accounts", "authorise", "get_account"]

_COLUMNS = "name, role, disabled, created_ms, last_seen_ms, password_hash IS NOT NULL, identity"


@dataclass(frozen=True)
class Account:
    """What may be shown of an account.

    has_password: one was chosen. identity: whom an OIDC provider means, as "issuer subject".
    """

    name: str
    role: Role
    disabled: bool
    created_ms: int
    last_seen_ms: int | None
    has_password: bool
    identity: str | None

    @property
    def waiting(self) -> bool:
        """Tell whether nobody can sign in with this account yet."""
        return not self.has_password and self.identity is None


def all_accounts(db: Database) -> list[Account]:
    """Return every account, by name."""
    return [_account(row) for row in db.conn.execute(f"SELECT {_COLUMNS} FROM accounts ORDER BY name")]


def get_account(db: Database, name: str) -> Account:
    """Return the account of this name; raise NoSuchAccountError."""
    row = db.conn.execute(f"SELECT {_COLUMNS} FROM accounts WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NoSuchAccountError(f"There is no account named {name}; ./barmill user list shows all.")
    return _account(row)


def authorise(db: Database, actor: Actor, needs: Permission) -> None:
    """Raise NotAllowedError unless the actor's role, as it is at this moment, allows what is needed."""
    if actor.account is None:
        return
    row = db.conn.execute("SELECT role, disabled FROM accounts WHERE name = ?", (actor.account,)).fetchone()
    if row is None or row[1]:
        raise NotAllowedError(f"The account {actor.account} may not sign in any more; ask an admin.")
    if needs not in GRANTS[Role(row[0])]:
        raise NotAllowedError(f"As {row[0]}, {actor.account} may not {needs.value}; ask an admin.")


def _account(row: tuple[str, str, int, int, int | None, int, str | None]) -> Account:
    name, role, disabled, created_ms, last_seen_ms, has_password, identity = row
    return Account(name, Role(role), bool(disabled), created_ms, last_seen_ms, bool(has_password), identity)
