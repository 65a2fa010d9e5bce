"""The bars that can still change: held in memory, merged from partials, published as they form, close and settle.

Nothing here knows Flink. Whether a tick is too late, and when a bar closes by event time, is decided per instrument
and in log order, so the outcome depends neither on how ticks are cut into batches nor on other instruments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from bar.fold import NS_PER_MS, PARTIAL_SCHEMA, fold_ticks, merge, roll_up
from bar.frames import Frame, partial_length_ms
from feed.completeness import CompleteTo, by_instrument

_KEY = ["instrument", "frame_ms", "start_ms"]
# Recent partials are merged when they have doubled; the whole is, with what settled taken out, when recent outgrows it.
_RECENT_ROWS = 4_000
_SETTLE_ROWS = 50_000
_NEVER_MS = 2**62


@dataclass(frozen=True)
class Added:
    """What a batch of ticks did: the partials it brought, every frame, and the ticks refused as too late, if any."""

    partials: pl.DataFrame
    late: pl.DataFrame | None


class OpenBars:
    """The open bars of one shard."""

    def __init__(self, frames: Sequence[Frame], lateness_ms: int, allowance_ms: int) -> None:
        self._frames = frames
        self._partial_ms = partial_length_ms(frames)
        self._lateness_ms, self._allowance_ms = lateness_ms, allowance_ms
        self._settled = self._recent = self._forming = pl.DataFrame(schema=PARTIAL_SCHEMA)
        self._recent_merged = 0
        self._next_close_ms: Mapping[str, int] = {}
        self._newest = pl.DataFrame(schema={"instrument": pl.String, "newest_ns": pl.Int64})

    @property
    def held(self) -> int:
        """Return how many partials are held."""
        return self._settled.height + self._recent.height

    @property
    def forming(self) -> int:
        """Return how many bars are open."""
        return self._forming.height

    @property
    def newest_ms(self) -> int | None:
        """Return the newest tick time of any instrument."""
        newest_ns = self._newest["newest_ns"].max()
        return newest_ns // NS_PER_MS if isinstance(newest_ns, int) else None

    def add(self, ticks: pl.DataFrame) -> Added:
        """Take in the next ticks of the log (TICK_SCHEMA plus sequence)."""
        folded = fold_ticks(ticks, self._partial_ms)
        late = self._late(ticks, folded) if self._spans_lateness(folded) else None
        if late is not None and late.height:
            folded = fold_ticks(ticks.join(late, on="sequence", how="anti", maintain_order="left"), self._partial_ms)
        partials = roll_up(folded, self._frames)
        self._take(partials)
        return Added(partials, None if late is None else ticks.join(late, on="sequence", maintain_order="left"))

    def restore(self, partials: pl.DataFrame, complete_to: CompleteTo) -> None:
        """Take back what was held before a restart, as it stood when the sources were complete to `complete_to`."""
        self._take(partials)
        self._settled, self._recent = merge(self._recent), self._recent.clear()
        self._forming = self._marked(self._settled, complete_to).filter(~pl.col("closed")).drop("closed")
        self._plan(complete_to)

    def changed(self, partials: pl.DataFrame, complete_to: CompleteTo) -> pl.DataFrame:
        """Return the bars to publish now, as merged partials with `closed`: the touched ones and the newly closed.

        complete_to: the sources have delivered everything up to then; closes bars of quiet instruments.
        """
        touched = self._current(partials)
        others = self._forming.join(touched, on=_KEY, how="anti")
        bars = self._marked(
            pl.concat([touched, others]).with_columns(touched=pl.int_range(pl.len()) < touched.height), complete_to
        )
        self._forming = bars.filter(~pl.col("closed")).select(PARTIAL_SCHEMA.keys())
        self._plan(complete_to)
        return bars.filter(pl.col("touched") | pl.col("closed")).drop("touched")

    def anything_due(self, complete_to: CompleteTo) -> bool:
        """Tell whether a bar may close because its sources are complete up to then; cheap enough for every poll."""
        if complete_to.keys() != self._next_close_ms.keys():  # a source has come, and may take instruments over
            self._plan(complete_to)
        return any(at_ms is not None and at_ms >= self._next_close_ms[prefix] for prefix, at_ms in complete_to.items())

    def settle(self, *, everything: bool = False, at_once: bool = False) -> tuple[pl.DataFrame, pl.DataFrame] | None:
        """Merge all that is held and let go of what no accepted tick can change any more (or of everything).

        Returns (let go, kept), or None when it is not worth doing yet and `at_once` is not set.
        """
        worth_it = self._recent.height > max(_SETTLE_ROWS, self._settled.height // 2)
        if not (everything or at_once or worth_it):
            return None
        merged = merge(pl.concat([self._settled, self._recent]))
        end_ns = (pl.col("start_ms") + pl.col("frame_ms")) * NS_PER_MS
        last_chance_ns = pl.col("newest_ns") - self._lateness_ms * NS_PER_MS
        final = pl.lit(True) if everything else end_ns <= last_chance_ns
        marked = merged.join(self._newest, on="instrument", how="left").with_columns(final=final)
        kept = marked.filter(~pl.col("final")).select(PARTIAL_SCHEMA.keys())
        self._settled, self._recent, self._recent_merged = kept, kept.clear(), 0
        return marked.filter(pl.col("final")).select(PARTIAL_SCHEMA.keys()), kept

    def _plan(self, complete_to: CompleteTo) -> None:
        """Work out by prefix when the next open bar can close; sources of one that is stuck do not wake the others."""
        places = {prefix: place for place, prefix in enumerate(complete_to)}
        ends = self._forming.group_by(place=by_instrument(places, pl.col("instrument"))).agg(
            end_ms=(pl.col("start_ms") + pl.col("frame_ms")).min() + self._allowance_ms
        )
        end_ms = dict(ends.rows())
        self._next_close_ms = {prefix: end_ms.get(place, _NEVER_MS) for prefix, place in places.items()}

    def _take(self, partials: pl.DataFrame) -> None:
        newest = partials.select("instrument", pl.col("close_time_ns").alias("newest_ns"))
        self._newest = pl.concat([self._newest, newest]).group_by("instrument").agg(pl.max("newest_ns"))
        self._recent = pl.concat([self._recent, partials])
        if _RECENT_ROWS + 2 * self._recent_merged < self._recent.height < _SETTLE_ROWS:
            self._recent = merge(self._recent)
            self._recent_merged = self._recent.height

    def _current(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return the merged value of the bars that these partials belong to."""
        # Comparing start times first is cheap and leaves few rows for the comparison of whole keys.
        near = pl.col("start_ms").is_in(sorted(set(partials["start_ms"].to_numpy().tolist())))
        held = pl.concat([self._settled.filter(near), self._recent.filter(near)])
        return merge(held.join(partials, on=_KEY, how="semi"))

    def _spans_lateness(self, folded: pl.DataFrame) -> bool:
        """Tell whether any of these ticks can be too late; nearly always it is clear at once that none is."""
        oldest_ns, newest_ns = folded["open_time_ns"].min(), folded["close_time_ns"].max()
        before_ns = self._newest["newest_ns"].max()
        assert isinstance(oldest_ns, int)
        assert isinstance(newest_ns, int)
        newest_ns = max(newest_ns, before_ns) if isinstance(before_ns, int) else newest_ns
        return oldest_ns < newest_ns - self._lateness_ms * NS_PER_MS

    def _late(self, ticks: pl.DataFrame, folded: pl.DataFrame) -> pl.DataFrame:
        """Return sequence and late_ms of the ticks that came too late.

        A tick is too late when its instrument had, earlier in the log, one newer by more than the lateness.
        """
        lateness_ns = self._lateness_ms * NS_PER_MS
        spans = (
            folded.group_by("instrument")
            .agg(pl.min("open_time_ns"), pl.max("close_time_ns"))
            .join(self._newest, on="instrument", how="left")
        )
        newest_ns = pl.max_horizontal("close_time_ns", "newest_ns")
        # Only the ticks of instruments that span more than the lateness are looked at one by one.
        suspects = spans.filter(pl.col("open_time_ns") < newest_ns - lateness_ns).select("instrument", "newest_ns")
        behind_ns = pl.max_horizontal(pl.col("time_ns").cum_max().over("instrument"), pl.col("newest_ns")) - pl.col(
            "time_ns"
        )
        return (
            ticks.join(suspects, on="instrument", maintain_order="left")
            .select("sequence", behind_ns=behind_ns)
            .filter(pl.col("behind_ns") > lateness_ns)
            .select("sequence", late_ms=pl.col("behind_ns") // NS_PER_MS)
        )

    def _marked(self, bars: pl.DataFrame, complete_to: CompleteTo) -> pl.DataFrame:
        """Add `closed`: whether the bar's instrument, or its sources as a whole, are past its end and the allowance."""
        over_ms = pl.col("start_ms") + pl.col("frame_ms") + self._allowance_ms
        by_source = (over_ms <= by_instrument(complete_to, pl.col("instrument"))).fill_null(False)
        return (
            bars.lazy()
            .join(self._newest.lazy(), on="instrument", how="left")
            .with_columns(closed=(over_ms <= pl.col("newest_ns") // NS_PER_MS) | by_source)
            .drop("newest_ns")
            .collect(engine="in-memory")
        )
