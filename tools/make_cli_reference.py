"""The generator of docs/reference/cli.md, the reference of all commands, from their `--help`.

PYTHONPATH=.:src python -m tools.make_cli_reference
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from cli.main import COMMANDS, CONTAINER_COMMANDS, build_parser

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
_WIDTH = 100
_HEADER = """\
# Commands

This page is generated from `--help` by `python -m tools.make_cli_reference`; do not edit it by hand.

A command that fails prints an error message on standard error and exits with a code other than 0. `BARMILL_HOME` names
the folder of the data; by default, this is `var/` in the folder of `./barmill`.
"""
_CONTAINER_HEADER = """
# Commands for containers

The following commands start and check one process at a time, as containers do. `./barmill --help` does not list them.
"""


def cli_reference() -> str:
    """Return the text of the page."""
    parser, _ = build_parser({*COMMANDS, *CONTAINER_COMMANDS})
    commands = dict(_commands(parser))
    lines = [_HEADER, "| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#barmill-{name}) | {text} |" for name, (_, text) in COMMANDS.items()]
    lines += [section for name in COMMANDS for section in _sections(commands[name], "##")]
    lines += [_CONTAINER_HEADER.rstrip()]
    lines += [section for name in CONTAINER_COMMANDS for section in _sections(commands[name], "##")]
    return "\n".join(lines) + "\n"


def _sections(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    """Yield the section of one command, then those of its actions."""
    parser.formatter_class = _FixedWidth
    yield f"\n{heading} {parser.prog}\n\n```text\n{parser.format_help().strip()}\n```"
    for _, action in _commands(parser):
        yield from _sections(action, "###")


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


class _FixedWidth(argparse.HelpFormatter):
    """A help formatter with a width that does not depend on the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_WIDTH)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(cli_reference(), "utf-8")
