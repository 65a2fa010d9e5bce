"""One shard of a bars job: takes what the tick log delivers, folds, and says what to publish and what to keep.

Nothing here knows Flink, or where the tick log is; flink_jobs/operators.py brings them together.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from bar.clock import now_ms
from bar.fold import PARTIAL_SCHEMA, upgraded
from bar.frames import parse_frames
from bar.progress import Progress
from feed.completeness import Completes, CompleteTo, complete_to
from flink_jobs.open_bars import Added, OpenBars
from flink_jobs.publication import Publication, published_bars, published_late
from flink_jobs.spec import BarsJobSpec

_NS_PER_MS = 1_000_000
_PROGRESS_EVERY_S = 1.0
# So many deltas are kept one by one before they are joined, which bounds the work of a restart.
_MAX_DELTAS = 400
_NO_PARTIALS = pl.DataFrame(schema=PARTIAL_SCHEMA)


@dataclass(frozen=True)
class Delivery:
    """The next ticks for a shard, and how the tick log stood when they were read.

    ticks: TICK_SCHEMA and sequence, all of one source, or None where the log held none for this shard from
    first_sequence up to next_sequence. caught_up: nothing is left in the log behind them. missing_to_ms: the log had
    lost ticks before first_sequence that were asked for; their times reach up to there. epoch: that of the tick before
    next_sequence in a log on SQLite (see feed/ticklog.py).
    """

    ticks: pl.DataFrame | None
    first_sequence: int
    next_sequence: int
    caught_up: bool
    source: str | None
    sources: Sequence[Completes]
    missing_to_ms: int | None = None
    epoch: str | None = None


@dataclass(frozen=True)
class Cursor:
    """Where a shard stands in the log, what it counted so far, and how complete its sources were then, by prefix.

    frames, lateness_ms: what the bars held were made for; comma-separated frames. complete_to_ms: what checkpoints from
    before there were prefixes say instead of complete_to. begun_sequence, missing_to_ms: see bar/progress.py.
    published: next_sequence of the newest publication, which the bar store must have. epoch: of the newest tick read.
    Older checkpoints say nothing of these two.
    """

    next_sequence: int = 1
    read: int = 0
    late: int = 0
    complete_to_ms: int | None = None
    final: bool = False
    frames: str = ""
    lateness_ms: int = 0
    complete_to: CompleteTo | None = None
    begun_sequence: int = 1
    missing_to_ms: int | None = None
    published: int = 0
    epoch: str | None = None

    @property
    def completeness(self) -> CompleteTo:
        """Return up to when the sources were complete."""
        return {"": self.complete_to_ms} if self.complete_to is None else self.complete_to


@dataclass(frozen=True)
class Taken:
    """What one delivery did.

    delta: partials to add to what is kept, or None. snapshot: what is kept from now on, instead of everything before.
    """

    cursor: Cursor
    publications: list[Publication] = field(default_factory=list)
    delta: pl.DataFrame | None = None
    snapshot: pl.DataFrame | None = None


class Shard:
    """The working state of one shard."""

    def __init__(self, spec: BarsJobSpec, number: int) -> None:
        self._spec, self._number = spec, number
        self._open = OpenBars(spec.frame_list, spec.lateness_ms, spec.allowance_ms)
        self._cursor = Cursor(frames=spec.frames, lateness_ms=spec.lateness_ms)
        self._deltas = 0
        self._progress_at_s = 0.0
        self._anew = True
        self._reason = ""

    def restore(self, cursor: Cursor, kept: list[pl.DataFrame], lost: str | None = None) -> None:
        """Go on from a checkpoint, which may be that of a version of the job with other frames or another lateness.

        Frames that are gone are let go of. For a new frame, or a longer lateness, the log is read again from its start,
        because a bar that may change now can need ticks of which nothing is held any more. The same where log or store
        lack what the checkpoint counts on; lost: the sentence that says so, which is published with the first bars.
        """
        made = {*parse_frames(cursor.frames)} if cursor.frames else set()
        if lost is None and not {*self._spec.frame_list} <= made:
            lost = "Frames were added to the job."
        if lost is None and self._spec.lateness_ms > cursor.lateness_ms:
            lost = "The job was changed to wait longer for late ticks."
        if lost is not None:
            self._reason = lost
            return
        self._anew = False
        self._cursor = replace(cursor, frames=self._spec.frames, lateness_ms=self._spec.lateness_ms)
        self._deltas = len(kept)
        if kept:
            lengths = [frame.length_ms for frame in self._spec.frame_list]
            self._open.restore(
                pl.concat(map(upgraded, kept)).filter(pl.col("frame_ms").is_in(lengths)), cursor.completeness
            )

    @property
    def next_sequence(self) -> int:
        """Return where in the log the next delivery begins."""
        return self._cursor.next_sequence

    def take(self, delivery: Delivery) -> Taken:
        """Fold what was delivered next."""
        before, mine = self._cursor, delivery.ticks
        added = self._open.add(mine) if mine is not None else None
        late = added.late if added and added.late is not None and added.late.height else None
        # A source's word that it is complete counts only when everything it wrote before has been read.
        completeness = complete_to(delivery.sources) if delivery.caught_up else before.completeness
        ended = delivery.caught_up and bool(delivery.sources) and all(source.ended for source in delivery.sources)
        begun_sequence, missing_to_ms = self._unbroken(delivery)
        self._cursor = Cursor(
            delivery.next_sequence,
            before.read + (mine.height if mine is not None else 0),
            before.late + (late.height if late is not None else 0),
            None,
            ended and self._spec.final_only,
            before.frames,
            before.lateness_ms,
            completeness,
            begun_sequence,
            missing_to_ms,
            before.published,
            delivery.epoch,
        )
        bars, snapshot = self._bars(added, final=self._cursor.final and not before.final)
        delta = added.partials if added and snapshot is None else None
        self._deltas = 0 if snapshot is not None else self._deltas + (delta is not None)
        publications = self._publications(bars, late, delivery)
        if publications:
            self._cursor = replace(self._cursor, published=delivery.next_sequence)
        return Taken(self._cursor, publications, delta, snapshot)

    def _unbroken(self, delivery: Delivery) -> tuple[int, int | None]:
        """Return from where on the log was read without a hole, and up to which time ticks are missing before that."""
        if delivery.missing_to_ms is not None:
            before_ms = delivery.missing_to_ms if self._cursor.missing_to_ms is None else self._cursor.missing_to_ms
            return delivery.first_sequence, max(before_ms, delivery.missing_to_ms)
        if not self._anew or delivery.first_sequence == 1:
            return self._cursor.begun_sequence, self._cursor.missing_to_ms
        # A topic does not say what it has dropped: nothing newer than now, and nothing newer than its first tick by
        # more than the lateness.
        first_ms = now_ms() if delivery.ticks is None else delivery.ticks["time_ns"][0] // _NS_PER_MS
        return delivery.first_sequence, first_ms + self._spec.lateness_ms

    def _bars(self, added: Added | None, *, final: bool) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
        """Return (bars to publish, as merged partials with `closed`; snapshot), each None where there is none."""
        if self._spec.final_only:
            settled = self._open.settle(everything=final)
            return (settled[0].with_columns(closed=pl.lit(True)), settled[1]) if settled else (None, None)
        if added is None and not self._open.anything_due(self._cursor.completeness):
            return None, None
        changed = self._open.changed(added.partials if added else _NO_PARTIALS, self._cursor.completeness)
        settled = self._open.settle(at_once=self._deltas >= _MAX_DELTAS)
        return changed, settled[1] if settled else None

    def _publications(
        self, bars: pl.DataFrame | None, late: pl.DataFrame | None, delivery: Delivery
    ) -> list[Publication]:
        """Pack what there is to publish; progress goes with it, and alone once a second."""
        clock_ms = now_ms()
        passed_s = time.monotonic()
        silent = bars is None and late is None and not self._cursor.final
        if silent and passed_s < self._progress_at_s:
            return []
        self._progress_at_s = passed_s + _PROGRESS_EVERY_S
        progress = Progress(
            job=self._spec.name,
            shard=self._number,
            frames=self._spec.frames,
            lateness_ms=self._spec.lateness_ms,
            shards=self._spec.shards,
            next_sequence=delivery.next_sequence,
            read=self._cursor.read,
            late=self._cursor.late,
            forming=self._open.forming,
            held=self._open.held,
            newest_tick_ms=self._open.newest_ms,
            final=self._cursor.final,
            updated_ms=clock_ms,
            begun_sequence=self._cursor.begun_sequence,
            missing_to_ms=self._cursor.missing_to_ms,
        )
        anew_from, self._anew = delivery.first_sequence if self._anew else None, False
        reason, self._reason = self._reason, ""
        return [Publication(progress, published_bars(bars), published_late(late, delivery.source), anew_from, reason)]
