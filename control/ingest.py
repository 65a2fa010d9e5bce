"""The ingest process, which writes the prices of all feeds to the tick log, and applies the log's retention.

Run as `python -m control.ingest --home FOLDER`; on SIGTERM it finishes the current batches and exits.
"""

import logging
import sqlite3
import sys
import threading
from collections.abc import Sequence

from barmill.ingest.feed_runner import CHECK_EVERY_S, FeedRunner
from barmill.ingest.feeds.feed import Feeds
from barmill.kafka.shipper_status import read_shipper_status
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.service import serve
from barmill.platform.settings_file import SettingsError
from barmill.platform.sqlite_file import StoreMissingError
from barmill.storage.bar_store import Progress
from barmill.storage.maintenance import ALL_IS_READ, LogMaintenance, UnreadFrom
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.jobs.model import Desired
from control.jobs.repository import JobRepository


def unread_from(home: Home) -> UnreadFrom:
    """Return the first sequences that jobs have not read, or that are not in Kafka yet if it is used.

    Raise sqlite3.Error or SettingsError if they are unknown.
    """
    shipped = _shipped_to(home)
    progress = _progress(home)
    running_positions, stopped_positions = [shipped], [shipped]
    for name, desired, shards in _jobs(home):
        positions = [shard.next_sequence for shard in progress if shard.job == name]
        # A shard without recorded progress has read nothing.
        position = min(positions) if len(positions) == shards else 0
        (running_positions if desired is Desired.RUNNING else stopped_positions).append(position)
    return UnreadFrom(min(running_positions), min(running_positions + stopped_positions))


def _jobs(home: Home) -> list[tuple[str, Desired, int]]:
    """Return the name, desired state and number of shards of each job that reads the log from SQLite."""
    try:
        with JobRepository.read_only(home) as repository:
            if not repository.db.table("jobs").exists():
                return []
            specs = [(job, repository.spec(job.name, job.version)) for job in repository.jobs()]
    except StoreMissingError:
        return []
    return [(job.name, job.desired, spec.shards) for job, spec in specs if spec.source == "sqlite"]


def _progress(home: Home) -> Sequence[Progress]:
    try:
        with BarReader.open(home.bars_db) as reader:
            return reader.progress() if reader.db.table("progress").exists() else []
    except StoreMissingError:
        return []


def _shipped_to(home: Home) -> int:
    if not KafkaSettings.read(home).is_used:
        return ALL_IS_READ
    status = read_shipper_status(home)
    return 0 if status is None or status.next_sequence is None else status.next_sequence


logger = logging.getLogger(__name__)

_MAINTENANCE_EVERY_S = 1.0


def run_feeds(settings: FeedSettings, home: Home, stop: threading.Event) -> None:
    """Run all feeds of a home and the maintenance of the tick log until `stop` is set."""
    with TickLog.open(home.ticks_db) as log, Feeds.open(home) as feeds:
        log.begin_epoch(end_of_bars(home))
        runner = FeedRunner(home, settings, feeds, log)
        maintenance = threading.Thread(
            target=_maintain_log, args=(settings, home, stop), name="maintenance", daemon=True
        )
        maintenance.start()
        try:
            while not stop.is_set():
                runner.step()
                stop.wait(CHECK_EVERY_S)
        finally:
            runner.stop()


def end_of_bars(home: Home) -> int:
    """Return the sequence after the last tick in the bars; 0 without bars.

    A log restored from a backup may lack that tick.
    """
    try:
        with BarReader.open(home.bars_db) as reader:
            return reader.next_sequence()
    except (StoreMissingError, sqlite3.Error):  # no store yet, or a damaged one, which must not stop the feeds
        return 0


def _maintain_log(settings: FeedSettings, home: Home, stop: threading.Event) -> None:
    """Maintain the log in a separate thread, so that no feed waits for it."""
    with TickLog.open(home.ticks_db) as log:
        maintenance = LogMaintenance(
            log.db,
            keep_days=settings.keep_days,
            keep_bytes=int(settings.keep_gb * 1e9),
            unread=lambda: unread_from(home),
        )
        while not stop.wait(_MAINTENANCE_EVERY_S):
            try:
                maintenance.run_due_tasks()
            except (sqlite3.Error, SettingsError) as error:  # for example a full disk; the feeds must continue
                logger.warning("The maintenance of the tick log failed and will be retried: %s", error)


def run(home: Home, stop: threading.Event) -> int:
    """Run the feeds of this home until `stop` is set. Return 0, or 1 if the settings are invalid."""
    try:
        run_feeds(FeedSettings.read(home), home, stop)
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    # A second process would read every source twice.
    sys.exit(serve("ingest", "Barmill's ingest: writes the prices of all feeds to the tick log.", run))
