"""The multi-frame page: one instrument in several frames side by side, with a shared cursor."""

from collections.abc import Sequence

import streamlit as st

from barmill.audit.roles import Permission
from barmill.charts.view import ChartView
from barmill.model.frames import parse_frame
from barmill.platform.home import Home
from pages.parts.chart.candle_chart import candle_chart
from pages.parts.chart.controls import (
    MAX_FRAMES,
    chart_defaults,
    display_options,
    frames_picker,
    instrument_picker,
    save_as_default,
)
from pages.parts.chart.study_editor import study_editor
from pages.parts.shared.choices import Choices
from pages.parts.shared.messages import show_toast
from pages.parts.shared.page_header import busiest_first, instruments_or_wait, simulated_mark
from pages.parts.shared.visitor import Visitor, require, rerun_through_app
from views import readings
from views.chart_bars import history


def page() -> None:
    """Show the controls and a chart per frame."""
    visitor, home = require(Permission.VIEW_PRICES), Home.find()
    names = instruments_or_wait(home, "Frames")
    if not names:
        return
    views = _choose_view(visitor, home, names)
    for column, view in zip(st.columns(len(views)), views, strict=True):
        with column:
            read_ms, shown_bars = readings.now_ms(), history(home, view)
            candle_chart(view, shown_bars, read_ms, readings.flow(home), view.frame.text)


def _choose_view(visitor: Visitor, home: Home, names: Sequence[str]) -> list[ChartView]:
    defaults = chart_defaults(visitor)
    choices = Choices("frames", defaults)
    with st.container(horizontal=True, vertical_alignment="center"):
        instrument = instrument_picker(choices, names, busiest_first(home, names)[0])
        offered = [frame.text for frame in readings.offered_frames(home, instrument)]
        selected = [text for text in defaults["frames"].split(",") if text in offered][:MAX_FRAMES] or offered[:1]
        frames = frames_picker(choices, offered, selected)
        studies = study_editor(choices)
        options = display_options(choices)
        save_as_default(visitor, choices)
        simulated_mark(simulated=readings.flow(home).for_instrument(instrument).simulated)
    show_toast(choices.outcome)
    return [
        ChartView(
            instrument,
            parse_frame(frame),
            options["kind"],
            studies,
            options["zone"],
            options["scale"],
            options["fill"] == "1",
        )
        for frame in frames
    ]


rerun_through_app()
page()
