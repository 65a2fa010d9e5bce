"""`barmill test`: style, types and all tests; with arguments, only pytest with those."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from cli.errors import UserError
from control.home import REPO_ROOT

CHECKS = (
    ("style", ("ruff", "check", ".")),
    ("layout", ("ruff", "format", "--check", ".")),
    ("types", ("mypy",)),
)
# What a browser shows depends on how quickly it comes, so its tests have the machine to themselves; of the others two
# go side by side, because most of them wait, and those of one file share what they started.
PARTS = (
    ("tests in the browser", ("pytest", "-m", "browser")),
    (
        "all other tests",
        ("pytest", "-m", "not browser", "--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder"),
    ),
)
# Any of these serves the browser tests; without one, Playwright fetches its own.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "pytest", nargs=argparse.REMAINDER, help="what pytest is to run (default: everything, checks too)"
    )


def run(args: argparse.Namespace) -> int:
    """Run what was asked and return 0 only if all of it passed."""
    wanted = args.pytest[1:] if args.pytest[:1] == ["--"] else args.pytest
    _provide_browser()
    asked = (("tests", ("pytest", *wanted)),) if wanted else (*CHECKS, *PARTS)
    failed = [name for name, command in asked if not _passes(name, command)]
    if failed:
        raise UserError(f"Not passed: {', '.join(failed)}; what is wrong stands above.")
    return 0


def _passes(name: str, command: Sequence[str]) -> bool:
    print(f"── {name}: {' '.join(command)}", flush=True)
    environment = os.environ | {"PYTHONPATH": str(REPO_ROOT)}
    return subprocess.run([sys.executable, "-m", *command], cwd=REPO_ROOT, env=environment, check=False).returncode == 0


def _provide_browser() -> None:
    if any(shutil.which(name) for name in BROWSERS):
        return
    print("── browser: playwright install chromium", flush=True)
    install = [sys.executable, "-m", "playwright", "install", "chromium"]
    if subprocess.run(install, check=False).returncode != 0:
        raise UserError("No Chromium for the browser tests; install one (Debian, Ubuntu: apt install chromium).")
