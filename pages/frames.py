"""The multi-frame page: one instrument in several frames side by side, with one cursor over all of them."""

from collections.abc import Sequence

import streamlit as st

from bar.frames import parse_frame
from charts.view import ChartView
from control.home import Home
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.busiest import busiest_first
from pages.parts.candle_chart import candle_chart, candle_update
from pages.parts.chart_bars import HISTORY_BARS, changes, history, newest_bars
from pages.parts.chart_controls import MOST_FRAMES, display, frames_picker, instrument_picker
from pages.parts.chart_defaults import chart_defaults, save_as_default
from pages.parts.choices import Choices
from pages.parts.head import instruments_or_wait, simulated_mark
from pages.parts.routing import through_app
from pages.parts.study_editor import study_editor
from pages.parts.told import tell_in_passing
from pages.parts.visitor import Visitor, require


def page() -> None:
    """Show the controls and a chart for each frame."""
    one, home = require(Permission.VIEW_PRICES), Home.find()
    names = instruments_or_wait(home, "Frames")
    if not names:
        return
    views = _chosen(one, home, names)
    _live(home, views)
    for column, view in zip(st.columns(len(views)), views, strict=True):
        with column:
            read_ms = readings.now_ms()
            candle_chart(view, history(home, view), read_ms, readings.flow(home), view.frame.text)


def _chosen(one: Visitor, home: Home, names: Sequence[str]) -> list[ChartView]:
    usual = chart_defaults(one)
    choices = Choices("frames", usual)
    with st.container(horizontal=True, vertical_alignment="center"):
        instrument = instrument_picker(choices, names, busiest_first(home, names)[0])
        offered = [frame.text for frame in readings.offered(home, instrument)]
        at_first = [text for text in usual["frames"].split(",") if text in offered][:MOST_FRAMES] or offered[:1]
        frames = frames_picker(choices, offered, at_first)
        studies = study_editor(choices)
        look = display(choices)
        save_as_default(one, choices)
        simulated_mark(simulated=readings.flow(home).of(instrument).simulated)
    tell_in_passing(choices.told)
    return [
        ChartView(
            instrument, parse_frame(frame), look["kind"], studies, look["zone"], look["scale"], look["fill"] == "1"
        )
        for frame in frames
    ]


@st.fragment(run_every=1)
def _live(home: Home, views: Sequence[ChartView]) -> None:
    flow = readings.flow(home)
    for view in views:
        read_ms, newest = readings.now_ms(), newest_bars(home, view)
        if not newest.height:
            st.rerun()  # the store was taken away; the page says what to do
        from_ms = newest["start_ms"][-1] - HISTORY_BARS * view.frame.length_ms
        candle_update(view, changes(home, view, newest, read_ms, from_ms), read_ms, from_ms, flow)


through_app()
page()
