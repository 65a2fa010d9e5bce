"""Sign-in with an OIDC provider: role and account of an identity that the provider confirms.

An account is created at the first sign-in. It belongs to the provider's identifier, not to a name: a user named "ada"
at the provider does not get the local account "ada". The role is mapped again at each sign-in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from barmill.audit.accounts import AccountError, SignInError, all_accounts
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Role
from barmill.auth.administration import check_name, insert_account, normalize_name, require_other_admin
from barmill.auth.sessions import Client, end_sessions, start_session
from barmill.auth.settings import OidcSettings, SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import Database, immediate

_ROLES_STRONGEST_FIRST = (Role.ADMIN, Role.OPERATOR, Role.TRADER)


@dataclass(frozen=True)
class Identity:
    """An identity that the provider confirms. key: "issuer subject". role: the mapped role, or None."""

    key: str
    name: str
    role: Role | None


def identity_of(claims: Mapping[str, object], settings: OidcSettings) -> Identity:
    """Return the identity in the claims of a verified ID token. Raise SignInError if they contain no name."""
    name = normalize_name(str(claims.get(settings.name_claim) or ""))
    if not name:
        raise SignInError(f"{settings.label} did not send your name (claim {settings.name_claim}); ask an admin.")
    claim = claims.get(settings.role_claim)
    values = {str(role_name) for role_name in claim} if isinstance(claim, (list, tuple)) else {str(claim)}
    mapped = {role for value, role in settings.roles.items() if value in values}
    role = next((role for role in _ROLES_STRONGEST_FIRST if role in mapped), None)
    return Identity(f"{claims['iss']} {claims['sub']}", name, role)


def sign_in_identity(db: Database, identity: Identity, client: Client, settings: SignInSettings) -> str:
    """Sign in a confirmed identity with its mapped role, and return the token of a new session.

    Raise AccountError if sign-in is refused, and end the open sessions of the identity's account.
    """
    row = db.conn.execute("SELECT name, role, disabled FROM accounts WHERE identity = ?", (identity.key,)).fetchone()
    name, role, disabled = row or (identity.name, None, False)
    try:
        with action(db, Actor(f"oidc:{identity.name}"), "account.sign_in", name, needs=None) as change:
            if identity.role is None:
                raise SignInError("You have no role in Barmill; ask an admin.")
            if disabled:
                raise SignInError("This account is disabled; ask an admin.")
            if row is None:
                _add_account(db, identity, identity.role)
            elif role != identity.role:
                _set_role(db, name, identity.role)
            token = start_session(db, name, client, settings, now_ms())
            change.before = {"role": role}
            change.after = {"role": identity.role.value, "how": "OIDC", "address": client.address}
    except AccountError:
        # An account that is refused must not keep its open sessions either.
        with immediate(db):
            end_sessions(db, name if row else "")
        raise
    return token


def _add_account(db: Database, identity: Identity, role: Role) -> None:
    check_name(identity.name)
    if identity.name in {account.name for account in all_accounts(db)}:
        raise SignInError(f"The name {identity.name} belongs to another account here; ask an admin.")
    insert_account(db, identity.name, role, identity=identity.key)


def _set_role(db: Database, name: str, role: Role) -> None:
    if role is not Role.ADMIN:
        require_other_admin(db, name)
    db.conn.execute("UPDATE accounts SET role = ? WHERE name = ?", (role.value, name))
