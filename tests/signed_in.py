"""People for tests: accounts and sessions written straight into a home, without the half second sign-in takes."""

from bar.clock import now_ms
from control.database import immediate
from control.home import Home
from control.people.accounts import all_accounts
from control.people.administration import insert_account
from control.people.database import open_people
from control.people.roles import Role
from control.people.sessions import Client, start_session
from control.people.settings import SignInSettings


def signed_in(home: Home, role: Role = Role.ADMIN, name: str = "") -> str:
    """Return the token of a new session of an account with this role, which is made where it is missing."""
    name = name or f"test-{role.value}"
    with open_people(home) as db, immediate(db):
        if name not in {one.name for one in all_accounts(db)}:
            insert_account(db, name, role)
        return start_session(db, name, Client("127.0.0.1", "a test"), SignInSettings.read(home), now_ms())
