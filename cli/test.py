"""`barmill test`: check style and types and run all tests; with arguments, run only pytest with them."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from barmill.platform.home import PYTHON_PATH, REPO_ROOT
from cli.common import UserError


@dataclass(frozen=True)
class Group:
    """One command of a whole run. minutes: how long it takes on two cores, for an estimate."""

    name: str
    command: Sequence[str]
    minutes: float


# Two tests run at once, because most of them wait; the tests of one file share what they started. Browser tests are
# sensitive to timing, so they have the machine to themselves.
_TWO_AT_ONCE = ("--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder")
GROUPS = (
    Group("style", ("ruff", "check", "."), 0.1),
    Group("layout", ("ruff", "format", "--check", "."), 0.1),
    Group("types", ("mypy",), 1),
    Group("browser tests", ("pytest", "-m", "browser"), 15),
    Group("all tests outside the browser", ("pytest", "-m", "not browser", *_TWO_AT_ONCE), 28),
)
# Any of these can run the browser tests; without one, Playwright downloads its own.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "pytest", nargs=argparse.REMAINDER, help="arguments for pytest (default: all tests and the checks)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the checks and tests, or only pytest; return 0 if all pass, otherwise raise UserError."""
    pytest_arguments = args.pytest[1:] if args.pytest[:1] == ["--"] else args.pytest
    _provide_browser()
    if pytest_arguments:
        failed = ["tests"] * (not _passes("tests", ("pytest", *pytest_arguments)))
    else:
        failed = [group.name for index, group in enumerate(GROUPS) if not _passes(_title(index), group.command)]
    if failed:
        raise UserError(f"Failed: {', '.join(failed)}; see the output above.")
    return 0


def _title(index: int) -> str:
    """Return which group runs, and how long it and those after it usually take."""
    minutes_left = sum(group.minutes for group in GROUPS[index:])
    return f"{GROUPS[index].name} ({index + 1} of {len(GROUPS)}, about {minutes_left:.0f} minutes left)"


def _passes(title: str, command: Sequence[str]) -> bool:
    print(f"── {title}: {' '.join(command)}", flush=True)
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    return subprocess.run([sys.executable, "-m", *command], cwd=REPO_ROOT, env=environment, check=False).returncode == 0


def _provide_browser() -> None:
    if any(shutil.which(name) for name in BROWSERS):
        return
    print("── browser: playwright install chromium", flush=True)
    install = [sys.executable, "-m", "playwright", "install", "chromium"]
    if subprocess.run(install, check=False).returncode != 0:
        raise UserError("No Chromium for the browser tests; install one (Debian, Ubuntu: apt install chromium).")
