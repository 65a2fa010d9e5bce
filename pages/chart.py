"""The chart page: live bars of one instrument in one frame. Its address contains all choices, so a link reopens it."""

from collections.abc import Sequence

import streamlit as st

from barmill.audit.roles import Permission
from barmill.charts.view import MAX_BARS_HELD, ChartView, count_revised
from barmill.model.frames import parse_frame
from barmill.platform.home import Home
from barmill.storage.reader import BarQuery
from pages.parts.chart.candle_chart import candle_chart
from pages.parts.chart.controls import (
    as_of_picker,
    chart_defaults,
    display_options,
    frame_picker,
    instrument_picker,
    range_picker,
    save_as_default,
)
from pages.parts.chart.study_editor import study_editor
from pages.parts.shared.choices import Choices
from pages.parts.shared.messages import show_toast
from pages.parts.shared.page_header import busiest_first, instruments_or_wait, simulated_mark
from pages.parts.shared.visitor import Visitor, require, rerun_through_app
from views import readings
from views.chart_bars import ShownBars, history


def page() -> None:
    """Show the controls and the chart."""
    visitor, home = require(Permission.VIEW_PRICES), Home.find()
    names = instruments_or_wait(home, "Chart")
    if not names:
        return
    view = _choose_view(visitor, home, names)
    badge = st.empty()
    if view.bars_in_range > MAX_BARS_HELD:
        st.caption(
            f"The range has {view.bars_in_range:,} bars of {view.frame.text}, but a chart shows at most"
            f" {MAX_BARS_HELD:,}: these are the newest. Choose a longer frame to see the whole range."
        )
    read_ms, shown_bars = readings.now_ms(), history(home, view)
    if view.range_ms is not None and not shown_bars.bars.height:
        st.info(
            "No bars in this range: no trades occurred, or the range is outside the stored data. Choose another range"
            " above, or click Newest bar in the chart.",
            icon=":material/event_busy:",
        )
    candle_chart(view, shown_bars, read_ms, readings.flow(home))
    if view.as_of_ms is not None:
        with badge:
            _revised_badge(home, view, shown_bars)


def _choose_view(visitor: Visitor, home: Home, names: Sequence[str]) -> ChartView:
    defaults, now_ms = chart_defaults(visitor), readings.now_ms()
    choices = Choices("chart", defaults)
    with st.container(horizontal=True, vertical_alignment="center"):
        instrument = instrument_picker(choices, names, busiest_first(home, names)[0])
        frames = [frame.text for frame in readings.offered_frames(home, instrument)]
        frame = frame_picker(choices, frames, defaults["frame"] if defaults["frame"] in frames else frames[0])
        studies = study_editor(choices)
        options = display_options(choices)
        from_ms, to_ms = range_picker(choices, options["zone"], now_ms)
        as_of_ms = as_of_picker(choices, options["zone"], now_ms)
        save_as_default(visitor, choices)
        simulated_mark(simulated=readings.flow(home).for_instrument(instrument).simulated)
    show_toast(choices.outcome)
    return ChartView(
        instrument,
        parse_frame(frame),
        options["kind"],
        studies,
        options["zone"],
        options["scale"],
        options["fill"] == "1",
        from_ms,
        to_ms,
        as_of_ms,
    )


def _revised_badge(home: Home, view: ChartView, shown_bars: ShownBars) -> None:
    """Show how many of the bars shown have been revised since the chosen time."""
    if not shown_bars.bars.height:
        st.info("This instrument had no bars at that time; choose a later time.")
        return
    first_ms, end_ms = shown_bars.bars["start_ms"][0], shown_bars.bars["start_ms"][-1] + 1
    current_bars = readings.bars(home, BarQuery(view.instrument, view.frame, first_ms, end_ms, fill=view.fill))
    count = count_revised(shown_bars.bars, current_bars)
    text = f"{count:,} of {shown_bars.bars.height:,} bars shown {'was' if count == 1 else 'were'} revised since"
    st.badge(text, icon=":material/history:", color="violet" if count else "gray")


rerun_through_app()
page()
