"""The account of all ticks: what was read is in the bars, among the rejects, or still on its way to the job."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from bar.frames import parse_frames
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from control.home import Home
from feed.ticklog import TickLog


@dataclass(frozen=True)
class Account:
    """Every number is counted from what is stored.

    read: rows that the feed read. refused: of them, what it turned away at the door, by reason. too_late: ticks the job
    refused. in_bars: ticks that the stored bars hold. waiting: ticks in the log that the job has yet to read.
    """

    read: int
    in_bars: int
    too_late: int
    refused: Mapping[str, int]
    waiting: int

    @property
    def off_by(self) -> int:
        """Return how many rows are unaccounted for; below 0, how many are counted twice."""
        return self.read - self.in_bars - self.too_late - sum(self.refused.values()) - self.waiting


def take_account(home: Home) -> Account:
    """Count everything there is in the stores of the home; one that nobody has made yet holds nothing."""
    # The bars first: what the job reads between the two looks then counts as waiting, not as lost.
    read_by_job, in_bars, too_late = _in_bars(home)
    try:
        with TickLog.read_only(home.ticks_db) as log:
            sources, refused = log.sources(), log.rejects_by_reason()
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        sources, refused = (), {}
    read, accepted = sum(source.read for source in sources), sum(source.accepted for source in sources)
    return Account(read, in_bars, too_late, refused, max(0, accepted - read_by_job))


def _in_bars(home: Home) -> tuple[int, int, int]:
    """Return (ticks the job has read, ticks in the bars, ticks refused as too late), all as of one moment."""
    try:
        with BarReader.open(home.bars_db).at_one_moment() as reader:
            progress = reader.progress()
            if not progress:
                return 0, 0, 0
            # Where several jobs make the same bars, the one that waits longest for late ticks has the last word.
            job = max(progress, key=lambda shard: (shard.lateness_ms, shard.read)).job
            shards = [shard for shard in progress if shard.job == job]
            # Every tick is in a bar of each of the job's frames, so the frame with the fewest bars does.
            longest = max(parse_frames(shards[0].frames))
            return sum(shard.read for shard in shards), reader.ticks_in(longest.text), reader.rejected(job)
    except (StoreMissingError, sqlite3.OperationalError):
        return 0, 0, 0
