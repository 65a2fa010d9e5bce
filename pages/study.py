"""The study page: a fixed range of one instrument's bars in Plotly, with studies. Its address reopens the very view."""

from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

import streamlit as st

from bar.frames import Frame, parse_frame
from bar.reader import BarQuery
from charts.studied import studied
from charts.studies import Study, studies_text
from charts.study_figure import study_figure, study_in_words
from charts.texts import moment
from control.home import Home
from control.monitor.explained import explained_gaps
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.busiest import busiest_first
from pages.parts.chart_controls import as_of_picker, frame_picker, instrument_picker
from pages.parts.choices import Choices
from pages.parts.fixed_range import Range, fixed_range, forget_range
from pages.parts.fresh_line import fresh_line
from pages.parts.head import head, wait_for_bars
from pages.parts.routing import through_app
from pages.parts.study_editor import study_editor
from pages.parts.visitor import require
from pages.parts.zone_picker import zone_here, zone_picker

_USUAL = {"studies": "", "zone": "UTC", "fill": ""}
_USUAL_FRAME, _USUAL_BARS = "1m", 300
# Plotly draws so many candles in about a second.
_MOST_BARS = 5_000
_TOOLS = {
    "scrollZoom": True,
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtonsToAdd": ["drawline", "drawopenpath", "drawrect", "drawcircle", "eraseshape"],
}


def page() -> None:
    """Show the pickers, the figure, and the way to take its bars along."""
    require(Permission.VIEW_PRICES)
    home, choices = Home.find(), Choices("study", _USUAL)
    head("Study", readings.flow(home))
    names = readings.instruments(home)
    if not names:
        wait_for_bars()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        instrument = instrument_picker(choices, names, busiest_first(home, names)[0])
        frames = [frame.text for frame in readings.offered(home, instrument)]
        frame = parse_frame(frame_picker(choices, frames, _USUAL_FRAME if _USUAL_FRAME in frames else frames[0]))
        zone = zone_here(zone_picker(choices, label_visibility="collapsed", width=200))
        studies = study_editor(choices)
        as_of_ms = as_of_picker(choices, zone, readings.now_ms())
        fill = _fill(choices)
    span = fixed_range(choices, lambda: _newest(home, instrument, frame), zone)
    fresh_line(home, {instrument: frame})
    query = BarQuery(instrument, frame, span.from_ms, span.to_ms, as_of_ms, fill)
    _figure(home, query, studies, zone)


def _figure(home: Home, query: BarQuery, studies: tuple[Study, ...], zone: str) -> None:
    bars, lines = studied(partial(readings.bars, home), replace(query, newest=_MOST_BARS), studies)
    if not bars.height:
        _teach(query)
        return
    if bars.height == _MOST_BARS:
        st.caption(f"These are the newest {_MOST_BARS:,} bars of the range; a longer frame shows more of it.")
    figure = study_figure(bars, query.frame, lines, explained_gaps(home, bars, query.frame), zone)
    words = study_in_words(bars, query.instrument, query.frame, lines)
    st.plotly_chart(figure, key="study_figure", config=_TOOLS, alt=words)
    _take_along(query, studies)


def _take_along(query: BarQuery, studies: tuple[Study, ...]) -> None:
    asked = {
        "instrument": query.instrument,
        "frame": query.frame.text,
        "from": query.from_ms,
        "to": query.to_ms,
        "studies": studies_text(studies),
        "as_of": query.as_of_ms,
        "fill": int(query.fill),
    }
    link = urlencode({name: value for name, value in asked.items() if value})
    with st.container(horizontal=True, vertical_alignment="center"):
        for name, ending in (("CSV", "csv"), ("Parquet", "parquet")):
            st.link_button(name, f"/bars.{ending}?{link}", icon=":material/download:")
        st.caption("The bars of the range, with its studies. The address of this page reopens this view.")


def _teach(query: BarQuery) -> None:
    with st.container(border=True):
        st.subheader("No bars in this range", anchor=False)
        st.markdown(
            f"Nothing was traded in it, or it lies outside of what is stored: {moment(query.from_ms or 0)} to"
            f" {moment(query.to_ms or 0)} UTC. Pick another time above, or go to where the newest bars are."
        )
        st.button("Show the newest bars", key="study_show_newest", on_click=forget_range)


def _newest(home: Home, instrument: str, frame: Frame) -> Range:
    bars = readings.bars(home, BarQuery(instrument, frame, newest=_USUAL_BARS))
    if not bars.height:  # the store was taken away this very moment
        now_ms = readings.now_ms()
        return Range(now_ms - _USUAL_BARS * frame.length_ms, now_ms)
    return Range(bars["start_ms"][0], bars["end_ms"][-1])


def _fill(choices: Choices) -> bool:
    """Let the user have flat bars where none is."""
    key, fill = choices.key("filled"), choices.text("fill", lambda text: text in ("", "0", "1"))
    st.session_state[key] = fill == "1"
    st.toggle("Fill gaps", key=key, on_change=lambda: choices.keep("fill", "1" if st.session_state[key] else ""))
    return fill == "1"


through_app()
page()
