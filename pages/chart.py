"""The chart page: one instrument's bars in one frame, moving. Its address says what is shown, so a link reopens it."""

from collections.abc import Sequence

import streamlit as st

from bar.frames import parse_frame
from bar.reader import BarQuery
from charts.as_of import revised_since
from charts.view import MOST_BARS_HELD, ChartView
from control.home import Home
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.busiest import busiest_first
from pages.parts.candle_chart import candle_chart
from pages.parts.chart_bars import Shown, history
from pages.parts.chart_controls import as_of_picker, display, frame_picker, instrument_picker, range_picker
from pages.parts.chart_defaults import chart_defaults, save_as_default
from pages.parts.choices import Choices
from pages.parts.head import instruments_or_wait, simulated_mark
from pages.parts.routing import through_app
from pages.parts.study_editor import study_editor
from pages.parts.told import tell_in_passing
from pages.parts.visitor import Visitor, require


def page() -> None:
    """Show the controls and the chart."""
    one, home = require(Permission.VIEW_PRICES), Home.find()
    names = instruments_or_wait(home, "Chart")
    if not names:
        return
    view = _chosen(one, home, names)
    badge = st.empty()
    if view.bars_in_range > MOST_BARS_HELD:
        st.caption(
            f"The range has {view.bars_in_range:,} bars of {view.frame.text}, and a chart holds {MOST_BARS_HELD:,}: it"
            " shows the last of them. Choose a longer frame to see all of it."
        )
    read_ms, shown = readings.now_ms(), history(home, view)
    if view.range_ms is not None and not shown.bars.height:
        st.info(
            "No bars in this range: nothing was traded in it, or it lies outside of what is stored. Pick another range"
            " above, or press Newest bar in the chart.",
            icon=":material/event_busy:",
        )
    candle_chart(view, shown, read_ms, readings.flow(home))
    if view.as_of_ms is not None:
        with badge:
            _revised_badge(home, view, shown)


def _chosen(one: Visitor, home: Home, names: Sequence[str]) -> ChartView:
    usual, now_ms = chart_defaults(one), readings.now_ms()
    choices = Choices("chart", usual)
    with st.container(horizontal=True, vertical_alignment="center"):
        instrument = instrument_picker(choices, names, busiest_first(home, names)[0])
        frames = [frame.text for frame in readings.offered(home, instrument)]
        frame = frame_picker(choices, frames, usual["frame"] if usual["frame"] in frames else frames[0])
        studies = study_editor(choices)
        look = display(choices)
        from_ms, to_ms = range_picker(choices, look["zone"], now_ms)
        as_of_ms = as_of_picker(choices, look["zone"], now_ms)
        save_as_default(one, choices)
        simulated_mark(simulated=readings.flow(home).of(instrument).simulated)
    tell_in_passing(choices.told)
    return ChartView(
        instrument,
        parse_frame(frame),
        look["kind"],
        studies,
        look["zone"],
        look["scale"],
        look["fill"] == "1",
        from_ms,
        to_ms,
        as_of_ms,
    )


def _revised_badge(home: Home, view: ChartView, shown: Shown) -> None:
    """Say how many of the bars shown are not the same any more."""
    if not shown.bars.height:
        st.info("Nothing was known of this instrument then; choose a later time.")
        return
    first_ms, end_ms = shown.bars["start_ms"][0], shown.bars["start_ms"][-1] + 1
    now = readings.bars(home, BarQuery(view.instrument, view.frame, first_ms, end_ms, fill=view.fill))
    count = revised_since(shown.bars, now)
    text = f"{count:,} of {shown.bars.height:,} bars shown {'was' if count == 1 else 'were'} revised since"
    st.badge(text, icon=":material/history:", color="violet" if count else "gray")


through_app()
page()
