"""`barmill instrument feed`: show, try, add, change and delete the feeds that deliver prices."""

import argparse
import json
from collections.abc import Callable, Sequence

from barmill.ingest.feeds.feed import KINDS, READY_MADE_NAMES
from barmill.ingest.feeds.views import FeedView, feed_views
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.texts import age
from cli.common import UserError

Run = Callable[[argparse.Namespace, Home], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    def command(name: str, run: Run, text: str, *, has_name: bool = True) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        subparser.set_defaults(run_feed=run)
        if has_name:
            subparser.add_argument("name", metavar="NAME", help="the feed")
        subparser.add_argument("--json", action="store_true", help="print JSON")
        return subparser

    command("list", _list, "list all feeds with their states", has_name=False)
    command("show", _show, "show one feed with its settings")
    added = command("add", _run_change("add"), "add a feed and start it")
    edited = command("edit", _run_change("edit"), "change the settings or the key of a feed")
    text = "fetch a sample from a provider and show the ticks it would become"
    try_parser = command("try", _run_change("try"), text, has_name=False)
    for command_parser in (added, try_parser):
        command_parser.add_argument("--kind", metavar="K", help=f"one of {', '.join(KINDS)}")
        command_parser.add_argument(
            "--ready-made", choices=READY_MADE_NAMES, metavar="R", help=f"one of {', '.join(READY_MADE_NAMES)}"
        )
    for command_parser in (added, edited, try_parser):
        command_parser.add_argument("--settings", metavar="FILE", help="JSON; - reads it from standard input")
        command_parser.add_argument("--key", metavar="KEY", help="the name of the feed's key in the key store")
    command("enable", _run_change("enable"), "enable a feed")
    command("disable", _run_change("disable"), "disable a feed")
    command("delete", _run_change("delete"), "delete a feed; its ticks and bars stay")


def run(args: argparse.Namespace) -> int:
    """Run the action and return the exit code."""
    run_feed: Run = args.run_feed
    return run_feed(args, Home.find())


def _run_change(action: str) -> Run:
    def run(args: argparse.Namespace, home: Home) -> int:
        # Imported here, because it imports the libraries of every kind of feed, which would slow lists and `status`.
        from cli.feed_changes import ACTIONS

        return ACTIONS[action](args, home)

    return run


def feed_lines(views: Sequence[FeedView]) -> list[str]:
    """Return a line per feed, also for `status`."""
    name_width = max((len(view.feed.name) for view in views), default=0)
    phase_width = max((len(view.phase) for view in views), default=0)
    return [
        f"{view.feed.name.ljust(name_width)}  {view.phase.ljust(phase_width)}  {view.ticks_per_s:8,.1f}/s  "
        f"{_last_message_text(view)}{view.sentence}"
        for view in views
    ]


def _last_message_text(view: FeedView) -> str:
    heard_ms = view.state and view.state.heard_ms
    return f"last message {age(now_ms() - heard_ms)} ago  " if heard_ms else ""


def _list(args: argparse.Namespace, home: Home) -> int:
    views = feed_views(home)
    print(json.dumps([view.as_json() for view in views], indent=2) if args.json else "\n".join(feed_lines(views)))
    return 0


def _show(args: argparse.Namespace, home: Home) -> int:
    view = next((feed_view for feed_view in feed_views(home) if feed_view.feed.name == args.name), None)
    if view is None:
        raise UserError(f"There is no feed named {args.name!r}; ./barmill instrument feed list shows all.")
    settings = json.loads(view.feed.settings) if view.feed.settings else None
    if args.json:
        print(json.dumps({**view.as_json(), "settings": settings}, indent=2))
        return 0
    facts = [f"{name}: {value}" for name, value in view.as_json().items() if value not in (None, (), "")]
    settings_text = json.dumps(settings, indent=2) if settings else "defined in feed.json"
    print("\n".join([*facts, f"settings: {settings_text}"]))
    return 0
