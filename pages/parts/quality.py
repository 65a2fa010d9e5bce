"""The parts of the data quality page: its data, most of it cached for all visitors, and its live views."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import polars as pl
import streamlit as st

from barmill.charts.quality import (
    behind_ms,
    count_by_delay,
    lateness_figure,
    most_revised,
    rejects_over_time,
    revision_delays,
)
from barmill.model.bar import BAR_SCHEMA
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, if_ready, open_for_reading
from barmill.storage import changes, cover_records, rejects
from barmill.storage.cover_records import SeamSummary
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.quality import State, TickCounts, comparison_of, count_ticks
from pages.parts.feeds.catalogue import listings
from views import readings
from views.quality_tables import (
    Bar,
    comparison_line,
    history_table,
    lateness_line,
    missing_ticks_line,
    reasons_table,
    reused_line,
    revised_table,
    samples_table,
    stale_line,
    tick_counts_line,
)

T = TypeVar("T")

MAX_SAMPLES = 200
CHECKED_TICKS = 200_000
_MAX_DELAYS = 100_000
_MAX_TOO_LATE = 20_000
_MAX_INSTRUMENTS = 12
_BUCKETS = 60
_TIME = st.column_config.DatetimeColumn(format="MM-DD HH:mm:ss.SSS")
_SECONDS = st.column_config.NumberColumn(format="%.3f")
_FIGURE_CONFIG = {"displayModeBar": False}


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def tick_counts(home: Home) -> TickCounts:
    """Return the counts of all ticks."""
    return count_ticks(home)


def bucket_ms(window_ms: int) -> int:
    """Return the length of the buckets of a figure over this window, in ms."""
    return window_ms // _BUCKETS


@st.cache_data(ttl=4, max_entries=16, show_spinner=False)
def reject_counts(home: Home, window_ms: int) -> pl.DataFrame:
    """Return counts of the rejects in both stores over the last `window_ms` (COUNT_SCHEMA)."""
    from_ms = readings.now_ms() - window_ms
    empty = pl.DataFrame(schema=rejects.COUNT_SCHEMA)
    return pl.concat(
        _read_store(path, lambda db: rejects.counts(db, from_ms, bucket_ms(window_ms)), empty)
        for path in (home.ticks_db, home.bars_db)
    )


@st.cache_data(ttl=4, max_entries=32, show_spinner=False)
def reject_samples(home: Home, window_ms: int, reason: str | None, instrument: str | None) -> pl.DataFrame:
    """Return the newest matching rejects of both stores (SAMPLE_SCHEMA), newest first."""
    reject_filter = rejects.RejectFilter(readings.now_ms() - window_ms, reason, instrument)
    empty = pl.DataFrame(schema=rejects.SAMPLE_SCHEMA)
    samples = [
        _read_store(path, lambda db: rejects.samples(db, reject_filter, MAX_SAMPLES), empty)
        for path in (home.ticks_db, home.bars_db)
    ]
    return pl.concat(samples).sort("rejected_ms", descending=True, maintain_order=True).head(MAX_SAMPLES)


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def late_ticks(home: Home) -> tuple[int, pl.Series]:
    """Return how many of the newest ticks were checked, and the delays in ms of the late ones among them."""
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        behind = behind_ms(log.newest(CHECKED_TICKS))
        return behind.len(), behind.filter(behind > 0)
    return 0, pl.Series([], dtype=pl.Float64)


def accepted_delays(late_ms: pl.Series, lateness_ms: int | None) -> pl.DataFrame:
    """Return the classes (LATENESS_SCHEMA) of the late ticks that still entered their bar.

    lateness_ms: None if no job ever started; then all count.
    """
    return count_by_delay(late_ms if lateness_ms is None else late_ms.filter(late_ms <= lateness_ms))


@st.cache_data(ttl=4, max_entries=16, show_spinner=False)
def rejected_delays(home: Home, window_ms: int) -> pl.DataFrame:
    """Return the classes (LATENESS_SCHEMA) of the newest ticks rejected as late over the last `window_ms`."""
    reject_filter = rejects.RejectFilter(readings.now_ms() - window_ms, "too_late")
    empty = pl.DataFrame(schema=rejects.SAMPLE_SCHEMA)
    return count_by_delay(
        _read_store(home.bars_db, lambda db: rejects.samples(db, reject_filter, _MAX_TOO_LATE), empty)["late_ms"]
    )


@st.cache_data(ttl=4, max_entries=16, show_spinner=False)
def revision_figures(home: Home, window_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the most revised instruments (BY_INSTRUMENT_SCHEMA) over the last `window_ms`, and the delays of changes.

    The delays (DELAY_SCHEMA) are from the end of the bar to the change.
    """
    from_ms = readings.now_ms() - window_ms
    empty = pl.DataFrame(schema=changes.BY_INSTRUMENT_SCHEMA), pl.DataFrame(schema=changes.DELAY_SCHEMA)
    return _read_store(
        home.bars_db,
        lambda db: (
            changes.revisions_by_instrument(db, from_ms, _MAX_INSTRUMENTS),
            changes.revision_delays(db, from_ms, _MAX_DELAYS),
        ),
        empty,
    )


@st.cache_data(ttl=4, max_entries=32, show_spinner=False)
def latest_revisions(home: Home, window_ms: int, instrument: str | None) -> pl.DataFrame:
    """Return the versions that were superseded last (REVISION_SCHEMA), last superseded first."""
    from_ms = readings.now_ms() - window_ms
    empty = pl.DataFrame(schema=changes.REVISION_SCHEMA)
    return _read_store(home.bars_db, lambda db: changes.latest_revisions(db, from_ms, MAX_SAMPLES, instrument), empty)


def history(home: Home, bar: Bar) -> pl.DataFrame:
    """Return every version of one bar (BAR_SCHEMA), oldest first."""
    empty = pl.DataFrame(schema=BAR_SCHEMA)
    return _read_store(home.bars_db, lambda db: BarReader(db).history(bar.instrument, bar.frame, bar.start_ms), empty)


@st.cache_data(ttl=4, max_entries=4, show_spinner=False)
def incomplete_bars(home: Home) -> SeamSummary | None:
    """Return a summary of the bars that may lack ticks, or None if there are none."""
    return _read_store(home.bars_db, cover_records.summarize_seams, None)


def lateness_ms(home: Home) -> int | None:
    """Return the longest lateness of any job in ms, or None if none ever started."""
    return _read_store(
        home.bars_db, lambda db: max((shard.lateness_ms for shard in BarReader(db).progress()), default=None), None
    )


def _read_store(path: Path, read: Callable[[Database], T], default: T) -> T:
    with if_ready():
        db = open_for_reading(path)
        with closing(db.conn):
            return read(db)
    return default


@st.fragment(run_every=2)
def tick_counts_view(home: Home, feeds: tuple[str, ...]) -> None:
    """Show whether every tick is accounted for, and which instruments have become silent; refreshed periodically."""
    ticks = tick_counts(home)
    st.markdown(tick_counts_line(ticks))
    all_listings = [listing for feed in feeds for listing in listings(home, feed)]
    stale = stale_line(all_listings, readings.now_ms())
    for line in (reused_line(ticks.reused_ids), missing_ticks_line(incomplete_bars(home)), stale):
        if line:
            st.markdown(line)


@st.fragment(run_every=5)
def rejects_view(home: Home, window_ms: int, reason: str | None, instrument: str | None) -> None:
    """Show rejected rows: times, reasons, and the newest rows as received."""
    total_counts, counts = readings.rejects_by_reason(home), reject_counts(home, window_ms)
    if not total_counts:
        st.info("No rejects yet. Unreadable rows, duplicates and late ticks are listed here.")
        return
    if reason is not None:
        counts = counts.filter(pl.col("reason") == reason)
    now_ms = readings.now_ms()
    figure, table = st.columns([3, 2], gap="medium")
    with figure:
        over_time = rejects_over_time(counts, now_ms - window_ms, now_ms, bucket_ms(window_ms))
        st.plotly_chart(over_time, key="quality_rejects", config=_FIGURE_CONFIG)
    with table:
        recent_counts = dict(counts.group_by("reason").agg(pl.sum("count")).iter_rows())
        st.dataframe(
            reasons_table(total_counts, recent_counts), key="quality_reasons", hide_index=True, placeholder="–"
        )
    samples = reject_samples(home, window_ms, reason, instrument)
    st.markdown(f"**The newest {samples.height:,} matching rows**" if samples.height else "No rows match.")
    if samples.height:
        _samples(samples, "quality_samples")


def _samples(rejects: pl.DataFrame, key: str) -> None:
    columns = {"Rejected, UTC": _TIME, "Late, s": _SECONDS}
    st.dataframe(samples_table(rejects), key=key, hide_index=True, placeholder="", column_config=columns)


@st.fragment(run_every=5)
def late_view(home: Home, window_ms: int) -> None:
    """Show the lateness of ticks: of those accepted into their bar, and of those rejected."""
    ticks, late_ms = late_ticks(home)
    allowed_ms = lateness_ms(home)
    st.markdown(lateness_line(ticks, late_ms))
    rejected_rows = reject_samples(home, window_ms, "too_late", None)
    figure = lateness_figure(accepted_delays(late_ms, allowed_ms), rejected_delays(home, window_ms), allowed_ms)
    st.plotly_chart(figure, key="quality_lateness", config=_FIGURE_CONFIG)
    if rejected_rows.height:
        st.markdown(f"**The newest {rejected_rows.height:,} that were too late**")
        _samples(rejected_rows, "quality_too_late")
    else:
        st.caption("No late ticks in this range.")


@st.fragment(run_every=5)
def revisions_view(home: Home, window_ms: int, instrument: str | None) -> None:
    """Show which bars changed after they had closed, and how long after their end."""
    by_instrument, delays = revision_figures(home, window_ms)
    if not by_instrument.height:
        st.info(
            "No bar changed after it closed in this range. Late ticks within the allowed lateness cause such changes."
        )
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.plotly_chart(most_revised(by_instrument), key="quality_most_revised", config=_FIGURE_CONFIG)
    with right:
        frames = [frame.text for frame in readings.frames(home, by_instrument["instrument"][0])]
        st.plotly_chart(revision_delays(delays, frames), key="quality_delays", config=_FIGURE_CONFIG)
    st.dataframe(
        revised_table(latest_revisions(home, window_ms, instrument)),
        key="quality_revised",
        hide_index=True,
        height=280,
        column_config={"Changed, UTC": _TIME, "Bar, UTC": _TIME, "After its end, s": _SECONDS},
        placeholder="–",
    )


def history_view(home: Home, bar: Bar) -> None:
    """Show every version of one bar."""
    versions = history(home, bar)
    if not versions.height:
        st.warning(f"There is no bar {bar.label}.")
        return
    st.dataframe(
        history_table(versions),
        key="quality_history",
        hide_index=True,
        column_config={"Known from, UTC": _TIME},
        placeholder="–",
    )


def comparison_view(home: Home) -> None:
    """Offer to compare all bars with a recomputation, and show the result."""
    comparison = comparison_of(home)
    is_running = comparison.comparison_state.state is State.RUNNING
    st.markdown(
        "Every bar is recomputed independently from the tick log and compared in all its fields. This takes seconds"
        " for a million ticks, runs at the lowest priority, and changes nothing."
    )
    if is_running:
        st.button("Stop", key="quality_stop", icon=":material/stop:", on_click=comparison.stop)
        _progress(home)
        return
    st.button("Compare now", key="quality_compare", icon=":material/compare_arrows:", on_click=comparison.start)
    comparison_state = comparison.comparison_state
    st.markdown(comparison_line(comparison_state, readings.now_ms()))
    if comparison_state.verdict is not None and comparison_state.verdict.examples:
        st.dataframe(
            pl.DataFrame({"Different": comparison_state.verdict.examples}),
            key="quality_examples",
            hide_index=True,
            placeholder="–",
        )


@st.fragment(run_every=1)
def _progress(home: Home) -> None:
    comparison_state = comparison_of(home).comparison_state
    if comparison_state.state is not State.RUNNING:
        st.rerun()
    st.progress(comparison_state.share, comparison_line(comparison_state, readings.now_ms()))
