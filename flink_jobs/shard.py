"""One shard of a bars job: it folds ticks, and determines what to publish and what to store as state.

This module does not depend on Flink or on the kind of tick log; flink_jobs/operators.py connects them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from barmill.model.fold import PARTIAL_SCHEMA, upgrade_partials
from barmill.model.frames import parse_frames
from barmill.model.job_spec import BarsJobSpec
from barmill.model.progress import Completeness, CompleteTo, Progress, complete_to
from barmill.platform.clock import NS_PER_MS, now_ms
from flink_jobs.open_bars import FoldedTicks, OpenBars
from flink_jobs.publication import Publication, published_bars, published_late

_PROGRESS_EVERY_S = 1.0
# This many deltas are merged into a snapshot, which limits the work of a restart.
_MAX_DELTAS = 400
_NO_PARTIALS = pl.DataFrame(schema=PARTIAL_SCHEMA)


@dataclass(frozen=True)
class Delivery:
    """The next ticks for a shard, and the state of the tick log when they were read.

    ticks: TICK_SCHEMA and sequence, all of one source, or None if the log has none for this shard from first_sequence
    up to next_sequence, exclusive. caught_up: the log contains nothing after them. missing_to_ms: the newest time of
    requested ticks before first_sequence that are lost, or None. epoch: the epoch of the tick before next_sequence in a
    log on SQLite (see src/barmill/storage/tick_log.py).
    """

    ticks: pl.DataFrame | None
    first_sequence: int
    next_sequence: int
    caught_up: bool
    source: str | None
    sources: Sequence[Completeness]
    missing_to_ms: int | None = None
    epoch: str | None = None


@dataclass(frozen=True)
class Cursor:
    """A shard's position in the log, its counts so far, and the completeness of its sources there, by prefix.

    frames, lateness_ms: the settings for which the held bars were made; frames are comma-separated. complete_to_ms: set
    instead of complete_to in checkpoints of versions that had no prefixes. final: a replay has published all its bars.
    begun_sequence, missing_to_ms: see src/barmill/model/progress.py. published: next_sequence of the newest
    publication, which the bar store must contain. epoch: of the newest tick read. publications: the number of
    publications so far. Older checkpoints lack the last three.
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
    publications: int = 0

    @property
    def completeness(self) -> CompleteTo:
        """Return the times up to which the sources were complete, by prefix."""
        return {"": self.complete_to_ms} if self.complete_to is None else self.complete_to


@dataclass(frozen=True)
class FoldResult:
    """The result of folding one delivery.

    publications: at most one. delta: partials (PARTIAL_SCHEMA) to add to the stored state, or None. snapshot: the
    partials to store instead of all before, or None.
    """

    cursor: Cursor
    publications: list[Publication] = field(default_factory=list)
    delta: pl.DataFrame | None = None
    snapshot: pl.DataFrame | None = None


class Shard:
    """One shard: its cursor, its open bars, and the publications that result from its deliveries."""

    def __init__(self, spec: BarsJobSpec, number: int) -> None:
        self._spec, self._number = spec, number
        self._open = OpenBars(spec.frame_list, spec.lateness_ms, spec.allowance_ms)
        self._cursor = Cursor(frames=spec.frames, lateness_ms=spec.lateness_ms)
        self._delta_count = 0
        self._next_progress_s = 0.0
        self._without_state = True
        self._reason = ""

    def restore(self, cursor: Cursor, partials: list[pl.DataFrame], loss: str | None = None) -> None:
        """Continue from a checkpoint, even of a version of the job with other frames or another lateness.

        Removed frames are discarded. For a new frame or a longer lateness, the log is read again from its start,
        because a bar that may change now can need ticks that are no longer held. The same happens if the log or the
        store lacks data that the checkpoint depends on. loss: a sentence about that, for the next publication, or None.
        """
        saved_frames = {*parse_frames(cursor.frames)} if cursor.frames else set()
        if loss is None and not {*self._spec.frame_list} <= saved_frames:
            loss = "Frames were added to the job."
        if loss is None and self._spec.lateness_ms > cursor.lateness_ms:
            loss = "The job was changed to wait longer for late ticks."
        if loss is not None:
            self._reason = loss
            return
        self._without_state = False
        self._cursor = replace(cursor, frames=self._spec.frames, lateness_ms=self._spec.lateness_ms)
        self._delta_count = len(partials)
        if partials:
            lengths = [frame.length_ms for frame in self._spec.frame_list]
            self._open.restore(
                pl.concat(map(upgrade_partials, partials)).filter(pl.col("frame_ms").is_in(lengths)),
                cursor.completeness,
            )

    @property
    def next_sequence(self) -> int:
        """Return the sequence in the log at which the next delivery starts."""
        return self._cursor.next_sequence

    def fold(self, delivery: Delivery) -> FoldResult:
        """Fold the next delivery, and return what to publish and what to store."""
        previous, own_ticks = self._cursor, delivery.ticks
        folded = self._open.add(own_ticks) if own_ticks is not None else None
        late = folded.late if folded and folded.late is not None and folded.late.height else None
        # A source's completeness counts only when everything it wrote before has been read.
        completeness = complete_to(delivery.sources) if delivery.caught_up else previous.completeness
        has_ended = delivery.caught_up and bool(delivery.sources) and all(source.ended for source in delivery.sources)
        begun_sequence, missing_to_ms = self._continuity(delivery)
        self._cursor = Cursor(
            delivery.next_sequence,
            previous.read + (own_ticks.height if own_ticks is not None else 0),
            previous.late + (late.height if late is not None else 0),
            None,
            has_ended and self._spec.final_only,
            previous.frames,
            previous.lateness_ms,
            completeness,
            begun_sequence,
            missing_to_ms,
            previous.published,
            delivery.epoch,
            previous.publications,
        )
        bars, snapshot = self._bars(folded, final=self._cursor.final and not previous.final)
        delta = folded.partials if folded and snapshot is None else None
        self._delta_count = 0 if snapshot is not None else self._delta_count + (delta is not None)
        publications = self._publications(bars, late, delivery)
        if publications:
            self._cursor = replace(
                self._cursor, published=delivery.next_sequence, publications=previous.publications + 1
            )
        return FoldResult(self._cursor, publications, delta, snapshot)

    def _continuity(self, delivery: Delivery) -> tuple[int, int | None]:
        """Return from which sequence the log was read without gaps, and up to which time earlier ticks are missing."""
        if delivery.missing_to_ms is not None:
            before_ms = delivery.missing_to_ms if self._cursor.missing_to_ms is None else self._cursor.missing_to_ms
            return delivery.first_sequence, max(before_ms, delivery.missing_to_ms)
        if not self._without_state or delivery.first_sequence == 1:
            return self._cursor.begun_sequence, self._cursor.missing_to_ms
        # A topic does not record what it has dropped. The dropped ticks are not newer than now, and not newer than its
        # first tick by more than the lateness.
        first_ms = now_ms() if delivery.ticks is None else delivery.ticks["time_ns"][0] // NS_PER_MS
        return delivery.first_sequence, first_ms + self._spec.lateness_ms

    def _bars(self, folded: FoldedTicks | None, *, final: bool) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
        """Return (bars to publish, as merged partials with `closed`; snapshot), each None if there is none."""
        if self._spec.final_only:
            settled = self._open.settle(everything=final)
            return (settled[0].with_columns(closed=pl.lit(True)), settled[1]) if settled else (None, None)
        if folded is None and not self._open.may_close_bars(self._cursor.completeness):
            return None, None
        changed = self._open.changed(folded.partials if folded else _NO_PARTIALS, self._cursor.completeness)
        settled = self._open.settle(now=self._delta_count >= _MAX_DELTAS)
        return changed, settled[1] if settled else None

    def _publications(
        self, bars: pl.DataFrame | None, late: pl.DataFrame | None, delivery: Delivery
    ) -> list[Publication]:
        """Return the publication, if any; progress is part of it, and is published alone once a second."""
        clock_ms = now_ms()
        monotonic_s = time.monotonic()
        nothing_new = bars is None and late is None and not self._cursor.final
        if nothing_new and monotonic_s < self._next_progress_s:
            return []
        self._next_progress_s = monotonic_s + _PROGRESS_EVERY_S
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
        read_again_from, self._without_state = delivery.first_sequence if self._without_state else None, False
        reason, self._reason = self._reason, ""
        late_rows = published_late(late, delivery.source)
        return [
            Publication(progress, published_bars(bars), late_rows, read_again_from, reason, self._cursor.publications)
        ]
