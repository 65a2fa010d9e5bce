"""The shipper: copies the tick log to Kafka as it grows, split by shard, and waits while Kafka is not available.

The supervisor runs it as `python -m barmill.kafka.shipper --home FOLDER`. Feeds write only to the tick log, where ticks
wait while Kafka is not available; Kafka lacks only those that retention drops in the meantime. If killed at any time,
the next shipper resumes at the position in Kafka.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import polars as pl
from confluent_kafka import KafkaError, KafkaException

from barmill.audit.roles import FEED
from barmill.kafka.access import ensure_topics, password
from barmill.kafka.delivery import Delivery, OtherLogError
from barmill.kafka.messages import NO_TICKS, SourceState, TickMessage, encode
from barmill.kafka.shipper_status import ShipperStatus, read_shipper_status, write_shipper_status
from barmill.model.progress import shard_of
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.service import serve
from barmill.platform.settings_file import SettingsError
from barmill.platform.sqlite_file import data_version, if_ready, wait_for_change
from barmill.storage.tick_damage import MAX_BLOCK_ROWS
from barmill.storage.tick_log import Backlog, TickLog

logger = logging.getLogger(__name__)

# This many ticks, whatever the names of their instruments, fit into a message that Kafka accepts.
MAX_ROWS_PER_MESSAGE = 20_000
# While the state of the log changes, a shard without ticks is sent that state this often, so that bars close in time.
QUIET_SEND_EVERY_MS = 250
# Even without a change, each shard is sent the state this often, so that readers can distinguish a quiet log from a
# dead one.
SEND_EVERY_MS = 1_000


@dataclass(frozen=True)
class _Sent:
    at_ms: int
    message: TickMessage


class Batches:
    """The messages made from the log as it is read, for each shard in log order."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._shard_of: dict[str, int] = {}
        self._sent: dict[int, _Sent] = {}

    def messages(self, backlog: Backlog, clock_ms: int) -> list[tuple[int, TickMessage]]:
        """Return (shard, message), one or more for every shard that is due for a message now."""
        state = TickMessage(
            NO_TICKS,
            backlog.first_sequence,
            backlog.next_sequence,
            backlog.end_sequence,
            None,
            tuple(
                SourceState(source.name, source.live, source.complete_to_ms, source.ended, source.prefix)
                for source in backlog.sources
            ),
        )
        parts = self._split(backlog)
        messages = list[tuple[int, TickMessage]]()
        for shard in range(self._shards):
            if shard in parts:
                messages += (
                    (shard, piece) for piece in _split_message(replace(state, source=backlog.source), parts[shard])
                )
            elif self._is_due(shard, state, clock_ms):
                messages.append((shard, state))
        self._sent |= {shard: _Sent(clock_ms, state) for shard, _ in messages}
        return messages

    def next_due_ms(self, clock_ms: int) -> int:
        """Return in how many ms a shard is due for a message, even if the log does not grow."""
        if len(self._sent) < self._shards:
            return 0
        return max(0, min(sent.at_ms for sent in self._sent.values()) + SEND_EVERY_MS - clock_ms)

    def _is_due(self, shard: int, message: TickMessage, clock_ms: int) -> bool:
        sent = self._sent.get(shard)
        if sent is None:
            return True
        every_ms = SEND_EVERY_MS if _is_same_state(sent.message, message) else QUIET_SEND_EVERY_MS
        return clock_ms - sent.at_ms >= every_ms

    def _split(self, backlog: Backlog) -> Mapping[int, pl.DataFrame]:
        """Return the ticks by shard, with their sequence numbers."""
        if backlog.ticks is None:
            return {}
        first = backlog.first_sequence
        ticks = backlog.ticks.with_columns(sequence=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
        for name in ticks["instrument"].unique():
            if name not in self._shard_of:
                self._shard_of[name] = shard_of(name, self._shards)
        shards = pl.col("instrument").replace_strict(self._shard_of, return_dtype=pl.Int64)
        parts = ticks.with_columns(shard=shards).partition_by("shard", maintain_order=True, include_key=False)
        return {self._shard_of[part["instrument"][0]]: part for part in parts}


def _split_message(message: TickMessage, ticks: pl.DataFrame) -> Iterator[TickMessage]:
    """Split a shard's part of a batch into messages that Kafka accepts. Only the last gives the end of the batch."""
    for start in range(0, ticks.height, MAX_ROWS_PER_MESSAGE):
        piece = ticks.slice(start, MAX_ROWS_PER_MESSAGE)
        is_last = start + piece.height == ticks.height
        yield replace(
            message, ticks=piece, next_sequence=message.next_sequence if is_last else piece["sequence"][-1] + 1
        )


def _is_same_state(earlier: TickMessage, message: TickMessage) -> bool:
    return earlier.sources == message.sources and earlier.end_sequence == message.end_sequence


RETRY_S = 1.0
_CHECK_EVERY_S = 0.02
_STATUS_EVERY_S = 1.0
_NOT_RESPONDING = "Kafka does not respond"
_NOT_RESPONDING_CODES = {
    *(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT),
    *(KafkaError._RESOLVE, KafkaError._TIMED_OUT_QUEUE, KafkaError.COORDINATOR_NOT_AVAILABLE),
    *(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT),
}


class Shipper:
    """The copier of the tick log of one home to Kafka."""

    def __init__(self, home: Home, settings: KafkaSettings, keep_days: float, stop: threading.Event) -> None:
        self._home, self._settings, self._keep_days, self._stop = home, settings, keep_days, stop
        before = read_shipper_status(home)
        self._next_sequence = before.next_sequence if before else None
        self._status, self._status_at_s = ShipperStatus(None, "", 0), 0.0

    def run(self) -> None:
        """Ship until `stop` is set; start again when Kafka fails or refuses access, or there is no tick log yet."""
        while not self._stop.is_set():
            try:
                with if_ready():
                    self._ship()
                    return
                logger.info("The tick log cannot be read yet.")
            except KafkaException as error:
                self._report(_error_sentence(error.args[0]))
            except ControlError as error:
                self._report(str(error).rstrip("."))
            self._stop.wait(RETRY_S)

    def _ship(self) -> None:
        """Ship over one connection until it fails or `stop` is set."""
        secret = password(self._home, self._settings, FEED)
        ensure_topics(self._settings, self._keep_days, secret)
        with TickLog.read_only(self._home.ticks_db) as log:
            delivery = Delivery.open(self._settings, log.id(), secret, self._is_slow)
            try:
                self._ship_backlog(log, delivery)
            finally:
                delivery.drop()

    def _ship_backlog(self, log: TickLog, delivery: Delivery) -> None:
        batches = Batches(self._settings.partitions)
        if delivery.epoch is not None and log.epoch_before(delivery.next_sequence) != delivery.epoch:
            raise self._other_log()
        while not self._stop.is_set():
            self._next_sequence = delivery.next_sequence
            self._report("")
            version = data_version(log.db.conn)
            backlog = log.read_from(delivery.next_sequence, MAX_BLOCK_ROWS)
            self._check(backlog, delivery.next_sequence)
            messages = batches.messages(backlog, now_ms())
            if messages:
                delivery.send(
                    ((shard, encode(message)) for shard, message in messages), backlog.next_sequence, backlog.epoch
                )
            if backlog.caught_up:
                due_s = batches.next_due_ms(now_ms()) / 1_000
                wait_for_change(log.db.conn, version, due_s, every_s=_CHECK_EVERY_S, stop=self._stop)

    def _check(self, backlog: Backlog, next_sequence: int) -> None:
        """Warn if the log has dropped ticks that Kafka needs next; raise OtherLogError if it ends before them."""
        if next_sequence > backlog.end_sequence:
            raise self._other_log()
        if backlog.ticks is not None and backlog.first_sequence > next_sequence:
            lost = backlog.first_sequence - next_sequence
            logger.warning(
                "%d ticks were dropped from the local log before Kafka had them; increase keep_days in feed.json.",
                lost,
            )

    def _other_log(self) -> OtherLogError:
        return OtherLogError(
            "Kafka has ticks that are not in the local log, which may be an older copy; set another prefix in"
            f" {self._settings.file_name}"
        )

    def _is_slow(self) -> bool:
        """Record that Kafka does not respond; return whether to keep waiting."""
        self._report(_NOT_RESPONDING)
        return not self._stop.is_set()

    def _report(self, problem: str) -> None:
        """Write the shipper status: at once if the problem changed, otherwise once a second."""
        changed = problem != self._status.problem
        if changed or time.monotonic() >= self._status_at_s:
            self._status_at_s = time.monotonic() + _STATUS_EVERY_S
            self._status = ShipperStatus(self._next_sequence, problem, now_ms())
            write_shipper_status(self._home, self._status)
        if changed:
            logger.warning("%s.", problem or "Kafka accepts ticks again")


def _error_sentence(error: KafkaError) -> str:
    if error.code() in _NOT_RESPONDING_CODES:
        return _NOT_RESPONDING
    if error.code() == KafkaError._FENCED:
        return "Another shipper writes to the same topics; stop it, or set another prefix in kafka.json"
    return f"Kafka refuses the ticks ({error.str()})"


def run(home: Home, stop: threading.Event) -> int:
    """Ship the tick log of this home until `stop` is set; return 0, or 1 if the settings are missing or invalid."""
    try:
        settings, feed = KafkaSettings.read(home), FeedSettings.read(home)
        if not settings.is_used:
            raise SettingsError(f"The home has no {settings.file_name} with the address of Kafka; create one.")
    except SettingsError as error:
        logger.error("%s", error)
        return 1
    Shipper(home, settings, feed.keep_days, stop).run()
    return 0


if __name__ == "__main__":
    # Only one process runs at a time. Two shippers would keep fencing each other off.
    sys.exit(serve("shipper", "Barmill's shipper: copies the tick log to Kafka.", run))
