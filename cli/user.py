"""`barmill user`: manage accounts. Any user with access to the files of the home can run all actions."""

import argparse
import json
import sys
from collections.abc import Callable

from barmill.audit.accounts import Account, all_accounts, get_account, open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth import administration
from barmill.auth.preferences import preferences, save_preferences
from barmill.auth.sessions import end_all_sessions, sessions_of
from barmill.auth.settings import app_address
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database
from barmill.platform.texts import utc_text
from cli.common import UserError

_Run = Callable[[Home, Database, argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def command(name: str, run_user: _Run, text: str) -> argparse.ArgumentParser:
        subparser: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}."
        )
        subparser.set_defaults(run_user=run_user)
        if name != "list":
            subparser.add_argument("name", metavar="NAME", type=administration.normalize_name)
        return subparser

    add_parser = command("add", _add, "add an account, and print a one-time link for choosing its password")
    add_parser.add_argument("--role", choices=list(Role), required=True, help="the role of the account")
    add_parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    list_parser = command("list", _list, "list the accounts")
    list_parser.add_argument("--json", action="store_true", help="print JSON")
    role_parser = command("role", _role, "change the role of an account")
    role_parser.add_argument("role", choices=list(Role), metavar="ROLE", help="admin, operator or trader")
    for name, run_user, text in (
        ("link", _link, "print a new one-time link, for example for a lost password"),
        ("disable", _disable, "disable an account and end its sessions"),
        ("enable", _enable, "enable an account"),
        ("sign-out", _sign_out, "end all sessions of an account"),
    ):
        command(name, run_user, text)
    sessions_parser = command("sessions", _sessions, "list the sessions of an account")
    sessions_parser.add_argument("--json", action="store_true", help="print JSON")
    preferences_parser = command("preferences", _preferences, "show or change the preferences of an account")
    preferences_parser.add_argument("--json", action="store_true", help="print JSON")
    preferences_parser.add_argument(
        *("--set", "-s"),
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="such as theme=dark; separate favourites with commas",
    )


def run(args: argparse.Namespace) -> int:
    """Run the action and return the exit code."""
    home = Home.find()
    try:
        with open_audited_db(home.create()) as db:
            args.run_user(home, db, args)
    except ControlError as error:
        raise UserError(str(error)) from error
    return 0


def _add(home: Home, db: Database, args: argparse.Namespace) -> None:
    password = _password() if args.password_stdin else None
    administration.add_account(db, Actor.at_command_line(), args.name, Role(args.role), password)
    print(f"Added {args.name} as {args.role}.")
    if password is None:
        _link(home, db, args)


def _list(_home: Home, db: Database, args: argparse.Namespace) -> None:
    accounts = all_accounts(db)
    if args.json:
        print(json.dumps([_as_json(account) for account in accounts], indent=2))
        return
    for account in accounts:
        state = "disabled" if account.disabled else "link not used yet" if account.awaits_sign_in else ""
        last_seen = "never seen" if account.last_seen_ms is None else f"seen {utc_text(account.last_seen_ms)}"
        print(f"{account.name:24} {account.role.value:9} {last_seen:26} {state}".rstrip())


def _link(home: Home, db: Database, args: argparse.Namespace) -> None:
    token = administration.new_link(db, Actor.at_command_line(), args.name)
    link = app_address(home, f"/welcome?token={token}")
    print(f"Choose a password for {args.name} with this link; it works once and expires after a day:\n{link}")


def _role(_home: Home, db: Database, args: argparse.Namespace) -> None:
    administration.set_role(db, Actor.at_command_line(), args.name, Role(args.role))
    print(f"{args.name} now has the role {args.role}.")


def _disable(_home: Home, db: Database, args: argparse.Namespace) -> None:
    administration.disable_account(db, Actor.at_command_line(), args.name)
    print(f"{args.name} is disabled, and signed out everywhere.")


def _enable(_home: Home, db: Database, args: argparse.Namespace) -> None:
    administration.enable_account(db, Actor.at_command_line(), args.name)
    print(f"{args.name} is enabled.")


def _sign_out(_home: Home, db: Database, args: argparse.Namespace) -> None:
    get_account(db, args.name)
    ended_count = end_all_sessions(db, Actor.at_command_line(), args.name)
    print(f"{args.name} is signed out everywhere; sessions ended: {ended_count}.")


def _sessions(_home: Home, db: Database, args: argparse.Namespace) -> None:
    sessions = sessions_of(db, get_account(db, args.name).name, now_ms())
    if args.json:
        fields = ("id", "created_ms", "last_seen_ms", "expires_ms", "address", "user_agent")
        print(json.dumps([{name: getattr(session, name) for name in fields} for session in sessions], indent=2))
        return
    for session in sessions:
        times = f"since {utc_text(session.created_ms)}  seen {utc_text(session.last_seen_ms)}"
        print(f"{session.id}  {times}  {session.address}  {session.user_agent}".rstrip())


def _preferences(_home: Home, db: Database, args: argparse.Namespace) -> None:
    name = get_account(db, args.name).name
    if changes := dict(args.set):
        if "favourites" in changes:
            changes["favourites"] = [
                favourite.strip() for favourite in changes["favourites"].split(",") if favourite.strip()
            ]
        save_preferences(db, Actor.at_command_line(), name, changes)
    values = preferences(db, name).model_dump(mode="json")
    if args.json:
        print(json.dumps(values, indent=2))
        return
    for key, value in values.items():
        print(f"{key:12} {', '.join(value) if isinstance(value, list) else _value_text(value)}".rstrip())


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} has no =; write NAME=VALUE, such as theme=dark")
    return name.strip(), value.strip()


def _value_text(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _password() -> str:
    if sys.stdin.isatty():
        raise UserError("Standard input is a terminal, which would show the password; pipe the password in.")
    return sys.stdin.readline().rstrip("\r\n")


def _as_json(account: Account) -> dict[str, object]:
    return {
        "name": account.name,
        "role": account.role.value,
        "disabled": account.disabled,
        "created_ms": account.created_ms,
        "last_seen_ms": account.last_seen_ms,
    }
