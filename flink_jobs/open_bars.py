"""The bars that can still change: held in memory as partials, and published when they change, close and settle.

Small batches of ticks, which a quiet market delivers many times a second, are processed in plain Python
(barmill/model/fold_few.py, flink_jobs/live_bars.py), larger ones by queries, with the same result.

This module does not depend on Flink. Whether a tick is too late, and when a bar closes by event time, are decided per
instrument and in log order, so the result depends neither on the batching of ticks nor on other instruments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from barmill.model.fold import PARTIAL_SCHEMA, fold_ticks, merge, merge_distinct, roll_up
from barmill.model.fold_few import Partial, fold_few, table_of
from barmill.model.frames import Frame, partial_length_ms
from barmill.model.progress import CompleteTo, by_instrument
from barmill.platform.clock import NS_PER_MS
from flink_jobs.live_bars import NEVER_MS, LiveBars

_KEY = ["instrument", "frame_ms", "start_ms"]
# Recent partials are merged when there are more than _RECENT_ROWS plus twice the number after the last merge. All
# partials are merged, and settled bars released, when there are more recent partials than _SETTLE_ROWS and than half of
# the others.
_RECENT_ROWS = 4_000
_SETTLE_ROWS = 50_000
# Up to this many ticks at once and this many forming bars, plain Python is faster than queries.
_FEW_TICKS = 200
_FEW_FORMING = 1_000


@dataclass(frozen=True)
class FoldedTicks:
    """The result of folding a batch of ticks.

    partials: PARTIAL_SCHEMA, in every frame, without late ticks. late: the late ticks (TICK_SCHEMA, sequence and
    late_ms), None or empty if there are none.
    """

    partials: pl.DataFrame
    late: pl.DataFrame | None


class OpenBars:
    """The open bars of one shard. lateness_ms, allowance_ms: see BarsJobSpec."""

    def __init__(self, frames: Sequence[Frame], lateness_ms: int, allowance_ms: int) -> None:
        self._frames = frames
        self._partial_ms = partial_length_ms(frames)
        self._lateness_ms, self._allowance_ms = lateness_ms, allowance_ms
        self._settled = self._forming = pl.DataFrame(schema=PARTIAL_SCHEMA)
        # The partials since the last call of `settle`, as several tables, because concatenation is expensive too.
        self._recent_pieces = [self._settled]
        self._recent_rows = self._recent_merged = 0
        self._next_close_ms: Mapping[str, int] = {}
        self._newest_ns: dict[str, int] = {}
        # The forming bars are in _live if it is set, otherwise in _forming.
        self._live: LiveBars | None = None

    @property
    def held(self) -> int:
        """Return the number of held partials."""
        return self._settled.height + self._recent_rows

    @property
    def forming(self) -> int:
        """Return the number of forming bars."""
        return self._forming.height if self._live is None else len(self._live.forming)

    @property
    def newest_ms(self) -> int | None:
        """Return the newest tick time of any instrument, or None."""
        return max(self._newest_ns.values()) // NS_PER_MS if self._newest_ns else None

    def add(self, ticks: pl.DataFrame) -> FoldedTicks:
        """Fold the next ticks of the log (TICK_SCHEMA plus sequence), and add their partials."""
        if ticks.height <= _FEW_TICKS and not self._has_late_tick(ticks):
            partials = table_of(fold_few(ticks, self._frames).values())
            self._add_partials(partials)
            return FoldedTicks(partials, None)
        folded = fold_ticks(ticks, self._partial_ms)
        late = self._late_ticks(ticks, folded) if self._may_have_late_tick(folded) else None
        if late is not None and late.height:
            folded = fold_ticks(ticks.join(late, on="sequence", how="anti", maintain_order="left"), self._partial_ms)
        partials = roll_up(folded, self._frames)
        self._add_partials(partials)
        return FoldedTicks(partials, None if late is None else ticks.join(late, on="sequence", maintain_order="left"))

    def restore(self, partials: pl.DataFrame, complete_to: CompleteTo) -> None:
        """Restore the partials (PARTIAL_SCHEMA) held before a restart; complete_to: as it was at that time."""
        self._add_newest(partials)
        self._settled = merge(partials)
        self._replace_recent(self._settled.clear())
        self._live = None
        self._forming = self._with_closed(self._settled, complete_to).filter(~pl.col("closed")).drop("closed")
        self._plan_next_close(complete_to)

    def changed(self, partials: pl.DataFrame, complete_to: CompleteTo) -> pl.DataFrame:
        """Return the bars to publish now, as merged partials with `closed`: the touched and the newly closed bars.

        partials: those of the ticks just added; their bars are the touched ones. complete_to: the time up to which the
        sources have delivered everything; it closes bars of quiet instruments.
        """
        if partials.height <= _FEW_TICKS * len(self._frames) and self.forming <= _FEW_FORMING:
            return self._changed_few(partials, complete_to)
        if self._live is not None:
            self._forming, self._live = table_of(map(self._live.__getitem__, self._live.forming)), None
        changed = self._merged_bars(partials)
        other_bars = self._forming.join(changed, on=_KEY, how="anti")
        bars = self._with_closed(
            pl.concat([changed, other_bars]).with_columns(touched=pl.int_range(pl.len()) < changed.height), complete_to
        )
        self._forming = bars.filter(~pl.col("closed")).select(PARTIAL_SCHEMA.keys())
        self._plan_next_close(complete_to)
        return bars.filter(pl.col("touched") | pl.col("closed")).drop("touched")

    def _changed_few(self, partials: pl.DataFrame, complete_to: CompleteTo) -> pl.DataFrame:
        """Return the same as `changed`, computed in plain Python."""
        if self._live is None:
            self._live = LiveBars(self._forming, pl.concat([self._settled, self._recent()]))
        live, new_partials = self._live, [*map(Partial._make, partials.rows())]
        unknown = live.missing_keys(partial.key for partial in new_partials)
        current = map(Partial._make, self._merged_bars(partials).rows()) if unknown else ()
        live.add(new_partials, {partial.key: partial for partial in current if partial.key in unknown})
        closed = live.close(self._newest_ns, complete_to, self._allowance_ms)
        touched = dict.fromkeys(partial.key for partial in new_partials)
        keys = [*touched, *(key for key in closed if key not in touched)]
        bars = table_of(live[key] for key in keys)
        bars.insert_column(bars.width, pl.Series("closed", [key in closed for key in keys], pl.Boolean))
        live.drop_closed()
        self._next_close_ms = live.next_close_ms(complete_to, self._allowance_ms)
        return bars

    def may_close_bars(self, complete_to: CompleteTo) -> bool:
        """Return whether a bar may close because its sources are complete to `complete_to`; cheap at each poll."""
        if complete_to.keys() != self._next_close_ms.keys():  # a new source may take over instruments
            self._plan_next_close(complete_to)
        return any(at_ms is not None and at_ms >= self._next_close_ms[prefix] for prefix, at_ms in complete_to.items())

    def settle(self, *, everything: bool = False, now: bool = False) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Merge all held partials and release those that no accepted tick can change any more, or `everything`.

        Return (released, kept), both PARTIAL_SCHEMA, or None if merging is not worthwhile yet and neither flag is set.
        """
        is_worthwhile = self._recent_rows > max(_SETTLE_ROWS, self._settled.height // 2)
        if not (everything or now or is_worthwhile):
            return None
        recent = self._recent() if self._recent_rows == self._recent_merged else merge(self._recent())
        merged = merge_distinct(self._settled, recent)
        end_ns = (pl.col("start_ms") + pl.col("frame_ms")) * NS_PER_MS
        cutoff_ns = pl.col("newest_ns") - self._lateness_ms * NS_PER_MS
        final = pl.lit(True) if everything else end_ns <= cutoff_ns
        marked = merged.join(self._newest_times(), on="instrument", how="left").with_columns(final=final)
        open_bars = marked.filter(~pl.col("final")).select(PARTIAL_SCHEMA.keys())
        self._settled = open_bars
        self._replace_recent(open_bars.clear())
        return marked.filter(pl.col("final")).select(PARTIAL_SCHEMA.keys()), open_bars

    def _plan_next_close(self, complete_to: CompleteTo) -> None:
        """Compute, by prefix, when the next forming bar can close, so that a stuck source causes no useless work."""
        if self._live is not None:
            self._next_close_ms = self._live.next_close_ms(complete_to, self._allowance_ms)
            return
        positions = {prefix: position for position, prefix in enumerate(complete_to)}
        ends = self._forming.group_by(position=by_instrument(positions, pl.col("instrument"))).agg(
            end_ms=(pl.col("start_ms") + pl.col("frame_ms")).min() + self._allowance_ms
        )
        end_ms = dict(ends.rows())
        self._next_close_ms = {prefix: end_ms.get(position, NEVER_MS) for prefix, position in positions.items()}

    def _add_newest(self, partials: pl.DataFrame) -> None:
        times = partials.select("instrument", "close_time_ns")
        if partials.height > _FEW_TICKS:
            times = times.group_by("instrument").max()
        for name, newest_ns in times.iter_rows():
            self._newest_ns[name] = max(newest_ns, self._newest_ns.get(name, newest_ns))

    def _add_partials(self, partials: pl.DataFrame) -> None:
        """Add merged partials: at most one per bar."""
        self._add_newest(partials)
        if not self._recent_rows:
            self._replace_recent(partials)
            return
        self._recent_pieces.append(partials)
        self._recent_rows += partials.height
        if _RECENT_ROWS + 2 * self._recent_merged < self._recent_rows < _SETTLE_ROWS:
            self._replace_recent(merge(self._recent()))

    def _recent(self) -> pl.DataFrame:
        self._recent_pieces = [pl.concat(self._recent_pieces)]
        return self._recent_pieces[0]

    def _replace_recent(self, merged: pl.DataFrame) -> None:
        self._recent_pieces = [merged]
        self._recent_rows = self._recent_merged = merged.height

    def _merged_bars(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return the merged values of the bars that these partials belong to."""
        # A comparison of start times is cheap and leaves few rows for the comparison of complete keys.
        same_start = pl.col("start_ms").is_in(sorted(set(partials["start_ms"].to_numpy().tolist())))
        current = pl.concat([self._settled.filter(same_start), self._recent().filter(same_start)])
        return merge(current.join(partials, on=_KEY, how="semi"))

    def _newest_times(self) -> pl.DataFrame:
        """Return the newest tick time of each instrument: instrument and newest_ns."""
        columns = {"instrument": [*self._newest_ns], "newest_ns": [*self._newest_ns.values()]}
        return pl.DataFrame(columns, {"instrument": pl.String, "newest_ns": pl.Int64})

    def _has_late_tick(self, ticks: pl.DataFrame) -> bool:
        """Return whether any of a few ticks is too late; see _late_ticks."""
        newest_ns = dict[str, int]()
        for name, time_ns in zip(ticks["instrument"].to_list(), ticks["time_ns"].to_list(), strict=True):
            before_ns = newest_ns.get(name, self._newest_ns.get(name, time_ns))
            if time_ns < before_ns - self._lateness_ms * NS_PER_MS:
                return True
            newest_ns[name] = max(time_ns, before_ns)
        return False

    def _may_have_late_tick(self, folded: pl.DataFrame) -> bool:
        """Return whether any of these ticks can be too late; this cheap check rules it out for nearly all batches."""
        oldest_ns, newest_ns = folded["open_time_ns"].min(), folded["close_time_ns"].max()
        assert isinstance(oldest_ns, int)
        assert isinstance(newest_ns, int)
        newest_ns = max([newest_ns, *self._newest_ns.values()])
        return oldest_ns < newest_ns - self._lateness_ms * NS_PER_MS

    def _late_ticks(self, ticks: pl.DataFrame, folded: pl.DataFrame) -> pl.DataFrame:
        """Return sequence and late_ms of the late ticks.

        A tick is too late if its instrument had, earlier in the log, a tick that is newer by more than the lateness.
        """
        lateness_ns = self._lateness_ms * NS_PER_MS
        spans = (
            folded.group_by("instrument")
            .agg(pl.min("open_time_ns"), pl.max("close_time_ns"))
            .join(self._newest_times(), on="instrument", how="left")
        )
        newest_ns = pl.max_horizontal("close_time_ns", "newest_ns")
        # Only ticks of instruments that span more than the lateness are checked individually.
        candidates = spans.filter(pl.col("open_time_ns") < newest_ns - lateness_ns).select("instrument", "newest_ns")
        behind_ns = pl.max_horizontal(pl.col("time_ns").cum_max().over("instrument"), pl.col("newest_ns")) - pl.col(
            "time_ns"
        )
        return (
            ticks.join(candidates, on="instrument", maintain_order="left")
            .select("sequence", behind_ns=behind_ns)
            .filter(pl.col("behind_ns") > lateness_ns)
            .select("sequence", late_ms=pl.col("behind_ns") // NS_PER_MS)
        )

    def _with_closed(self, bars: pl.DataFrame, complete_to: CompleteTo) -> pl.DataFrame:
        """Add `closed`: whether its instrument's newest tick, or its sources, reached the bar's end plus allowance."""
        closes_at_ms = pl.col("start_ms") + pl.col("frame_ms") + self._allowance_ms
        by_source = (closes_at_ms <= by_instrument(complete_to, pl.col("instrument"))).fill_null(False)
        return (
            bars.lazy()
            .join(self._newest_times().lazy(), on="instrument", how="left")
            .with_columns(closed=(closes_at_ms <= pl.col("newest_ns") // NS_PER_MS) | by_source)
            .drop("newest_ns")
            .collect(engine="in-memory")
        )
