"""How the shipper stands: a small file in the home's run folder, written by the shipper and read by whoever asks."""

import json
import sqlite3
from dataclasses import asdict, dataclass

from bar.sqlite_file import StoreMissingError
from control.home import Home
from control.kafka.settings import KafkaSettings
from feed.ticklog import TickLog


@dataclass(frozen=True)
class Standing:
    """Up to which sequence Kafka has the log, as far as known, and why it gets no more, without a full stop, or ''."""

    next_sequence: int | None
    problem: str
    updated_ms: int


def write_standing(home: Home, standing: Standing) -> None:
    """Note how it stands, whole or not at all."""
    path = home.run / "shipper.json"
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(standing)) + "\n")
    beside.replace(path)


def read_standing(home: Home) -> Standing | None:
    """Return how it stood last, or None where no shipper has run."""
    try:
        return Standing(**json.loads((home.run / "shipper.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def kafka_problem(home: Home) -> str:
    """Say in a sentence why ticks do not reach Kafka and how many wait; '' where it is not used, or all is well."""
    if not (home.root / KafkaSettings.file_name).exists():
        return ""
    standing = read_standing(home)
    if standing is None or not standing.problem:
        return ""
    return f"{standing.problem}; {_waiting(home, standing)} wait in the local log."


def _waiting(home: Home, standing: Standing) -> str:
    if standing.next_sequence is None:  # it was away from the start, so how much it has is not known
        return "new ticks"
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return f"{max(0, log.end_sequence() - standing.next_sequence):,} ticks"
    except (StoreMissingError, sqlite3.OperationalError):
        return "new ticks"
