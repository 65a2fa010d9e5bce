"""Status of the shipper: a small file in the home's run folder, written by the shipper and read by other programs."""

import json
from dataclasses import asdict, dataclass

from barmill.platform.file_replacement import replace_file
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.sqlite_file import if_ready
from barmill.storage.tick_log import TickLog


@dataclass(frozen=True)
class ShipperStatus:
    """The sequence up to which Kafka has the log, if known, and the current problem, without a full stop, or ''."""

    next_sequence: int | None
    problem: str
    updated_ms: int


def write_shipper_status(home: Home, status: ShipperStatus) -> None:
    """Write the status atomically."""
    replace_file(home.run / "shipper.json", json.dumps(asdict(status)) + "\n")


def read_shipper_status(home: Home) -> ShipperStatus | None:
    """Return the last status, or None if no shipper has run or the file is invalid."""
    try:
        return ShipperStatus(**json.loads((home.run / "shipper.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def kafka_problem(home: Home) -> str:
    """Return a sentence on why ticks do not reach Kafka and how many wait; '' if no problem is known."""
    if not (home.root / KafkaSettings.file_name).exists():
        return ""
    status = read_shipper_status(home)
    if status is None or not status.problem:
        return ""
    return f"{status.problem}; {_waiting_text(home, status)} wait in the local log."


def _waiting_text(home: Home, status: ShipperStatus) -> str:
    if status.next_sequence is None:  # Kafka was not available from the start, so its position is unknown
        return "new ticks"
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        return f"{max(0, log.end_sequence() - status.next_sequence):,} ticks"
    return "new ticks"
