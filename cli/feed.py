"""`barmill instrument feed`: the feeds that prices come by, how each stands, and all that is changed about them."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bar.clock import now_ms
from bar.csv_file import csv_text
from charts.texts import age
from cli.errors import UserError
from control.feeds.changes import add, delete, edit, enable
from control.feeds.store import Feeds
from control.feeds.views import FeedView, feed_views
from control.home import Home
from control.people.roles import Actor
from feed.feeds import KINDS, Feed, settings_of
from feed.ready_made import READY_MADE
from feed.trial_on_behalf import Triable, tried

Run = Callable[[argparse.Namespace, Home], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    commands = parser.add_subparsers(metavar="WHAT", required=True)

    def command(name: str, run: Run, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(run_feed=run)
        if named:
            one.add_argument("name", metavar="NAME", help="the feed")
        one.add_argument("--json", action="store_true", help="print JSON")
        return one

    command("list", _list, "show all feeds and how each stands", named=False)
    command("show", _show, "show one feed with its settings")
    added = command("add", _add, "add a feed; it runs from then on")
    edited = command("edit", _edit, "give a feed other settings, or another key")
    trying = command(
        "try", _try, "ask a provider once, or listen a little, and show what would become of it", named=False
    )
    for one in (added, trying):
        one.add_argument("--kind", metavar="K", help=f"one of {', '.join(KINDS)}")
        one.add_argument("--ready-made", choices=list(READY_MADE), metavar="R", help=f"one of {', '.join(READY_MADE)}")
    for one in (added, edited, trying):
        one.add_argument("--settings", metavar="FILE", help="JSON; - reads it from standard input")
        one.add_argument("--key", metavar="KEY", help="the name of its key in the key store")
    command("enable", lambda args, home: _enable(args, home, enabled=True), "have a feed run")
    command("disable", lambda args, home: _enable(args, home, enabled=False), "have a feed not run")
    command("delete", _delete, "delete a feed; its ticks and bars stay")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    run_feed: Run = args.run_feed
    return run_feed(args, Home.find())


def feed_lines(views: Sequence[FeedView]) -> list[str]:
    """Return a line for each feed, as `status` shows them too."""
    names = max((len(view.feed.name) for view in views), default=0)
    phases = max((len(view.phase) for view in views), default=0)
    return [
        f"{view.feed.name.ljust(names)}  {view.phase.ljust(phases)}  {view.ticks_per_s:8,.1f}/s  {_heard(view)}"
        f"{view.sentence}"
        for view in views
    ]


def _heard(view: FeedView) -> str:
    heard_ms = view.state and view.state.heard_ms
    return f"heard {age(now_ms() - heard_ms)} ago  " if heard_ms else ""


def _list(args: argparse.Namespace, home: Home) -> int:
    views = feed_views(home)
    print(json.dumps([view.as_json() for view in views], indent=2) if args.json else "\n".join(feed_lines(views)))
    return 0


def _show(args: argparse.Namespace, home: Home) -> int:
    view = next((one for one in feed_views(home) if one.feed.name == args.name), None)
    if view is None:
        raise UserError(f"There is no feed named {args.name!r}; ./barmill instrument feed list shows all.")
    settings = json.loads(view.feed.settings) if view.feed.settings else None
    if args.json:
        print(json.dumps({**view.as_json(), "settings": settings}, indent=2))
        return 0
    facts = [f"{name}: {value}" for name, value in view.as_json().items() if value not in (None, (), "")]
    shown = json.dumps(settings, indent=2) if settings else "as feed.json says"
    print("\n".join([*facts, f"settings: {shown}"]))
    return 0


def _given(args: argparse.Namespace) -> tuple[str, str]:
    """Return the kind and the settings that a command line names."""
    ready = READY_MADE[args.ready_made] if args.ready_made else None
    kind = args.kind or (ready.kind if ready else None)
    if kind is None:
        raise UserError(f"Say what it is with --kind, one of {', '.join(KINDS)}, or take one with --ready-made.")
    if ready is not None and ready.needs_key and args.key is None:
        raise UserError(f"{ready.label} wants a key; name one of the key store with --key.")
    return kind, _text(args.settings) if args.settings else ready.settings if ready and ready.kind == kind else "{}"


def _try(args: argparse.Namespace, home: Home) -> int:
    kind, text = _given(args)
    settings = settings_of(kind, text)
    if not isinstance(settings, Triable):
        raise UserError(f"A feed of kind {kind} cannot be tried; add it, and see how it stands.")
    found = tried(home.create(), Actor.at_command_line(), settings, args.key)
    if found.problem is not None:
        raise UserError(found.problem if not found.raw_text else f"{found.problem} What came: {found.raw_text[:500]}")
    if args.json:
        ticks, rejects = (json.loads(table.write_json()) for table in (found.ticks, found.rejects))
        print(json.dumps({"sent": found.request_shown_without_key, "ticks": ticks, "rejects": rejects}, indent=2))
        return 0
    parts = [found.request_shown_without_key, found.raw_text, *found.notes, csv_text(found.ticks).decode()]
    print("\n\n".join([*parts, found.outcome]))
    return 0


def _add(args: argparse.Namespace, home: Home) -> int:
    kind, settings = _given(args)
    with Feeds.open(home.create()) as feeds:
        feed = add(feeds, Actor.at_command_line(), args.name, kind, settings, args.key)
    return _said(args, feed, "is added and runs as soon as Barmill does; pick its instruments")


def _edit(args: argparse.Namespace, home: Home) -> int:
    with Feeds.open(home.create()) as feeds:
        before = feeds.find(args.name)
        settings = _text(args.settings) if args.settings else before.settings if before else ""
        key = args.key or (before.key if before else None)
        feed = edit(feeds, Actor.at_command_line(), args.name, settings, key)
    return _said(args, feed, "is changed")


def _enable(args: argparse.Namespace, home: Home, *, enabled: bool) -> int:
    with Feeds.open(home.create()) as feeds:
        feed = enable(feeds, Actor.at_command_line(), args.name, enabled=enabled)
    return _said(args, feed, f"is {'enabled' if enabled else 'disabled'}")


def _delete(args: argparse.Namespace, home: Home) -> int:
    with Feeds.open(home.create()) as feeds:
        delete(feeds, Actor.at_command_line(), args.name)
    print(json.dumps({"deleted": args.name}) if args.json else f"The feed {args.name} is deleted.")
    return 0


def _said(args: argparse.Namespace, feed: Feed, what: str) -> int:
    if args.json:
        print(json.dumps({"name": feed.name, "kind": feed.kind, "key": feed.key, "enabled": feed.enabled}))
    else:
        print(f"The feed {feed.name} {what}.")
    return 0


def _text(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"The settings {path} cannot be read: {why}.") from error
