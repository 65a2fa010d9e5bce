"""What the processes of a home have in common: their command line, logging, one of each, and an end on a signal."""

import argparse
import fcntl
import logging
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bar.disk import PAUSE_S, is_from_full_disk
from control.errors import ControlError
from control.home import Home

logger = logging.getLogger(__name__)


def is_at_work(home: Home, name: str) -> bool:
    """Tell whether a process of this name, run by `serve`, is at work on the home, wherever it was started."""
    try:
        with (home.run / f"{name}.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that others who ask are not taken for it
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def serve(name: str, description: str, work: Callable[[Home, threading.Event], int]) -> int:
    """Run `work` for the home named on the command line until SIGTERM or SIGINT sets its event; return its result.

    Of one name, one runs at a time in a home; another waits for its turn. While the disk is full the work pauses.
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
    with (home.run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _paused_while_full(home, stop, work)


def _paused_while_full(home: Home, stop: threading.Event, work: Callable[[Home, threading.Event], int]) -> int:
    """Do the work; where it fails because the disk is full, pause and do it again."""
    while not stop.is_set():
        try:
            return work(home, stop)
        except (OSError, sqlite3.Error, ControlError) as error:
            if not is_from_full_disk(error, home.root):
                raise
            logger.warning("The disk of %s is full (%s); trying again every %g s.", home.root, error, PAUSE_S)
            stop.wait(PAUSE_S)
    return 0
