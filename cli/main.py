"""`barmill`: parse the command line and run the module of the command."""

import argparse
import errno
import importlib
import os
import signal
import sqlite3
import sys
from collections.abc import Collection, Sequence
from types import FrameType
from typing import Protocol

from barmill.platform.errors import ControlError
from barmill.platform.home import REPO_ROOT, Home
from cli.common import UserError

# Name, module and help text. A command's module is imported only when it runs, so that --help is fast.
COMMANDS = {
    "up": ("cli.up", "start all processes and open the pages"),
    "down": ("cli.down", "stop everything"),
    "status": ("cli.status", "show what is running"),
    "replay": ("cli.replay", "make bars from tick files"),
    "bars": ("cli.bars", "print bars"),
    "job": ("cli.job", "create, start, stop and show jobs"),
    "audit": ("cli.audit", "print or check the audit log"),
    "user": ("cli.user", "manage accounts and roles"),
    "instrument": ("cli.instrument", "list, enable and disable instruments"),
    "verify": ("cli.verify", "recompute bars from the tick log and compare"),
    "repair": ("cli.repair", "rebuild or compact the bar store, and quarantine damaged ticks"),
    "key": ("cli.key", "manage the API keys of providers"),
    "bench": ("cli.bench", "measure throughput, latency and memory"),
    "test": ("cli.test", "run the checks and the tests"),
}
# Commands for containers; users do not type them, so --help omits them.
CONTAINER_COMMANDS = {
    "prepare": ("cli.prepare", "prepare the home for processes that are started separately"),
    "run": ("cli.run", "run one process in the foreground, as a container does"),
    "check": ("cli.check", "check one process; the exit code is 0 if it is healthy"),
}
# Commands for developers need folders of the repository that the image does not contain.
NEEDED_FOLDERS = {"bench": "benchmarks", "test": "tests"}
_SIGINT_EXIT = 128 + signal.SIGINT


class Command(Protocol):
    """The interface of a command's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of the command."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return the exit code; raise UserError for errors that the user can fix."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # SIGTERM ends the program with an exception, so that its resources are closed and its children stopped.
    signal.signal(signal.SIGTERM, _on_end_signal)
    try:
        _require_text(words)
        command, args = _parse(words)
        return command.run(args)
    except (UserError, ControlError) as error:
        return _print_error(str(error))
    except KeyboardInterrupt:
        return _SIGINT_EXIT
    except BrokenPipeError:
        # The reader of the output has closed the pipe; Python must not flush the remaining output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, sqlite3.Error) as error:
        sentence = _disk_sentence(error) if isinstance(error, OSError) else _store_sentence(error)
        if sentence is None:
            raise
        return _print_error(sentence)


def build_parser(loaded: Collection[str]) -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    """Return the parser of the whole command line, and the modules of the commands in `loaded`.

    Only these commands get their arguments, because importing a module takes time; others are known only by name.
    """
    parser = argparse.ArgumentParser(prog="barmill", description="Turns live prices into second, minute and hour bars.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    modules: dict[str, Command] = {}
    for name, (module, text) in (COMMANDS | CONTAINER_COMMANDS).items():
        description = f"{text[0].upper()}{text[1:]}."
        is_listed = name in COMMANDS
        subparser = (
            commands.add_parser(name, help=text, description=description)
            if is_listed
            else commands.add_parser(name, description=description)
        )
        if name in loaded:
            modules[name] = importlib.import_module(module)
            modules[name].add_arguments(subparser)
    return parser, modules


def _parse(words: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    command_name = next((word for word in words if not word.startswith("-")), "")
    _require_checkout(command_name)
    parser, modules = build_parser({command_name})
    if command_name == "test" and words[-1] not in ("-h", "--help"):
        # argparse would parse pytest's options as options of Barmill.
        words = [*words[: words.index(command_name) + 1], "--", *words[words.index(command_name) + 1 :]]
    args = parser.parse_args(words)
    if command_name not in modules:  # argparse has rejected all other names
        parser.error(f"there is no command {command_name}")
    return modules[command_name], args


def _require_text(words: Sequence[str]) -> None:
    """Raise UserError for an argument that is not UTF-8: neither a database nor a message to Flink could contain it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            printable = word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise UserError(
                f'The argument "{printable}" is not valid UTF-8; correct it, or rename the file that it names.'
            ) from None


def _require_checkout(command: str) -> None:
    folder = NEEDED_FOLDERS.get(command)
    if folder is not None and not (REPO_ROOT / folder).is_dir():
        raise UserError(
            f"`barmill {command}` needs a checkout of the repository, and this installation has no folder {folder}/;"
            " clone the repository and run it there."
        )


def _print_error(sentence: str) -> int:
    sys.stderr.write(f"barmill: {sentence}\n")
    return 1


def _disk_sentence(error: OSError) -> str | None:
    """Return a sentence about a problem with a disk, or None for other errors."""
    location = f" at {error.filename}" if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"The disk is full{location}; free some space, or set BARMILL_HOME to a folder on another disk."
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"Access is not allowed{location}; set BARMILL_HOME to a folder that you can read and write."
    return None


def _store_sentence(error: sqlite3.Error) -> str | None:
    """Return a sentence about why a store cannot be used, or None for other errors."""
    location = Home.find().root
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "The disk is full; free some space, or set BARMILL_HOME to a folder on another disk."
        case sqlite3.SQLITE_IOERR:
            return f"Reading or writing a file in {location} failed ({error}); check the disk and its free space."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return (
                f"The files in {location} cannot be written ({error}); make the folder writable, or set BARMILL_HOME to"
                " another one."
            )
    return None


def _on_end_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
