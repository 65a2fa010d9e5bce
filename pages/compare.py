"""The compare page: several instruments indexed to 100 at the start of a range up to now. Its address says which."""

from collections.abc import Sequence

import polars as pl
import streamlit as st

from bar.frames import Frame
from bar.reader import BarQuery
from charts.compare import compare_figure, compare_in_words, compare_table, indexed
from charts.texts import plain
from control.home import Home
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.address import picked
from pages.parts.busiest import busiest_first
from pages.parts.fresh_line import fresh_line
from pages.parts.head import head, wait_for_bars
from pages.parts.live_figures import LiveFigures
from pages.parts.routing import through_app
from pages.parts.visitor import require

# How far back, and how often the figure is told its newest data: what hardly moves need not move often.
_RANGES = {
    "15m": (900_000, 2),
    "1h": (3_600_000, 2),
    "6h": (21_600_000, 5),
    "24h": (86_400_000, 15),
    "7d": (604_800_000, 60),
    "30d": (2_592_000_000, 60),
}
_MOST_POINTS = 1_500
_MOST_INSTRUMENTS = 8
_USUAL_INSTRUMENTS = 3
_NUMBERS = ("Start", "Last", "Change", "High", "Low")


def page() -> None:
    """Show the pickers and the live part."""
    require(Permission.VIEW_PRICES)
    home = Home.find()
    head("Compare", readings.flow(home))
    names = readings.instruments(home)
    if not names:
        wait_for_bars()
        return
    range_name = picked("range", list(_RANGES), "1h", page="compare")
    instruments = _instruments(home, names)
    if len(instruments) < 2:
        with st.container(border=True):
            st.subheader("Pick two instruments or more", anchor=False)
            st.markdown(
                "Each line begins at 100 where the range begins, so that what costs thousands and what costs cents can"
                f" be held against each other. Up to {_MOST_INSTRUMENTS} fit; the address of this page reopens them."
            )
    if instruments:
        fresh_line(home, {name: _frame(home, name, range_name) for name in instruments}, greyed="compare_indexed")
        st.fragment(_live, run_every=_RANGES[range_name][1])(home, instruments, range_name)


def _instruments(home: Home, names: Sequence[str]) -> list[str]:
    """Let the user pick instruments, kept in the address; a bare address takes the busiest few."""
    key, asked = "compare_instruments", st.query_params.get("instruments")
    at_first = busiest_first(home, names)[:_USUAL_INSTRUMENTS]
    wanted = at_first if asked is None else [name for name in asked.split(",") if name]
    known = [name for name in dict.fromkeys(wanted) if name in names][:_MOST_INSTRUMENTS]
    if missing := [name for name in wanted if name not in names]:
        st.toast(f"There are no bars of {plain(', '.join(missing[:3]))}; it is left out.")
    st.session_state[key] = known

    def keep() -> None:
        st.query_params["instruments"] = ",".join(st.session_state[key])

    st.multiselect(
        "Instruments",
        names,
        key=key,
        max_selections=_MOST_INSTRUMENTS,
        on_change=keep,
        placeholder="Pick instruments to compare",
        label_visibility="collapsed",
    )
    if asked != ",".join(known):
        st.query_params["instruments"] = ",".join(known)
    return known


def _live(home: Home, instruments: Sequence[str], range_name: str) -> None:
    from_ms, to_ms, bars = _bars(home, tuple(instruments), range_name)
    lines = {name: indexed(of_one) for name, of_one in bars.items()}
    figures = LiveFigures("compare", f"{range_name} {','.join(instruments)}")
    figures.show("indexed", compare_figure(lines, from_ms, to_ms), compare_in_words(lines))
    figures.update()
    right = {name: st.column_config.TextColumn(alignment="right") for name in _NUMBERS}
    st.dataframe(
        pl.DataFrame(compare_table(bars)), hide_index=True, key="compare_table", column_config=right, placeholder="–"
    )
    st.caption("All times are UTC. Drag over the figure to look closer, double-click to see all of it again.")


@st.cache_data(ttl=1.5, max_entries=16, show_spinner=False)
def _bars(home: Home, instruments: tuple[str, ...], range_name: str) -> tuple[int, int, dict[str, pl.DataFrame]]:
    """Read the range up to now in the shortest stored frame that needs few enough bars, once for all visitors."""
    (length_ms, _), to_ms = _RANGES[range_name], readings.now_ms()
    bars = {}
    for name in instruments:
        frame = _frame(home, name, range_name)
        from_ms = frame.start_ms(to_ms - length_ms)
        bars[name] = readings.bars(home, BarQuery(name, frame, from_ms, newest=_MOST_POINTS + 1))
    return to_ms - length_ms, to_ms, bars


def _frame(home: Home, instrument: str, range_name: str) -> Frame:
    """Return the shortest stored frame that needs few enough bars for the range."""
    stored = readings.frames(home, instrument)
    few = (one for one in stored if _RANGES[range_name][0] <= _MOST_POINTS * one.length_ms)
    return next(few, max(stored, default=Frame(60_000)))


through_app()
page()
