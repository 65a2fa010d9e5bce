"""People whom an OIDC provider vouches for: which role they have, and their account.

Their accounts are made at their first sign-in and belong to the provider's own identifier, not to a name: whoever is
called "ada" there does not get the local account of that name. The role is the mapped one at each sign-in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bar.clock import now_ms
from bar.sqlite import Database
from control.actions import action
from control.database import immediate
from control.people.accounts import all_accounts
from control.people.administration import check_name, insert_account, keep_an_admin, normal_name
from control.people.errors import AccountError, SignInError
from control.people.roles import Actor, Role
from control.people.sessions import Client, end_sessions, start_session
from control.people.settings import OidcSettings, SignInSettings

_STRONGEST_FIRST = (Role.ADMIN, Role.OPERATOR, Role.TRADER)


@dataclass(frozen=True)
class Identity:
    """Whom the provider vouches for. key: "issuer subject". role: the mapped one, or None."""

    key: str
    name: str
    role: Role | None


def identity_of(claims: Mapping[str, object], settings: OidcSettings) -> Identity:
    """Read whom the claims of a verified ID token mean; raise SignInError where they do not say it."""
    name = normal_name(str(claims.get(settings.name_claim) or ""))
    if not name:
        raise SignInError(f"{settings.label} does not say your name ({settings.name_claim}); ask an admin.")
    found = claims.get(settings.role_claim)
    values = {str(one) for one in found} if isinstance(found, (list, tuple)) else {str(found)}
    mapped = {role for value, role in settings.roles.items() if value in values}
    role = next((role for role in _STRONGEST_FIRST if role in mapped), None)
    return Identity(f"{claims['iss']} {claims['sub']}", name, role)


def sign_in_identity(db: Database, one: Identity, client: Client, settings: SignInSettings) -> str:
    """Let in whom the provider vouches for, with the mapped role, and return the token of a new session."""
    row = db.conn.execute("SELECT name, role, disabled FROM accounts WHERE identity = ?", (one.key,)).fetchone()
    name, role, disabled = row or (one.name, None, False)
    try:
        with action(db, Actor(f"oidc:{one.name}"), "account.sign_in", name, needs=None) as change:
            if one.role is None:
                raise SignInError("You have no role in Barmill; ask an admin.")
            if disabled:
                raise SignInError("This account is disabled; ask an admin.")
            if row is None:
                _add_account(db, one, one.role)
            elif role != one.role:
                _set_role(db, name, one.role)
            token = start_session(db, name, client, settings, now_ms())
            change.before = {"role": role}
            change.after = {"role": one.role.value, "how": "OIDC", "address": client.address}
    except AccountError:
        # Whoever is not let in any more is not left in either.
        with immediate(db):
            end_sessions(db, name if row else "")
        raise
    return token


def _add_account(db: Database, one: Identity, role: Role) -> None:
    check_name(one.name)
    if one.name in {account.name for account in all_accounts(db)}:
        raise SignInError(f"The name {one.name} belongs to another account here; ask an admin.")
    insert_account(db, one.name, role, identity=one.key)


def _set_role(db: Database, name: str, role: Role) -> None:
    if role is not Role.ADMIN:
        keep_an_admin(db, name)
    db.conn.execute("UPDATE accounts SET role = ? WHERE name = ?", (role.value, name))
