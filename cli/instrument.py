"""`barmill instrument`: what a feed offers, which of it is wanted, when each last moved; and the feeds themselves."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from bar.number_text import number_text
from charts.texts import age
from cli import feed
from cli.errors import UserError
from control.errors import ControlError
from control.feeds.store import feeds_of
from control.home import Home
from control.instruments.errors import UnknownInstrumentsError
from control.instruments.listing import Listing, catalogue_of, look, matching
from control.instruments.picks import pick, request_refresh
from control.instruments.report import Line, in_words, names_in
from control.instruments.store import Instruments, what_it_has
from control.people.roles import Actor
from control.settings_file import SettingsError
from control.waiting import wait_until

# The feed looks twice a second; a market that does not answer is given up after a few seconds.
_REFRESH_TIMEOUT_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    listed = actions.add_parser("list", help="show instruments", description="Show instruments.")
    listed.add_argument("--search", metavar="TEXT", default="", help="only those with these words")
    state = listed.add_mutually_exclusive_group()
    state.add_argument("--enabled", action="store_true", default=None, help="only those that are enabled")
    state.add_argument("--disabled", action="store_false", dest="enabled", help="only those that are not")
    listed.add_argument("--refresh", action="store_true", help="have the feed fetch the catalogue first")
    for name in ("enable", "disable"):
        text = f"{name} instruments; a running feed follows within two seconds"
        one = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.add_argument(
            "names", nargs="+", metavar="NAME", help="such as OAKR/USD; - reads a list from standard input"
        )
        one.add_argument("--partial", action="store_true", help="do the known ones even if some names are unknown")
    for one in actions.choices.values():
        one.add_argument("--provider", metavar="P", help="another feed than the one that feed.json names")
        one.add_argument("--json", action="store_true", help="print JSON")
    text = "show and change the feeds that prices come by"
    feed.add_arguments(actions.add_parser("feed", help=text, description=f"{text[0].upper()}{text[1:]}."))


def run(args: argparse.Namespace) -> int:
    """Show or change; 0 only if everything that was named exists."""
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
    found = matching(look(home, provider), args.search, enabled=args.enabled)
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        print(_as_text(home, provider, found))
    return 0


def _refresh(home: Home, provider: str) -> None:
    with Instruments.open(home.create()) as instruments:
        request_refresh(instruments, Actor.at_command_line(), provider)
        if not wait_until(lambda: instruments.state(provider).requested_ms is None, _REFRESH_TIMEOUT_S, every_s=0.1):
            raise UserError(
                f"The feed has not fetched the catalogue within {_REFRESH_TIMEOUT_S:.0f} s, and will as soon as it can;"
                " ./barmill status says whether it runs."
            )
        problem = instruments.state(provider).problem
        if problem:
            raise UserError(f"The catalogue could not be fetched, the old one stays: {problem}")


def _change(home: Home, provider: str, args: argparse.Namespace) -> int:
    names = _names(args.names)
    enable = args.action == "enable"
    with Instruments.open(home.create()) as instruments:
        try:
            report = pick(instruments, Actor.at_command_line(), provider, names, enable=enable, partial=args.partial)
        except UnknownInstrumentsError as error:
            _print_report(error.report, args, done=False)
            raise
    _print_report(report, args, done=True)
    wrong = [line for line in report if line.outcome.wrong]
    if wrong:
        raise UserError(f"Not every name is an instrument of {provider}; the others were done: {in_words(report)}.")
    return 0


def _names(given: Sequence[str]) -> list[tuple[int, str]]:
    """Return the names with their line or place; a dash stands for a list on standard input."""
    if "-" not in given:
        return [(place, name) for place, text in enumerate(given, 1) for _, name in names_in(text)]
    if len(given) > 1:
        raise UserError("- reads the names from standard input and stands alone.")
    names = names_in(sys.stdin.read())
    if not names:
        raise UserError("There is no name on standard input; write one in each line.")
    return names


def _print_report(report: Sequence[Line], args: argparse.Namespace, *, done: bool) -> None:
    """Say line by line what became of each name; if nothing was done, only which names are wrong."""
    if args.json:
        lines = [
            {
                "line": line.number,
                "name": line.text,
                "instrument": line.instrument,
                "outcome": line.outcome.value,
                "done": done and line.outcome.changes,
            }
            for line in report
        ]
        print(json.dumps(lines, indent=2))
        return
    for line in report:
        if done or line.outcome.wrong:
            place = f"line {line.number}: " if args.names == ["-"] else ""
            print(f"{place}{_shown(line.instrument or line.text)}: {line.outcome.value}")


def _shown(text: str) -> str:
    return text if text.isprintable() and len(text) <= 64 else f"{text[:64]!r}"


def _as_text(home: Home, provider: str, listings: Sequence[Listing]) -> str:
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (
            one.instrument,
            "enabled" if one.enabled else "disabled",
            "-" if one.last_price is None else number_text(one.last_price),
            "-" if one.last_tick_ms is None else f"{age(now_ms - one.last_tick_ms)} ago",
            f"{one.ticks_per_s:,.2f}/s",
            "stale" if one.stale else "",
            one.description,
        )
        for one in listings
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([""] if lines else []), _about(home, provider, now_ms)])


def _about(home: Home, provider: str, now_ms: int) -> str:
    """Say in one sentence where the list comes from and how old it is."""
    catalogue, state = catalogue_of(home, provider)
    has = what_it_has(provider, state)
    if has is not None:
        return f"The feed {provider} delivers everything {has}; these are the instruments that have bars."
    if state.fetched_ms is None:
        why = state.problem or "start Barmill with ./barmill up, which fetches it."
        return f"The catalogue of {provider} has not been fetched yet: {why}"
    enabled = sum(one.enabled for one in catalogue)
    sentence = (
        f"{enabled:,} of {len(catalogue):,} instruments of {provider} are enabled;"
        f" the catalogue was fetched {age(now_ms - state.fetched_ms)} ago."
    )
    return f"{sentence} The last try failed: {state.problem}" if state.problem else sentence


def _provider(home: Home, asked: str | None) -> str:
    """Return the provider that is meant; raise UserError where nobody knows it."""
    try:
        known = [one.name for one in feeds_of(home)]
    except SettingsError as error:
        raise UserError(str(error)) from error
    if asked is None or asked in known or catalogue_of(home, asked)[1].tried_ms is not None:
        return asked or known[0]
    raise UserError(f"There is no feed {asked!r} here; this home has {', '.join(known)}.")
