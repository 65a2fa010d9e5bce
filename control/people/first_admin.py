"""The first admin: made at the first start, with a one-time link to choose a password."""

from control.actions import action
from control.database import immediate
from control.home import Home
from control.people.accounts import all_accounts
from control.people.administration import insert_account, new_link
from control.people.database import open_people
from control.people.roles import FIRST_START, Permission, Role

FIRST_ADMIN = "admin"


def first_admin_link(home: Home) -> tuple[str, str] | None:
    """Return an admin's name and the token of a new one-time link, as long as no admin can sign in yet."""
    with open_people(home) as db, immediate(db):
        accounts = all_accounts(db)
        admins = [one for one in accounts if one.role is Role.ADMIN and not one.disabled]
        if any(not one.waiting for one in admins) or (accounts and not admins):
            return None
        if not admins:
            with action(db, FIRST_START, "account.add", FIRST_ADMIN, needs=Permission.MANAGE_ACCOUNTS) as change:
                insert_account(db, FIRST_ADMIN, Role.ADMIN)
                change.after = {"role": Role.ADMIN.value}
        name = admins[0].name if admins else FIRST_ADMIN
        return name, new_link(db, FIRST_START, name)
