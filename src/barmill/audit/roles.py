"""Roles, their permissions, and the actor of an action."""

import os
import pwd
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The role of an account."""

    ADMIN = "admin"
    OPERATOR = "operator"
    TRADER = "trader"


class Permission(StrEnum):
    """A permission that an action can require."""

    VIEW_PRICES = "view bars and charts"
    VIEW_OPERATIONS = "view jobs, monitoring and data quality"
    OPERATE_JOBS = "start, stop, restart and rescale jobs"
    MANAGE_JOBS = "create, edit, cancel and delete jobs"
    MANAGE_KEYS = "manage API keys"
    MANAGE_FEEDS = "manage feeds"
    MANAGE_INSTRUMENTS = "enable and disable instruments"
    MANAGE_ACCOUNTS = "manage accounts"
    ACKNOWLEDGE_ALERTS = "acknowledge alerts"
    MANAGE_ALERTS = "change alerts"
    READ_AUDIT = "read the audit log"


_TRADER = frozenset({Permission.VIEW_PRICES})
_OPERATOR = _TRADER | {Permission.VIEW_OPERATIONS, Permission.OPERATE_JOBS, Permission.ACKNOWLEDGE_ALERTS}
GRANTS: dict[Role, frozenset[Permission]] = {
    Role.TRADER: _TRADER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True)
class Actor:
    """The actor of an action. name: as recorded in the audit log.

    account: the account whose current role decides. None for actors that the file system already lets open the home's
    files: its own processes, and the system user at the command line.
    """

    name: str
    account: str | None = None

    @classmethod
    def of_account(cls, account: str) -> "Actor":
        """Return the actor for a signed-in account."""
        return cls(account, account)

    @classmethod
    def at_command_line(cls) -> "Actor":
        """Return the actor for the system user who runs this process."""
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
        return cls(f"os:{user}")


FEED = Actor("feed")
CONTROLLER = Actor("controller")
FIRST_START = Actor("first start")
