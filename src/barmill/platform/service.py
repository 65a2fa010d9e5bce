"""Common parts of the processes of a home: command line, logging, one instance each, and shutdown on a signal."""

import argparse
import logging
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.locks import exclusive, is_held
from barmill.platform.sqlite_file import PAUSE_S, is_from_full_disk

logger = logging.getLogger(__name__)


def is_running(home: Home, name: str) -> bool:
    """Return whether a process with this name, run by `serve`, is running for the home, however it was started."""
    return is_held(home.run / f"{name}.lock")


def serve(name: str, description: str, work: Callable[[Home, threading.Event], int]) -> int:
    """Run `work` for the home given on the command line. Return its result.

    SIGTERM or SIGINT sets the event that `work` receives, and `work` then ends. Only one process with this name runs at
    a time in a home; others wait. If the work fails because the disk is full, it starts again after a pause.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args().home).create()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with exclusive(home.run / f"{name}.lock"):
        return _run_with_retries(home, stop, work)


def _run_with_retries(home: Home, stop: threading.Event, work: Callable[[Home, threading.Event], int]) -> int:
    """Do the work. If it fails because the disk is full, pause and start it again. Return 0 if stopped meanwhile."""
    while not stop.is_set():
        try:
            return work(home, stop)
        except (OSError, sqlite3.Error, ControlError) as error:
            if not is_from_full_disk(error, home.root):
                raise
            logger.warning("The disk of %s is full (%s); retrying every %g s.", home.root, error, PAUSE_S)
            stop.wait(PAUSE_S)
    return 0
