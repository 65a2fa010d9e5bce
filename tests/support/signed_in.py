"""People for tests: accounts and sessions written straight into a home, without the half second sign-in takes."""

from barmill.audit.accounts import all_accounts, open_audited_db
from barmill.audit.roles import Role
from barmill.auth.administration import insert_account
from barmill.auth.sessions import Client, start_session
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate


def signed_in(home: Home, role: Role = Role.ADMIN, name: str = "") -> str:
    """Return the token of a new session of an account with this role, which is made where it is missing."""
    name = name or f"test-{role.value}"
    with open_audited_db(home) as db, immediate(db):
        if name not in {account.name for account in all_accounts(db)}:
            insert_account(db, name, role)
        return start_session(db, name, Client("127.0.0.1", "a test"), SignInSettings.read(home), now_ms())
