"""`barmill`: reads the command line and hands over to the module of the command."""

import argparse
import errno
import importlib
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Protocol

from cli.errors import UserError
from control.errors import ControlError
from control.home import Home

# Name, module, and what --help says. A command's module is imported only when it runs, so that --help is quick.
COMMANDS = {
    "up": ("cli.up", "start everything, and open the pages"),
    "down": ("cli.down", "stop everything"),
    "status": ("cli.status", "say what is running, and how"),
    "replay": ("cli.replay", "make bars from files of ticks"),
    "bars": ("cli.bars", "print bars"),
    "job": ("cli.job", "make jobs, start, stop and look at them"),
    "audit": ("cli.audit", "print the log of who did what, or check it"),
    "user": ("cli.user", "add people, and say who may do what"),
    "instrument": ("cli.instrument", "list, enable and disable instruments"),
    "verify": ("cli.verify", "recompute bars from the tick log and compare"),
    "repair": ("cli.repair", "make a damaged bar store again, and put damaged ticks aside"),
    "key": ("cli.key", "keep the API keys of providers"),
    "bench": ("cli.bench", "measure speed, delay and memory"),
    "test": ("cli.test", "run the checks and the tests"),
}
# What a container does with its one process; nobody types these, so --help leaves them out.
IN_CONTAINERS = {
    "prepare": ("cli.prepare", "make the home ready for processes that are started one by one"),
    "run": ("cli.run", "run one of the processes here, as a container does"),
    "check": ("cli.check", "say by the exit code whether one of them is well"),
}
_SIGINT_EXIT = 128 + signal.SIGINT


class Command(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command line."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code; raise UserError for what the user can mend."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Ends the program by an exception, so that what it opened and started is closed and stopped on the way out.
    signal.signal(signal.SIGTERM, _on_end_signal)
    try:
        command, args = _parse(given)
        return command.run(args)
    except (UserError, ControlError) as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _SIGINT_EXIT
    except BrokenPipeError:
        # Whoever read our output has enough of it; Python must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, sqlite3.Error) as error:
        sentence = _disk_sentence(error) if isinstance(error, OSError) else _store_sentence(error)
        if sentence is None:
            raise
        return _complain(sentence)


def _parse(given: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="barmill", description="Live prices into second, minute and hour bars.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    wanted = next((word for word in given if not word.startswith("-")), None)
    command: Command | None = None
    for name, (module, text) in (COMMANDS | IN_CONTAINERS).items():
        about = f"{text[0].upper()}{text[1:]}."
        listed = name in COMMANDS
        one = (
            commands.add_parser(name, help=text, description=about)
            if listed
            else commands.add_parser(name, description=about)
        )
        if name == wanted:
            command = importlib.import_module(module)
            command.add_arguments(one)
    if wanted == "test" and given[-1] not in ("-h", "--help"):
        # argparse would take pytest's options for ours.
        given = [*given[: given.index(wanted) + 1], "--", *given[given.index(wanted) + 1 :]]
    args = parser.parse_args(given)
    if command is None:  # argparse has refused every other name
        parser.error(f"there is no command {wanted}")
    return command, args


def _complain(sentence: str) -> int:
    sys.stderr.write(f"barmill: {sentence}\n")
    return 1


def _disk_sentence(error: OSError) -> str | None:
    """Say in one sentence what is wrong with a disk, or None if this is about something else."""
    where = f" at {error.filename}" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"The disk is full{where}; free some space, or set BARMILL_HOME to a folder on another disk."
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"Writing is not allowed{where}; set BARMILL_HOME to a folder of your own."
    return None


def _store_sentence(error: sqlite3.Error) -> str | None:
    """Say in one sentence why a store cannot be used, or None if this is about something else."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "The disk is full; free some space, or set BARMILL_HOME to a folder on another disk."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            where = Home.find().root
            return (
                f"The files in {where} cannot be written ({error}); make it writable, or set BARMILL_HOME to another."
            )
    return None


def _on_end_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
