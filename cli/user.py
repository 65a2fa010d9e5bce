"""`barmill user`: accounts, at the command line. Whoever may open the home's files may do all of it."""

import argparse
import json
import sys
from collections.abc import Callable

from bar.clock import now_ms
from bar.sqlite import Database
from cli.errors import UserError
from control.clock import utc_text
from control.errors import ControlError
from control.home import Home
from control.people import administration
from control.people.accounts import Account, all_accounts, get_account
from control.people.database import open_people
from control.people.preferences import preferences, save_preferences
from control.people.roles import Actor, Role
from control.people.sessions import end_all_sessions, sessions_of
from control.people.settings import app_address

_Work = Callable[[Home, Database, argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    commands = parser.add_subparsers(metavar="WHAT", required=True)

    def command(name: str, work: _Work, text: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(work=work)
        if name != "list":
            one.add_argument("name", metavar="NAME", type=administration.normal_name)
        return one

    adding = command("add", _add, "add an account, and print a one-time link to choose its password with")
    adding.add_argument("--role", choices=list(Role), required=True, help="what the account may do")
    adding.add_argument("--password-stdin", action="store_true", help="read the password from standard input instead")
    listing = command("list", _list, "list the accounts")
    listing.add_argument("--json", action="store_true", help="print JSON")
    changing = command("role", _role, "change what an account may do")
    changing.add_argument("role", choices=list(Role), metavar="ROLE", help="admin, operator or trader")
    for name, work, text in (
        ("link", _link, "print a new one-time link, for a lost password"),
        ("disable", _disable, "let nobody in with an account any more"),
        ("enable", _enable, "let people in with an account again"),
        ("sign-out", _sign_out, "end all sessions of an account"),
    ):
        command(name, work, text)
    looking = command("sessions", _sessions, "list where an account is signed in")
    looking.add_argument("--json", action="store_true", help="print JSON")
    preferring = command("preferences", _preferences, "show what an account prefers, or change it")
    preferring.add_argument("--json", action="store_true", help="print JSON")
    preferring.add_argument(
        *("--set", "-s"),
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="such as theme=dark; favourites with commas between them",
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    home = Home.find()
    try:
        with open_people(home.create()) as db:
            args.work(home, db, args)
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
        print(json.dumps([_as_json(one) for one in accounts], indent=2))
        return
    for one in accounts:
        state = "disabled" if one.disabled else "waits for its link" if one.waiting else ""
        seen = "never seen" if one.last_seen_ms is None else f"seen {utc_text(one.last_seen_ms)}"
        print(f"{one.name:24} {one.role.value:9} {seen:26} {state}".rstrip())


def _link(home: Home, db: Database, args: argparse.Namespace) -> None:
    token = administration.new_link(db, Actor.at_command_line(), args.name)
    link = app_address(home, f"/welcome?token={token}")
    print(f"Choose a password for {args.name} with this link; it works once, for a day:\n{link}")


def _role(_home: Home, db: Database, args: argparse.Namespace) -> None:
    administration.set_role(db, Actor.at_command_line(), args.name, Role(args.role))
    print(f"{args.name} is {args.role} now.")


def _disable(_home: Home, db: Database, args: argparse.Namespace) -> None:
    administration.disable_account(db, Actor.at_command_line(), args.name)
    print(f"{args.name} is disabled, and signed out everywhere.")


def _enable(_home: Home, db: Database, args: argparse.Namespace) -> None:
    administration.enable_account(db, Actor.at_command_line(), args.name)
    print(f"{args.name} is enabled.")


def _sign_out(_home: Home, db: Database, args: argparse.Namespace) -> None:
    get_account(db, args.name)
    ended = end_all_sessions(db, Actor.at_command_line(), args.name)
    print(f"{args.name} is signed out everywhere; sessions ended: {ended}.")


def _sessions(_home: Home, db: Database, args: argparse.Namespace) -> None:
    found = sessions_of(db, get_account(db, args.name).name, now_ms())
    if args.json:
        shown = ("id", "created_ms", "last_seen_ms", "expires_ms", "address", "user_agent")
        print(json.dumps([{name: getattr(one, name) for name in shown} for one in found], indent=2))
        return
    for one in found:
        times = f"since {utc_text(one.created_ms)}  seen {utc_text(one.last_seen_ms)}"
        print(f"{one.id}  {times}  {one.address}  {one.user_agent}".rstrip())


def _preferences(_home: Home, db: Database, args: argparse.Namespace) -> None:
    name = get_account(db, args.name).name
    if changes := dict(args.set):
        if "favourites" in changes:
            changes["favourites"] = [one.strip() for one in changes["favourites"].split(",") if one.strip()]
        save_preferences(db, Actor.at_command_line(), name, changes)
    found = preferences(db, name).model_dump(mode="json")
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        print(f"{key:12} {', '.join(value) if isinstance(value, list) else _as_word(value)}".rstrip())


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} has no =; write NAME=VALUE, such as theme=dark")
    return name.strip(), value.strip()


def _as_word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _password() -> str:
    if sys.stdin.isatty():
        raise UserError("--password-stdin reads the password from a pipe or a file, so that it is not shown.")
    return sys.stdin.readline().rstrip("\r\n")


def _as_json(one: Account) -> dict[str, object]:
    return {
        "name": one.name,
        "role": one.role.value,
        "disabled": one.disabled,
        "created_ms": one.created_ms,
        "last_seen_ms": one.last_seen_ms,
    }
