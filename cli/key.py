"""`barmill key`: manage the API keys of providers; the secrets are never printed."""

import argparse
import getpass
import json
import sys
from dataclasses import asdict
from datetime import date

from barmill.audit.roles import Actor
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.texts import utc_text
from barmill.secrets.info import KeyVersion, SecretInfo, end_of_day_ms
from barmill.secrets.references import Reference, parse_reference
from barmill.secrets.store import MAX_SECRET_BYTES, KeyStore
from cli.common import UserError, time_ms

_SECRET_HELP = "The secret is read from standard input, or requested on a terminal; it is never an argument."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")

    def subcommand(name: str, text: str, *, has_name: bool = True, details: str = "") -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {details}".strip())
        if has_name:
            action.add_argument("name", metavar="NAME", help="name of the key")
        return action

    add = subcommand("add", "store a key", details=_SECRET_HELP)
    add.add_argument("--provider", required=True, metavar="P", help="the provider of the key, such as market")
    rotate = subcommand("rotate", "replace the secret of a key", details=_SECRET_HELP)
    for action in (add, rotate):
        action.add_argument(
            "--host",
            dest="hosts",
            action="append",
            default=[],
            metavar="HOST",
            help="a host that feeds may send the key to, such as api.example.com, *.example.com or ccxt:kraken;"
            " can be repeated (default: the hosts of a known provider, or the current hosts)",
        )
        action.add_argument("--expires", metavar="DATE", help="last day of use (2026-12-31), or a time with its zone")
        action.add_argument(
            "--from",
            dest="reference",
            metavar="REFERENCE",
            help="a reference to a secret kept elsewhere: env:NAME or vault:MOUNT/PATH#FIELD",
        )
    list_parser = subcommand("list", "list the keys, without their secrets", has_name=False)
    history = subcommand("history", "list the versions of a key, without their secrets")
    subcommand("test", "test a key with its provider")
    subcommand("revoke", "revoke a key and destroy its secret")
    subcommand("delete", "delete a key and its history")
    kek = subcommand(
        "rotate-kek",
        "rotate the key-encryption key",
        has_name=False,
        details="Encrypts every stored key under a new key-encryption key, or under the one that the settings name"
        " (docs/how-to/keys.md). It may be interrupted and repeated.",
    )
    for action in (list_parser, history, kek):
        action.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the action and return the exit code."""
    with KeyStore.open(Home.find().create(), Actor.at_command_line()) as store:
        match args.action:
            case "add":
                expires_ms = _expires_ms(args.expires)
                info = store.add(args.name, args.provider, _secret(args), expires_ms=expires_ms, hosts=args.hosts)
                print(f"The key {info.name} is stored{_key_details(info)}. {_hosts_sentence(info)}")
            case "rotate":
                expires_ms = _expires_ms(args.expires)
                info = store.rotate(args.name, _secret(args), expires_ms=expires_ms, hosts=args.hosts)
                print(
                    f"The key {info.name} is now at version {info.version}{_key_details(info)}. {_hosts_sentence(info)}"
                )
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
                print(
                    json.dumps([asdict(version) for version in versions], indent=2) if args.json else _history(versions)
                )
            case "test":
                # Imported here because no other action contacts a provider.
                from barmill.ingest.feeds.trial_runner import KEY_TESTS

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
    result = store.rotate_kek()
    if as_json:
        print(
            json.dumps(
                {
                    "rewrapped": result.rewrapped,
                    "skipped": result.skipped,
                    "failed": len(result.failed),
                    "failed_names": result.failed,
                    "kek": result.location,
                }
            )
        )
    else:
        print(
            f"{result}; the key-encryption key is {result.location}."
            if result.location
            else "Nothing is encrypted yet."
        )
    if result.failed:
        names = ", ".join(result.failed)
        raise UserError(
            f"Not rotated, because they were changed outside Barmill; delete them and add them again: {names}"
        )
    return 0


def _secret(args: argparse.Namespace) -> str | Reference:
    """Read the secret, or the reference to it."""
    if args.reference is not None:
        return parse_reference(args.reference)
    if sys.stdin.isatty():
        return getpass.getpass(f"Secret of {args.name} (not shown): ")
    # One byte over the limit shows that the secret is too long; two more may be the line end.
    data = sys.stdin.buffer.read(MAX_SECRET_BYTES + 3)
    line_end = b"\r\n" if data.endswith(b"\r\n") else b"\n"
    try:
        return data.removesuffix(line_end).decode()
    except UnicodeDecodeError:
        raise UserError("The secret on standard input is not UTF-8 text; copy it again from the provider.") from None


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
    header = ("NAME", "PROVIDER", "VERSION", "FINGERPRINT", "STATE", "LAST USED", "KEPT", "HOSTS")
    rows = [
        (
            info.name,
            info.provider,
            str(info.version),
            info.fingerprint or "-",
            info.state(at_ms).value,
            "never" if info.last_used_ms is None else utc_text(info.last_used_ms),
            info.reference or "here, encrypted",
            ", ".join(info.hosts) or "this machine only",
        )
        for info in keys
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = ["  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join([*(line.rstrip() for line in lines), *filter(None, (info.warning(at_ms) for info in keys))])


def _history(versions: tuple[KeyVersion, ...]) -> str:
    return "\n".join(
        f"{version.version:4}  {version.fingerprint or '-':8}  {utc_text(version.created_ms)}  {version.created_by}"
        for version in versions
    )


def _key_details(info: SecretInfo) -> str:
    mark = f" (fingerprint {info.fingerprint})" if info.fingerprint else f" as a reference to {info.reference}"
    return mark if info.expires_ms is None else f"{mark}, until {utc_text(info.expires_ms)}"


def _hosts_sentence(info: SecretInfo) -> str:
    if info.hosts:
        return f"Feeds may send it only to {', '.join(info.hosts)}."
    return "It has no host, so feeds may send it only to this machine; name hosts with --host."
