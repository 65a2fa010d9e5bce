"""The shipper: carries the tick log to Kafka as it grows, and waits for Kafka whenever it is away.

Run by the supervisor as `python -m feed.kafka.shipper --home FOLDER`. The tick log stays what the feed writes, so no
tick is lost while Kafka is away. Killed at whatever moment, the next shipper goes on where Kafka stands.
"""

import logging
import sqlite3
import sys
import threading
import time

from confluent_kafka import KafkaError, KafkaException

from bar.clock import now_ms
from bar.sqlite_file import StoreMissingError
from control.errors import ControlError
from control.home import Home
from control.kafka.access import password
from control.kafka.settings import KafkaSettings
from control.kafka.topics import ensure_topics
from control.machine.service import serve
from control.people.roles import FEED
from control.settings_file import SettingsError
from control.waiting import wait_until
from feed.intake import MAX_BLOCK_ROWS
from feed.kafka.batches import Batches
from feed.kafka.delivery import Delivery, OtherLogError
from feed.kafka.message import encode
from feed.kafka.standing import Standing, read_standing, write_standing
from feed.settings import FeedSettings
from feed.ticklog import Backlog, TickLog

logger = logging.getLogger(__name__)

RETRY_S = 1.0
_LOOK_EVERY_S = 0.02
_NOTE_EVERY_S = 1.0
_AWAY = "Kafka does not answer"
_AWAY_CODES = {
    *(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT),
    *(KafkaError._RESOLVE, KafkaError._TIMED_OUT_QUEUE, KafkaError.COORDINATOR_NOT_AVAILABLE),
    *(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT),
}


class Shipper:
    """Carries the tick log of one home, as long as it runs."""

    def __init__(self, home: Home, settings: KafkaSettings, keep_days: float, stop: threading.Event) -> None:
        self._home, self._settings, self._keep_days, self._stop = home, settings, keep_days, stop
        before = read_standing(home)
        self._next_sequence = before.next_sequence if before else None
        self._noted, self._note_at_s = Standing(None, "", 0), 0.0

    def run(self) -> None:
        """Ship until told to stop, taking it up again after every failure."""
        while not self._stop.is_set():
            try:
                self._ship()
            except (StoreMissingError, sqlite3.OperationalError) as error:  # the feed may not have made the log yet
                logger.info("The tick log cannot be read yet: %s", error)
            except KafkaException as error:
                self._note(_sentence(error.args[0]))
            except ControlError as error:
                self._note(str(error).rstrip("."))
            self._stop.wait(RETRY_S)

    def _ship(self) -> None:
        """Ship over one connection until it fails."""
        secret = password(self._home, self._settings, FEED)
        ensure_topics(self._settings, self._keep_days, secret)
        with TickLog.read_only(self._home.ticks_db) as log:
            delivery = Delivery.open(self._settings, log.id(), secret, self._is_slow)
            try:
                self._follow(log, delivery)
            finally:
                delivery.drop()

    def _follow(self, log: TickLog, delivery: Delivery) -> None:
        batches = Batches(self._settings.partitions)
        if delivery.epoch is not None and log.epoch_before(delivery.next_sequence) != delivery.epoch:
            raise self._other_log()
        while not self._stop.is_set():
            self._next_sequence = delivery.next_sequence
            self._note("")
            version = _version(log)
            backlog = log.read_from(delivery.next_sequence, MAX_BLOCK_ROWS)
            self._check(backlog, delivery.next_sequence)
            messages = batches.messages(backlog, now_ms())
            if messages:
                delivery.send(((shard, encode(one)) for shard, one in messages), backlog.next_sequence, backlog.epoch)
            if backlog.caught_up:
                due_s = batches.next_due_ms(now_ms()) / 1_000
                wait_until(lambda seen=version: _version(log) != seen, due_s, every_s=_LOOK_EVERY_S, stop=self._stop)  # type: ignore[misc]

    def _check(self, backlog: Backlog, next_sequence: int) -> None:
        """See that the log still has what Kafka is to get next."""
        if next_sequence > backlog.end_sequence:
            raise self._other_log()
        if backlog.ticks is not None and backlog.first_sequence > next_sequence:
            lost = backlog.first_sequence - next_sequence
            logger.warning("%d ticks left the local log before Kafka had them; feed.json says how long it keeps.", lost)

    def _other_log(self) -> OtherLogError:
        return OtherLogError(
            "Kafka has ticks that the local log lacks, which was replaced by an older one; set another prefix in"
            f" {self._settings.file_name}"
        )

    def _is_slow(self) -> bool:
        """Say so; return whether to go on waiting."""
        self._note(_AWAY)
        return not self._stop.is_set()

    def _note(self, problem: str) -> None:
        """Let others know how it stands: at once when that changed, else once a second."""
        changed = problem != self._noted.problem
        if changed or time.monotonic() >= self._note_at_s:
            self._note_at_s = time.monotonic() + _NOTE_EVERY_S
            self._noted = Standing(self._next_sequence, problem, now_ms())
            write_standing(self._home, self._noted)
        if changed:
            logger.warning("%s.", problem or "Kafka takes ticks again")


def _version(log: TickLog) -> int:
    """Return a number that is another one as soon as somebody has written to the log."""
    return int(log.db.conn.execute("PRAGMA data_version").fetchone()[0])


def _sentence(error: KafkaError) -> str:
    if error.code() in _AWAY_CODES:
        return _AWAY
    if error.code() == KafkaError._FENCED:
        return "Another shipper writes to the same topics; stop it, or set another prefix in kafka.json"
    return f"Kafka refuses the ticks ({error.str()})"


def run(home: Home, stop: threading.Event) -> int:
    """Ship the tick log of this home until told to stop."""
    try:
        settings, feed = KafkaSettings.read(home), FeedSettings.read(home)
        if not settings.used:
            raise SettingsError(f"There is no {settings.file_name} in the home that says where Kafka is; write one.")
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    Shipper(home, settings, feed.keep_days, stop).run()
    return 0


if __name__ == "__main__":
    # Two shippers would keep fencing each other off.
    sys.exit(serve("shipper", "Barmill's shipper: the tick log to Kafka.", run))
