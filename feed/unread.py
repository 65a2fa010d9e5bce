"""Up to where the tick log was read by those that must not miss a tick: the jobs, and the shipper to Kafka."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import Progress
from control.home import Home
from control.jobs.ledger import JobLedger
from control.jobs.states import Desired
from control.kafka.settings import KafkaSettings
from feed.kafka.standing import read_standing

ALL_IS_READ = 2**62


@dataclass(frozen=True)
class Unread:
    """From which sequence on ticks are unread: by what should be running, and by any job, also a stopped one."""

    by_running: int = ALL_IS_READ
    by_any: int = ALL_IS_READ


def unread(home: Home) -> Unread:
    """Return what is unread in the log of a home; raise sqlite3.Error or SettingsError where that is not known."""
    shipped = _shipped(home)
    progress = _progress(home)
    running, stopped = [shipped], [shipped]
    for name, desired, shards in _jobs(home):
        mine = [one.next_sequence for one in progress if one.job == name]
        # A shard that never said how far it is has read nothing.
        reached = min(mine) if len(mine) == shards else 0
        (running if desired is Desired.RUNNING else stopped).append(reached)
    return Unread(min(running), min(running + stopped))


def _jobs(home: Home) -> list[tuple[str, Desired, int]]:
    """Return name, desired state and shards of the jobs that read the log on SQLite."""
    try:
        with JobLedger.read_only(home) as ledger:
            if not ledger.db.table("jobs").exists():
                return []
            specs = [(job, ledger.spec(job.name, job.version)) for job in ledger.jobs()]
    except StoreMissingError:
        return []
    return [(job.name, job.desired, spec.shards) for job, spec in specs if spec.source == "sqlite"]


def _progress(home: Home) -> Sequence[Progress]:
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            return reader.progress() if reader.db.table("progress").exists() else []
    except StoreMissingError:
        return []


def _shipped(home: Home) -> int:
    if not KafkaSettings.read(home).used:
        return ALL_IS_READ
    standing = read_standing(home)
    return 0 if standing is None or standing.next_sequence is None else standing.next_sequence
