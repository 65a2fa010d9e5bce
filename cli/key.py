"""`barmill key`: API keys go in, are listed by fingerprint, rotated, tested, revoked and deleted; none comes out."""

import argparse
import getpass
import json
import sys
from dataclasses import asdict
from datetime import date

from bar.clock import now_ms
from cli.errors import UserError
from cli.texts import time_ms
from control.home import Home
from control.keys.info import KeyVersion, SecretInfo, end_of_day_ms, moment
from control.keys.references import Reference, parse_reference
from control.keys.store import MAX_SECRET_BYTES, KeyStore
from control.people.roles import Actor

_ON_STDIN = "The secret comes on standard input, or is asked for at a terminal; it is never an argument."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")

    def one(name: str, text: str, *, named: bool = True, more: str = "") -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip())
        if named:
            action.add_argument("name", metavar="NAME", help="name of the key")
        return action

    add = one("add", "store a key", more=_ON_STDIN)
    add.add_argument("--provider", required=True, metavar="P", help="which provider it is for, such as market")
    rotate = one("rotate", "give a key a new secret", more=_ON_STDIN)
    for action in (add, rotate):
        action.add_argument(
            "--host",
            dest="hosts",
            action="append",
            default=[],
            metavar="HOST",
            help="the only host that feeds may send it to, such as api.example.com, *.example.com or ccxt:kraken;"
            " can be repeated (default: those of a known provider, or as before)",
        )
        action.add_argument("--expires", metavar="DATE", help="last day of use (2026-12-31), or a time with its zone")
        action.add_argument(
            "--from",
            dest="reference",
            metavar="REFERENCE",
            help="where the secret is kept instead: env:NAME or vault:MOUNT/PATH#FIELD",
        )
    listed = one("list", "list the keys, without their secrets", named=False)
    history = one("history", "list the versions of a key, without their secrets")
    one("test", "try a key at its provider")
    one("revoke", "let a key not be used any more, and destroy its secret")
    one("delete", "forget a key and its history")
    kek = one(
        "rotate-kek",
        "renew the key-encryption key",
        named=False,
        more="Every stored key is moved under a new key-encryption key, or to another source if the settings name one"
        " (docs/keys.md). It may be interrupted and repeated.",
    )
    for action in (listed, history, kek):
        action.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    with KeyStore.open(Home.find().create(), Actor.at_command_line()) as store:
        match args.action:
            case "add":
                expires_ms = _expires_ms(args.expires)
                info = store.add(args.name, args.provider, _secret(args), expires_ms=expires_ms, hosts=args.hosts)
                print(f"The key {info.name} is stored{_marks(info)}. {_bound(info)}")
            case "rotate":
                expires_ms = _expires_ms(args.expires)
                info = store.rotate(args.name, _secret(args), expires_ms=expires_ms, hosts=args.hosts)
                print(f"The key {info.name} is now at version {info.version}{_marks(info)}. {_bound(info)}")
            case "list":
                keys, at_ms = store.list(), now_ms()
                if args.json:
                    print(json.dumps([_as_json(info, at_ms) for info in keys], indent=2))
                else:
                    print(_as_table(keys, at_ms))
            case "history":
                versions = store.versions(args.name)
                if not versions:
                    raise UserError(f"There is no key named {args.name}; ./barmill key list shows them all.")
                print(json.dumps([asdict(one) for one in versions], indent=2) if args.json else _history(versions))
            case "test":
                # Imported only here: no other action asks a provider.
                from feed.key_tests import KEY_TESTS

                print(store.test(args.name, KEY_TESTS))
            case "revoke":
                store.revoke(args.name)
                print(f"The key {args.name} is revoked, and its secret destroyed.")
            case "delete":
                store.delete(args.name)
                print(f"The key {args.name} is deleted.")
            case "rotate-kek":
                return _rotate_kek(store, as_json=args.json)
    return 0


def _rotate_kek(store: KeyStore, *, as_json: bool) -> int:
    done = store.rotate_kek()
    if as_json:
        print(
            json.dumps(
                {
                    "rewrapped": done.rewrapped,
                    "skipped": done.skipped,
                    "failed": len(done.failed),
                    "failed_names": done.failed,
                    "kek": done.place,
                }
            )
        )
    else:
        print(f"{done}; the key-encryption key is {done.place}." if done.place else "Nothing is encrypted yet.")
    if done.failed:
        names = ", ".join(done.failed)
        raise UserError(f"Changed from outside, and so left as they are; delete them and add them again: {names}")
    return 0


def _secret(args: argparse.Namespace) -> str | Reference:
    """Read the secret, or where it is kept."""
    if args.reference is not None:
        return parse_reference(args.reference)
    if sys.stdin.isatty():
        return getpass.getpass(f"Secret of {args.name} (not shown): ")
    # One byte more than fits says that it does not; two more may be the line's end.
    data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 3)
    line_end = b"\r\n" if data.endswith(b"\r\n") else b"\n"
    try:
        return data.removesuffix(line_end).decode()
    except UnicodeDecodeError:
        raise UserError("The secret on standard input is not UTF-8 text; give it as its provider did.") from None


def _expires_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return end_of_day_ms(date.fromisoformat(text))
    except ValueError:
        return time_ms(text, "--expires")


def _as_json(info: SecretInfo, at_ms: int) -> dict[str, object]:
    return {
        "name": info.name,
        "provider": info.provider,
        "version": info.version,
        "fingerprint": info.fingerprint or None,
        "created_ms": info.created_ms,
        "expires_ms": info.expires_ms,
        "last_used_ms": info.last_used_ms,
        "state": info.state(at_ms).value,
        "reference": info.reference,
        "hosts": list(info.hosts),
    }


def _as_table(keys: tuple[SecretInfo, ...], at_ms: int) -> str:
    if not keys:
        return "There are no keys yet; store one with ./barmill key add NAME --provider P."
    head = ("NAME", "PROVIDER", "VERSION", "FINGERPRINT", "STATE", "LAST USED", "KEPT", "HOSTS")
    rows = [
        (
            info.name,
            info.provider,
            str(info.version),
            info.fingerprint or "-",
            info.state(at_ms).value,
            "never" if info.last_used_ms is None else moment(info.last_used_ms),
            info.reference or "here, encrypted",
            ", ".join(info.hosts) or "this machine only",
        )
        for info in keys
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join([*(line.rstrip() for line in lines), *filter(None, (info.warning(at_ms) for info in keys))])


def _history(versions: tuple[KeyVersion, ...]) -> str:
    return "\n".join(
        f"{one.version:4}  {one.fingerprint or '-':8}  {moment(one.created_ms)}  {one.created_by}" for one in versions
    )


def _marks(info: SecretInfo) -> str:
    mark = f" (fingerprint {info.fingerprint})" if info.fingerprint else f" as a reference to {info.reference}"
    return mark if info.expires_ms is None else f"{mark}, until {moment(info.expires_ms)}"


def _bound(info: SecretInfo) -> str:
    if info.hosts:
        return f"Feeds may send it to {', '.join(info.hosts)} only."
    return "It is bound to no host, so feeds may send it to this machine only; name others with --host."
