"""The first admin: made at the first start, with a one-time link to choose a password.

Where the environment variable BARMILL_FIRST_ADMIN_FILE names a file, its content is the password instead.
"""

import os
from pathlib import Path

from bar.sqlite import Database
from control.database import immediate
from control.home import Home
from control.people.accounts import all_accounts
from control.people.administration import add_account, new_link
from control.people.database import open_people
from control.people.errors import AccountError
from control.people.roles import FIRST_START, Role
from control.secret_file import read_secret_file

FIRST_ADMIN = "admin"
PASSWORD_FILE_VARIABLE = "BARMILL_FIRST_ADMIN_FILE"


def first_admin(home: Home) -> str | None:
    """Return the name of an admin who has yet to choose a password, made if need be, as long as none can sign in."""
    with open_people(home) as db, immediate(db):
        return _waiting(db)


def first_admin_link(home: Home) -> tuple[str, str] | None:
    """Return an admin's name and the token of a new one-time link, as long as no admin can sign in yet."""
    with open_people(home) as db, immediate(db):
        name = _waiting(db)
        return None if name is None else (name, new_link(db, FIRST_START, name))


def _waiting(db: Database) -> str | None:
    accounts = all_accounts(db)
    admins = [one for one in accounts if one.role is Role.ADMIN and not one.disabled]
    if any(not one.waiting for one in admins) or (accounts and not admins):
        return None
    if admins:
        return admins[0].name
    named = os.environ.get(PASSWORD_FILE_VARIABLE, "")
    password = read_secret_file(Path(named), "password", AccountError) if named else None
    add_account(db, FIRST_START, FIRST_ADMIN, Role.ADMIN, password)
    return None if password else FIRST_ADMIN
