"""The account of all ticks: what was read is in the bars, among the rejects, or still on its way to the job."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from bar.frames import parse_frames
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import Progress
from control.freshness.reading import jobs_at_rest
from control.home import Home
from feed.damage import damaged_blocks
from feed.ticklog import TickLog


@dataclass(frozen=True)
class Account:
    """Every number is counted from what is stored.

    read: rows that the feed read. refused: of them, what it turned away at the door, by reason. too_late: ticks the job
    refused. in_bars: ticks that the stored bars hold. waiting: ticks in the log that the job has yet to read. damaged:
    ticks that no job can read any more, because their blocks of the log are damaged.
    """

    read: int
    in_bars: int
    too_late: int
    refused: Mapping[str, int]
    waiting: int
    damaged: int = 0

    @property
    def off_by(self) -> int:
        """Return how many rows are unaccounted for; below 0, how many are counted twice."""
        return self.read - self.in_bars - self.too_late - sum(self.refused.values()) - self.waiting - self.damaged


def take_account(home: Home) -> Account:
    """Count everything there is in the stores of the home; one that nobody has made yet holds nothing."""
    # The bars first: what the job reads between the two looks then counts as waiting, not as lost.
    read_by_job, next_sequence, in_bars, too_late, ahead = _in_bars(home)
    try:
        with TickLog.read_only(home.ticks_db) as log:
            sources, refused, end_sequence = log.sources(), log.rejects_by_reason(), log.end_sequence()
            lost = sum(one.rows for one in damaged_blocks(log.db))
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        sources, refused, end_sequence, lost = (), {}, 1, 0
    read, accepted = sum(source.read for source in sources), sum(source.accepted for source in sources)
    waiting = accepted - read_by_job
    if next_sequence is not None:
        waiting = min(waiting, end_sequence - next_sequence)
    waiting = max(0, waiting)
    # What the job has not read although it is past it was in damaged blocks, as far as there are such.
    damaged = min(lost, max(0, waiting - max(0, end_sequence - ahead)))
    return Account(read, in_bars, too_late, refused, waiting - damaged, damaged)


def _in_bars(home: Home) -> tuple[int, int | None, int, int, int]:
    """Return (ticks the job has read, where it is, ticks in the bars, ticks refused as too late, the next sequence).

    All as of one moment.

    Where it is: the next sequence, only if another job has read more ticks. The job may then have begun when the log
    had dropped some, which that other one has put into bars, so they do not wait for it.
    """
    resting = jobs_at_rest(home)
    try:
        with BarReader.open(home.bars_db).at_one_moment() as reader:
            by_job: dict[str, list[Progress]] = {}
            for shard in reader.progress():
                by_job.setdefault(shard.job, []).append(shard)
            if not by_job:
                return 0, None, 0, 0, 1
            read = {job: sum(shard.read for shard in shards) for job, shards in by_job.items()}
            # Where several jobs make the same bars, the one that waits longest for late ticks has the last word; one
            # that was stopped or deleted reads nothing more, so it only counts where no other is left.
            job = max(by_job, key=lambda one: (one not in resting, by_job[one][0].lateness_ms, read[one]))
            shards = by_job[job]
            ahead = min(shard.next_sequence for shard in shards)
            next_sequence = ahead if max(read.values()) > read[job] else None
            # Every tick is in a bar of each of the job's frames, so the frame with the fewest bars does.
            longest = max(parse_frames(shards[0].frames))
            return read[job], next_sequence, reader.ticks_in(longest.text), reader.rejected(job), ahead
    except (StoreMissingError, sqlite3.OperationalError):
        return 0, None, 0, 0, 1
