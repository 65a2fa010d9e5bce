"""The feed process: keeps the prices of all feeds flowing into the tick log, and the log in shape.

Run as `python -m feed.ingest --home DIR`; it ends on SIGTERM after the batches in hand.
"""

import logging
import sqlite3
import sys
import threading
from contextlib import closing

from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from control.feeds.store import Feeds
from control.home import Home
from control.machine.service import serve
from control.settings_file import SettingsError
from feed.feeding import LOOK_EVERY_S, Feeding
from feed.settings import FeedSettings
from feed.ticklog import TickLog
from feed.unread import unread
from feed.upkeep import Upkeep

logger = logging.getLogger(__name__)

_UPKEEP_EVERY_S = 1.0


def feed(settings: FeedSettings, home: Home, stop: threading.Event) -> None:
    """Run all feeds of a home until `stop`."""
    with TickLog.open(home.ticks_db) as log, Feeds.open(home) as feeds:
        log.begin_epoch(made_of_up_to(home))
        feeding = Feeding(home, settings, feeds, log)
        upkeep = threading.Thread(target=_keep_up, args=(settings, home, stop), name="upkeep", daemon=True)
        upkeep.start()
        try:
            while not stop.is_set():
                feeding.step()
                stop.wait(LOOK_EVERY_S)
        finally:
            feeding.stop()


def made_of_up_to(home: Home) -> int:
    """Return the sequence up to which bars were ever made, also of ticks that a log from a backup lacks."""
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return reader.next_sequence()
    except (StoreMissingError, sqlite3.Error):  # none yet, or a damaged one, which must not stop the feeds
        return 0


def _keep_up(settings: FeedSettings, home: Home, stop: threading.Event) -> None:
    """Keep the log in shape, beside the feeds, so that none waits for it."""
    with TickLog.open(home.ticks_db) as log:
        upkeep = Upkeep(
            log.db,
            keep_days=settings.keep_days,
            keep_bytes=int(settings.keep_gb * 1e9),
            unread=lambda: unread(home),
        )
        while not stop.wait(_UPKEEP_EVERY_S):
            try:
                upkeep.do_what_is_due()
            except (sqlite3.Error, SettingsError) as error:  # a full disk, say: the prices go on as long as they can
                logger.warning("The tick log cannot be kept in shape now: %s", error)


def run(home: Home, stop: threading.Event) -> int:
    """Run the feeds of this home until told to stop."""
    try:
        feed(FeedSettings.read(home), home, stop)
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    # Two of them would read every source twice.
    sys.exit(serve("ingest", "Barmill's feed: prices in, tick log out.", run))
