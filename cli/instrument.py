"""`barmill instrument`: list, enable and disable the instruments of a feed, and manage the feeds."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from barmill.audit.roles import Actor
from barmill.ingest.feeds.feed import feeds_of
from barmill.ingest.feeds.instrument_listing import Listing, catalogue_of, filter_instruments, list_instruments
from barmill.ingest.instruments.changes import change_selection, request_refresh
from barmill.ingest.instruments.names import NameOutcome, UnknownInstrumentsError, parse_names, report_text
from barmill.ingest.instruments.store import Instruments, delivered_without_selection
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.settings_file import SettingsError
from barmill.platform.texts import age, number_text
from cli import feed
from cli.common import UserError

# The feed checks for requests twice a second; a market that does not respond is abandoned after a few seconds.
_REFRESH_TIMEOUT_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    list_parser = actions.add_parser("list", help="show instruments", description="Show instruments.")
    list_parser.add_argument("--search", metavar="TEXT", default="", help="only instruments that match these words")
    state = list_parser.add_mutually_exclusive_group()
    state.add_argument("--enabled", action="store_true", default=None, help="only enabled instruments")
    state.add_argument("--disabled", action="store_false", dest="enabled", help="only disabled instruments")
    list_parser.add_argument("--refresh", action="store_true", help="refresh the catalogue first")
    for name in ("enable", "disable"):
        text = f"{name} instruments; a running feed follows within two seconds"
        subparser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        subparser.add_argument(
            "names", nargs="+", metavar="NAME", help="such as OAKR/USD; - reads a list from standard input"
        )
        subparser.add_argument(
            "--partial", action="store_true", help="change the known instruments even if some names are unknown"
        )
    for subparser in actions.choices.values():
        subparser.add_argument("--provider", metavar="P", help="a feed other than the one in feed.json")
        subparser.add_argument("--json", action="store_true", help="print JSON")
    text = "show and change the feeds"
    feed.add_arguments(actions.add_parser("feed", help=text, description=f"{text[0].upper()}{text[1:]}."))


def run(args: argparse.Namespace) -> int:
    """Run the action and return the exit code; raise UserError if it fails or a name is unknown."""
    if args.action == "feed":
        return feed.run(args)
    home = Home.find()
    provider = _provider(home, args.provider)
    try:
        if args.action == "list":
            return _list(home, provider, args)
        return _change(home, provider, args)
    except ControlError as error:
        raise UserError(str(error)) from error


def _list(home: Home, provider: str, args: argparse.Namespace) -> int:
    if args.refresh:
        _refresh(home, provider)
    listings = filter_instruments(list_instruments(home, provider), args.search, enabled=args.enabled)
    if args.json:
        print(json.dumps([asdict(listing) for listing in listings], indent=2))
    else:
        print(_as_text(home, provider, listings))
    return 0


def _refresh(home: Home, provider: str) -> None:
    with Instruments.open(home.create()) as instruments:
        request_refresh(instruments, Actor.at_command_line(), provider)
        if not wait_until(lambda: instruments.state(provider).requested_ms is None, _REFRESH_TIMEOUT_S, every_s=0.1):
            raise UserError(
                f"The feed did not fetch the catalogue within {_REFRESH_TIMEOUT_S:.0f} s, but will do so as soon as it"
                " can; ./barmill status shows whether it runs."
            )
        problem = instruments.state(provider).problem
        if problem:
            raise UserError(f"The catalogue could not be fetched, so the old one is kept: {problem}")


def _change(home: Home, provider: str, args: argparse.Namespace) -> int:
    names = _names(args.names)
    enable = args.action == "enable"
    with Instruments.open(home.create()) as instruments:
        try:
            report = change_selection(
                instruments, Actor.at_command_line(), provider, names, enable=enable, partial=args.partial
            )
        except UnknownInstrumentsError as error:
            _print_report(error.report, args, applied=False)
            raise
    _print_report(report, args, applied=True)
    failed = [line for line in report if line.outcome.is_error]
    if failed:
        raise UserError(
            f"Some names are not instruments of {provider}, so only the other names were applied"
            f" ({report_text(report)}); correct them, or see ./barmill instrument list."
        )
    return 0


def _names(arguments: Sequence[str]) -> list[tuple[int, str]]:
    """Return each name with its position, or with its line for `-`, which reads a list from standard input."""
    if "-" not in arguments:
        return [(position, name) for position, text in enumerate(arguments, 1) for _, name in parse_names(text)]
    if len(arguments) > 1:
        raise UserError("- reads the names from standard input; do not give other names as well.")
    names = parse_names(sys.stdin.read())
    if not names:
        raise UserError("Standard input holds no names; write one name per line.")
    return names


def _print_report(report: Sequence[NameOutcome], args: argparse.Namespace, *, applied: bool) -> None:
    """Print the outcome of each name; as text, only of the failed names if nothing was changed."""
    if args.json:
        lines = [
            {
                "line": line.number,
                "name": line.text,
                "instrument": line.instrument,
                "outcome": line.outcome.value,
                "done": applied and line.outcome.is_change,
            }
            for line in report
        ]
        print(json.dumps(lines, indent=2))
        return
    for line in report:
        if applied or line.outcome.is_error:
            position = f"line {line.number}: " if args.names == ["-"] else ""
            print(f"{position}{_short_text(line.instrument or line.text)}: {line.outcome.value}")


def _short_text(text: str) -> str:
    return text if text.isprintable() and len(text) <= 64 else f"{text[:64]!r}"


def _as_text(home: Home, provider: str, listings: Sequence[Listing]) -> str:
    at_ms = now_ms()
    rows = [
        (
            listing.instrument,
            "enabled" if listing.enabled else "disabled",
            "-" if listing.last_price is None else number_text(listing.last_price),
            "-" if listing.last_tick_ms is None else f"{age(at_ms - listing.last_tick_ms)} ago",
            f"{listing.ticks_per_s:,.2f}/s",
            "stale" if listing.stale else "",
            listing.description,
        )
        for listing in listings
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([""] if lines else []), _summary(home, provider, at_ms)])


def _summary(home: Home, provider: str, now_ms: int) -> str:
    """Return one or two sentences about the source of the list and its age."""
    catalogue, state = catalogue_of(home, provider)
    delivered = delivered_without_selection(provider, state)
    if delivered is not None:
        return f"The feed {provider} delivers everything {delivered}; these are the instruments that have bars."
    if state.fetched_ms is None:
        reason = state.problem or "start Barmill with ./barmill up, which fetches it."
        return f"The catalogue of {provider} has not been fetched yet: {reason}"
    enabled = sum(instrument.enabled for instrument in catalogue)
    sentence = (
        f"{enabled:,} of {len(catalogue):,} instruments of {provider} are enabled;"
        f" the catalogue was fetched {age(now_ms - state.fetched_ms)} ago."
    )
    return f"{sentence} The last try failed: {state.problem}" if state.problem else sentence


def _provider(home: Home, requested: str | None) -> str:
    """Return the requested feed, or the feed in feed.json.

    Raise UserError if there is no such feed or feed.json is invalid.
    """
    try:
        names = [feed.name for feed in feeds_of(home)]
    except SettingsError as error:
        raise UserError(str(error)) from error
    if requested is None or requested in names or catalogue_of(home, requested)[1].tried_ms is not None:
        return requested or names[0]
    raise UserError(f"There is no feed {requested!r}; this home has {', '.join(names)}.")
