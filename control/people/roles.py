"""Who may do what: roles, the permissions each has, and the actor behind an action."""

import os
import pwd
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What an account is for."""

    ADMIN = "admin"
    OPERATOR = "operator"
    TRADER = "trader"


class Permission(StrEnum):
    """What can be allowed; each action names the one it needs."""

    VIEW_PRICES = "look at bars and charts"
    VIEW_OPERATIONS = "look at jobs, monitoring and data quality"
    OPERATE_JOBS = "start, stop, restart and rescale jobs"
    MANAGE_JOBS = "create, edit, cancel and delete jobs"
    MANAGE_KEYS = "manage API keys"
    MANAGE_FEEDS = "manage feeds"
    MANAGE_INSTRUMENTS = "pick instruments"
    MANAGE_ACCOUNTS = "manage accounts"
    ACKNOWLEDGE_ALERTS = "acknowledge alerts"
    MANAGE_ALERTS = "change alerts"
    READ_AUDIT = "read the audit trail"


_TRADER = frozenset({Permission.VIEW_PRICES})
_OPERATOR = _TRADER | {Permission.VIEW_OPERATIONS, Permission.OPERATE_JOBS, Permission.ACKNOWLEDGE_ALERTS}
GRANTS: dict[Role, frozenset[Permission]] = {
    Role.TRADER: _TRADER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True)
class Actor:
    """Who acts. name is what the audit trail says.

    account: whose present role decides; None for whoever can open the home's files anyway: its own processes, and the
    system user at the command line, both of whom the file system has let in.
    """

    name: str
    account: str | None = None

    @classmethod
    def of_account(cls, account: str) -> "Actor":
        """Return the actor behind a signed-in account."""
        return cls(account, account)

    @classmethod
    def at_command_line(cls) -> "Actor":
        """Return the system user who runs this process."""
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
        return cls(f"os:{user}")


FEED = Actor("feed")
CONTROLLER = Actor("controller")
FIRST_START = Actor("first start")
