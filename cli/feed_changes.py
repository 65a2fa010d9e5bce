"""The actions of `barmill instrument feed` that add, change, try or delete a feed."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from barmill.audit.roles import Actor
from barmill.ingest.feeds.changes import READY_MADE, add, delete, edit, enable
from barmill.ingest.feeds.feed import KINDS, Feed, Feeds
from barmill.ingest.feeds.settings import settings_of
from barmill.ingest.feeds.trial_runner import TrialSettings, run_trial
from barmill.platform.csv_file import csv_bytes
from barmill.platform.home import Home
from cli.common import UserError


def _kind_and_settings(args: argparse.Namespace) -> tuple[str, str]:
    """Return the kind and the settings (JSON) of the feed that the arguments describe.

    Raise UserError if the kind or the key of the template is missing, or the file cannot be read.
    """
    template = READY_MADE[args.ready_made] if args.ready_made else None
    kind = args.kind or (template.kind if template else None)
    if kind is None:
        raise UserError(
            f"Set the kind of feed with --kind, one of {', '.join(KINDS)}, or use a template with --ready-made."
        )
    if template is not None and template.needs_key and args.key is None:
        raise UserError(f"{template.label} needs a key; give a stored key with --key.")
    if args.settings:
        return kind, _read_settings(args.settings)
    return kind, template.settings if template and template.kind == kind else "{}"


def _try(args: argparse.Namespace, home: Home) -> int:
    kind, text = _kind_and_settings(args)
    settings = settings_of(kind, text)
    if not isinstance(settings, TrialSettings):
        raise UserError(f"A feed of kind {kind} cannot be tried; add it, then check its state.")
    result = run_trial(home.create(), Actor.at_command_line(), settings, args.key)
    if result.problem is not None:
        raise UserError(
            result.problem if not result.raw_text else f"{result.problem} The response: {result.raw_text[:500]}"
        )
    if args.json:
        ticks, rejects = (json.loads(table.write_json()) for table in (result.ticks, result.rejects))
        print(json.dumps({"sent": result.redacted_request, "ticks": ticks, "rejects": rejects}, indent=2))
        return 0
    parts = [result.redacted_request, result.raw_text, *result.notes, csv_bytes(result.ticks).decode()]
    print("\n\n".join([*parts, result.outcome]))
    return 0


def _add(args: argparse.Namespace, home: Home) -> int:
    kind, settings = _kind_and_settings(args)
    with Feeds.open(home.create()) as feeds:
        feed = add(feeds, Actor.at_command_line(), args.name, kind, settings, args.key)
    return _print_result(args, feed, "is added and runs while Barmill runs; select its instruments")


def _edit(args: argparse.Namespace, home: Home) -> int:
    with Feeds.open(home.create()) as feeds:
        current = feeds.find(args.name)
        settings = _read_settings(args.settings) if args.settings else current.settings if current else ""
        key = args.key or (current.key if current else None)
        feed = edit(feeds, Actor.at_command_line(), args.name, settings, key)
    return _print_result(args, feed, "is changed")


def _enable(args: argparse.Namespace, home: Home, *, enabled: bool) -> int:
    with Feeds.open(home.create()) as feeds:
        feed = enable(feeds, Actor.at_command_line(), args.name, enabled=enabled)
    return _print_result(args, feed, f"is {'enabled' if enabled else 'disabled'}")


def _delete(args: argparse.Namespace, home: Home) -> int:
    with Feeds.open(home.create()) as feeds:
        delete(feeds, Actor.at_command_line(), args.name)
    print(json.dumps({"deleted": args.name}) if args.json else f"The feed {args.name} is deleted.")
    return 0


def _print_result(args: argparse.Namespace, feed: Feed, outcome: str) -> int:
    if args.json:
        print(json.dumps({"name": feed.name, "kind": feed.kind, "key": feed.key, "enabled": feed.enabled}))
    else:
        print(f"The feed {feed.name} {outcome}.")
    return 0


def _read_settings(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"The settings {path} cannot be read: {cause}.") from error


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Home], int]] = {
    "add": _add,
    "edit": _edit,
    "try": _try,
    "enable": partial(_enable, enabled=True),
    "disable": partial(_enable, enabled=False),
    "delete": _delete,
}
