"""The multi-frame page: one instrument in several frames side by side, with one cursor over all of them."""

from collections.abc import Sequence

import streamlit as st

from bar.frames import parse_frame
from charts.view import ChartView
from control.home import Home
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.busiest import busiest_first
from pages.parts.candle_chart import candle_chart
from pages.parts.chart_bars import history
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
    for column, view in zip(st.columns(len(views)), views, strict=True):
        with column:
            read_ms, shown = readings.now_ms(), history(home, view)
            candle_chart(view, shown, read_ms, readings.flow(home), view.frame.text)


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


through_app()
page()
