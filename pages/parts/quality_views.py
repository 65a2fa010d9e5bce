"""The views of the data quality page, each a live part of its own; what narrows them stands outside."""

import polars as pl
import streamlit as st

from charts.quality import lateness, most_revised, rejects_over_time, revision_delays
from control.home import Home
from control.quality.comparison import State, comparison_of
from pages.parts import quality_readings as quality
from pages.parts import readings
from pages.parts.catalogue import listings
from pages.parts.quality_tables import (
    Bar,
    account_line,
    comparison_line,
    history_table,
    lateness_line,
    reasons_table,
    revised_table,
    samples_table,
    stale_line,
)

_TIME = st.column_config.DatetimeColumn(format="MM-DD HH:mm:ss.SSS")
_SECONDS = st.column_config.NumberColumn(format="%.3f")
_NO_TOOLS = {"displayModeBar": False}


@st.fragment(run_every=2)
def account_view(home: Home, feeds: tuple[str, ...]) -> None:
    """Keep showing whether every tick is accounted for, and who has gone silent."""
    st.markdown(account_line(quality.account(home)))
    listed = [one for feed in feeds for one in listings(home, feed)]
    stale = stale_line(listed, readings.now_ms())
    if stale:
        st.markdown(stale)


@st.fragment(run_every=5)
def rejects_view(home: Home, window_ms: int, reason: str | None, instrument: str | None) -> None:
    """Show what was refused: when, why, and the newest rows as they came."""
    ever, counts = readings.refused(home), quality.reject_counts(home, window_ms)
    if not ever:
        st.info("Nothing was ever refused. Rows that cannot be read, repeats and ticks that come too late show here.")
        return
    if reason is not None:
        counts = counts.filter(pl.col("reason") == reason)
    now_ms = readings.now_ms()
    figure, table = st.columns([3, 2], gap="medium")
    with figure:
        over_time = rejects_over_time(counts, now_ms - window_ms, now_ms, quality.bucket_ms(window_ms))
        st.plotly_chart(over_time, key="quality_rejects", config=_NO_TOOLS)
    with table:
        lately = dict(counts.group_by("reason").agg(pl.sum("count")).iter_rows())
        st.dataframe(reasons_table(ever, lately), key="quality_reasons", hide_index=True, placeholder="–")
    samples = quality.reject_samples(home, window_ms, reason, instrument)
    st.markdown(f"**The newest {samples.height:,} that fit**" if samples.height else "None of them fit.")
    if samples.height:
        st.dataframe(
            samples_table(samples),
            key="quality_samples",
            hide_index=True,
            placeholder="",
            column_config={"Refused, UTC": _TIME, "Late, s": _SECONDS},
        )


@st.fragment(run_every=5)
def late_view(home: Home, window_ms: int) -> None:
    """Show how late ticks come: those that still found their bar, and those that did not."""
    ticks, late_ms = quality.late_ticks(home)
    allowed_ms = quality.lateness_ms(home)
    st.markdown(lateness_line(ticks, late_ms))
    refused = quality.reject_samples(home, window_ms, "too_late", None)
    figure = lateness(quality.in_time(late_ms, allowed_ms), quality.too_late(home, window_ms), allowed_ms)
    st.plotly_chart(figure, key="quality_lateness", config=_NO_TOOLS)
    if refused.height:
        st.markdown(f"**The newest {refused.height:,} that came too late**")
        st.dataframe(
            samples_table(refused),
            key="quality_too_late",
            hide_index=True,
            placeholder="",
            column_config={"Refused, UTC": _TIME, "Late, s": _SECONDS},
        )
    else:
        st.caption("No tick came too late in this time.")


@st.fragment(run_every=5)
def revisions_view(home: Home, window_ms: int, instrument: str | None) -> None:
    """Show which bars changed after they had closed, and how long after."""
    by_instrument, delays = quality.revision_figures(home, window_ms)
    if not by_instrument.height:
        st.info("No bar has changed after it closed in this time. Late ticks within the lateness do that.")
        return
    most, after = st.columns(2, gap="medium")
    with most:
        st.plotly_chart(most_revised(by_instrument), key="quality_most_revised", config=_NO_TOOLS)
    with after:
        frames = [frame.text for frame in readings.frames(home, by_instrument["instrument"][0])]
        st.plotly_chart(revision_delays(delays, frames), key="quality_delays", config=_NO_TOOLS)
    st.dataframe(
        revised_table(quality.latest_revisions(home, window_ms, instrument)),
        key="quality_revised",
        hide_index=True,
        height=280,
        column_config={"Changed, UTC": _TIME, "Bar, UTC": _TIME, "After its end, s": _SECONDS},
        placeholder="–",
    )


def history_view(home: Home, bar: Bar) -> None:
    """Show every version of one bar."""
    versions = quality.history(home, bar)
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
    """Offer to compare all bars with a recomputation, and show what was found."""
    comparison = comparison_of(home)
    running = comparison.standing.state is State.RUNNING
    st.markdown(
        "Every bar is recomputed from the tick log by other means and compared in all its fields. This takes seconds"
        " for a million ticks, runs beside everything else at the lowest priority, and changes nothing."
    )
    if running:
        st.button("Stop", key="quality_stop", icon=":material/stop:", on_click=comparison.stop)
        _progress(home)
        return
    st.button("Compare now", key="quality_compare", icon=":material/compare_arrows:", on_click=comparison.start)
    standing = comparison.standing
    st.markdown(comparison_line(standing, readings.now_ms()))
    if standing.verdict is not None and standing.verdict.examples:
        st.dataframe(
            pl.DataFrame({"Different": standing.verdict.examples}),
            key="quality_examples",
            hide_index=True,
            placeholder="–",
        )


@st.fragment(run_every=1)
def _progress(home: Home) -> None:
    standing = comparison_of(home).standing
    if standing.state is not State.RUNNING:
        st.rerun()
    st.progress(standing.share, comparison_line(standing, readings.now_ms()))
