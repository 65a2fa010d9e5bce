"""What readers of a topic have been told of each bar that can still change, and so what to tell them next.

A store decides about state and revision when it writes, because it sees what its readers saw. A topic cannot; so this
is kept beside the open bars, in the same checkpoint: what is told after a crash follows on what was committed before.
"""

from collections.abc import Sequence

import polars as pl

from bar.model import BAR_SCHEMA, BarState

_KEY = ["instrument", "frame_ms", "start_ms"]
TOLD_SCHEMA: dict[str, pl.DataType] = {
    "instrument": pl.String(),
    "frame_ms": pl.Int64(),
    "start_ms": pl.Int64(),
    "ticks": pl.Int64(),
    "state": pl.String(),
    "revision": pl.Int64(),
}
_NOTHING = pl.DataFrame(schema=TOLD_SCHEMA)
# What was told lately is looked at whole; it joins the rest, one row a bar, when it has doubled.
_RECENT_ROWS = 4_000


class Revisions:
    """The versions of bars that one shard has told of."""

    def __init__(self) -> None:
        self._told = self._recent = _NOTHING
        self._recent_merged = 0

    @property
    def held(self) -> int:
        """Return how many versions are held."""
        return self._told.height + self._recent.height

    def restore(self, kept: Sequence[pl.DataFrame]) -> None:
        """Take back what was kept, in the order it was."""
        self._told, self._recent, self._recent_merged = _newest(pl.concat([_NOTHING, *kept])), _NOTHING, 0

    def tell(self, bars: pl.DataFrame, changed_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return (the bars to tell of, with BAR_SCHEMA; the same as what is to be kept).

        bars: BAR_VALUES and state, forming or closed, one row a bar. A version that holds no more ticks than the one
        before is told only if it closes the bar; what changes after it closed is a revision.
        """
        before = self._before(bars).rename({"ticks": "told_ticks", "state": "told_state", "revision": "told_revision"})
        was_open = pl.col("told_state") == BarState.FORMING.value
        new = pl.col("told_ticks").is_null()
        closes = was_open & (pl.col("state") == BarState.CLOSED.value) & (pl.col("ticks") == pl.col("told_ticks"))
        told = (
            bars.with_columns(frame_ms=pl.col("end_ms") - pl.col("start_ms"))
            .join(before, on=_KEY, how="left", maintain_order="left")
            .filter(new | (pl.col("ticks") > pl.col("told_ticks")) | closes)
            .with_columns(
                state=pl.when(new | was_open).then("state").otherwise(pl.lit(BarState.REVISED.value)),
                revision=pl.col("told_revision").fill_null(0) + (~(new | was_open)).cast(pl.Int64).fill_null(0),
                changed_ms=pl.lit(changed_ms, pl.Int64),
            )
        )
        kept = told.select(TOLD_SCHEMA.keys())
        self._keep(kept)
        return told.select(BAR_SCHEMA.keys()), kept

    def forget_all_but(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Let go of bars that none of these partials belongs to; return what is kept from now on."""
        told = _newest(pl.concat([self._told, self._recent])).join(partials, on=_KEY, how="semi")
        self._told, self._recent, self._recent_merged = told, _NOTHING, 0
        return told

    def _before(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Return the newest version told of every bar that starts when one of these does."""
        near = pl.col("start_ms").is_in(sorted(set(bars["start_ms"].to_numpy().tolist())))
        return _newest(pl.concat([self._told.filter(near), self._recent.filter(near)]))

    def _keep(self, told: pl.DataFrame) -> None:
        self._recent = pl.concat([self._recent, told])
        if self._recent.height > _RECENT_ROWS + 2 * self._recent_merged:
            self._recent = _newest(self._recent)
            self._recent_merged = self._recent.height


def _newest(told: pl.DataFrame) -> pl.DataFrame:
    return told.unique(_KEY, keep="last", maintain_order=True)
