"""The compare page: several instruments, indexed to 100 at the start of a range up to now. A link reopens it."""

from collections.abc import Sequence

import polars as pl
import streamlit as st

from barmill.audit.roles import Permission
from barmill.charts.compare import compare_figure, compare_table, describe_comparison, index_prices
from barmill.model.frames import Frame
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown
from barmill.storage.reader import BarQuery
from pages.parts.shared.browser_code import LiveFigures
from pages.parts.shared.choices import pick_option
from pages.parts.shared.page_header import busiest_first, live_freshness, page_header, wait_for_bars
from pages.parts.shared.visitor import require, rerun_through_app
from views import readings

# The length of each range in ms, and the update interval of its figure in seconds: long ranges change slowly.
_RANGES = {
    "15m": (900_000, 2),
    "1h": (MS_PER_HOUR, 2),
    "6h": (21_600_000, 5),
    "24h": (MS_PER_DAY, 15),
    "7d": (604_800_000, 60),
    "30d": (2_592_000_000, 60),
}
_MAX_POINTS = 1_500
_MAX_INSTRUMENTS = 8
_DEFAULT_INSTRUMENTS = 3
_NUMBERS = ("Start", "Last", "Change", "High", "Low")


def page() -> None:
    """Show the pickers and the live part."""
    require(Permission.VIEW_PRICES)
    home = Home.find()
    page_header("Compare", readings.flow(home))
    names = readings.instruments(home)
    if not names:
        wait_for_bars()
        return
    range_name = pick_option("range", list(_RANGES), "1h", page="compare")
    instruments = _instruments(home, names)
    if len(instruments) < 2:
        with st.container(border=True):
            st.subheader("Select two or more instruments", anchor=False)
            st.markdown(
                "Each line starts at 100 at the beginning of the range, so instruments with very different prices can"
                f" be compared. Select up to {_MAX_INSTRUMENTS}; the address of this page reopens them."
            )
    if instruments:
        live_freshness(
            home, {name: _frame(home, name, range_name) for name in instruments}, grayed_key="compare_indexed"
        )
        st.fragment(_live, run_every=_RANGES[range_name][1])(home, instruments, range_name)


def _instruments(home: Home, names: Sequence[str]) -> list[str]:
    """Let the user select instruments, which the address keeps; the default is the three busiest."""
    key, parameter = "compare_instruments", st.query_params.get("instruments")
    defaults = busiest_first(home, names)[:_DEFAULT_INSTRUMENTS]
    requested = defaults if parameter is None else [name for name in parameter.split(",") if name]
    instruments = [name for name in dict.fromkeys(requested) if name in names][:_MAX_INSTRUMENTS]
    if missing := [name for name in requested if name not in names]:
        st.toast(f"No bars of {escape_markdown(', '.join(missing[:3]))}, so not shown.")
    st.session_state[key] = instruments

    def store_selection() -> None:
        st.query_params["instruments"] = ",".join(st.session_state[key])

    st.multiselect(
        "Instruments",
        names,
        key=key,
        max_selections=_MAX_INSTRUMENTS,
        on_change=store_selection,
        placeholder="Select instruments to compare",
        label_visibility="collapsed",
    )
    if parameter != ",".join(instruments):
        st.query_params["instruments"] = ",".join(instruments)
    return instruments


def _live(home: Home, instruments: Sequence[str], range_name: str) -> None:
    from_ms, to_ms, bars = _bars(home, tuple(instruments), range_name)
    lines = {name: index_prices(table) for name, table in bars.items()}
    figures = LiveFigures("compare", f"{range_name} {','.join(instruments)}")
    figures.show("indexed", compare_figure(lines, from_ms, to_ms), describe_comparison(lines))
    figures.update()
    right = {name: st.column_config.TextColumn(alignment="right") for name in _NUMBERS}
    st.dataframe(
        pl.DataFrame(compare_table(bars)), hide_index=True, key="compare_table", column_config=right, placeholder="–"
    )
    st.caption("All times are UTC. Drag across the figure to zoom in; double-click to zoom out.")


@st.cache_data(ttl=1.5, max_entries=16, show_spinner=False)
def _bars(home: Home, instruments: tuple[str, ...], range_name: str) -> tuple[int, int, dict[str, pl.DataFrame]]:
    """Return (from_ms, to_ms, bars by instrument) of the range up to now, cached for all visitors.

    The bars (BAR_SCHEMA) are those of `_frame`.
    """
    (length_ms, _), to_ms = _RANGES[range_name], readings.now_ms()
    bars = {}
    for name in instruments:
        frame = _frame(home, name, range_name)
        from_ms = frame.start_ms(to_ms - length_ms)
        bars[name] = readings.bars(home, BarQuery(name, frame, from_ms, newest=_MAX_POINTS + 1))
    return to_ms - length_ms, to_ms, bars


def _frame(home: Home, instrument: str, range_name: str) -> Frame:
    """Return the shortest stored frame that needs at most _MAX_POINTS bars for the range, or else the longest frame.

    1m if none is stored.
    """
    stored = readings.frames(home, instrument)
    candidates = (frame for frame in stored if _RANGES[range_name][0] <= _MAX_POINTS * frame.length_ms)
    return next(candidates, max(stored, default=Frame(60_000)))


rerun_through_app()
page()
