"""What a job's state counts on and is not there any more, because something was restored from a backup or lost."""

from contextlib import closing
from pathlib import Path

from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from flink_jobs.shard import Cursor


class LostError(Exception):
    """The job cannot go on from its state, and cannot help itself."""


def lost_by_store(bars_db: Path, job: str, shard: int, cursor: Cursor) -> str | None:
    """Say in a sentence that the store lacks what the shard published before its checkpoint; None if it does not."""
    try:
        with closing(BarReader.open(bars_db)) as reader:
            stored = reader.next_sequence(job, shard)
    except StoreMissingError:
        stored = 0
    if stored >= cursor.published:
        return None
    return (
        f"The bar store lacks what was made of the ticks up to sequence {cursor.published - 1}; it was lost, or"
        " replaced by an older one."
    )
