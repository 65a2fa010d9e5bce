"""The study page: a fixed range of one instrument's bars in Plotly, with studies. A link reopens the exact view."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

import polars as pl
import streamlit as st

from barmill.audit.roles import Permission
from barmill.charts.candles import bars_with_studies
from barmill.charts.studies import Study, StudyLine, studies_text
from barmill.charts.study_figure import describe_study, study_figure
from barmill.model.frames import Frame, parse_frame
from barmill.platform.home import Home
from barmill.platform.texts import moment
from barmill.storage.reader import BarQuery
from control.monitoring.outages import explained_gaps
from pages.parts.chart.controls import (
    Range,
    as_of_picker,
    clear_range,
    fixed_range_picker,
    frame_picker,
    instrument_picker,
    range_in_address,
)
from pages.parts.chart.study_editor import study_editor
from pages.parts.shared.choices import Choices, resolve_zone, zone_picker
from pages.parts.shared.page_header import busiest_first, live_freshness, page_header, wait_for_bars
from pages.parts.shared.visitor import require, rerun_through_app
from views import readings

_DEFAULTS = {"studies": "", "zone": "UTC", "fill": ""}
_DEFAULT_FRAME, _DEFAULT_BARS = "1m", 300
# Plotly draws this many candles in about a second.
_MAX_BARS = 5_000
_FIGURE_CONFIG = {
    "scrollZoom": True,
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtonsToAdd": ["drawline", "drawopenpath", "drawrect", "drawcircle", "eraseshape"],
}


def page() -> None:
    """Show the pickers, the figure, and the downloads of its bars."""
    require(Permission.VIEW_PRICES)
    home, choices = Home.find(), Choices("study", _DEFAULTS)
    page_header("Study", readings.flow(home))
    names = readings.instruments(home)
    if not names:
        wait_for_bars()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        instrument = instrument_picker(choices, names, busiest_first(home, names)[0])
        frames = [frame.text for frame in readings.offered_frames(home, instrument)]
        frame = parse_frame(frame_picker(choices, frames, _DEFAULT_FRAME if _DEFAULT_FRAME in frames else frames[0]))
        zone = resolve_zone(zone_picker(choices, label_visibility="collapsed", width=200))
        studies = study_editor(choices)
        as_of_ms = as_of_picker(choices, zone, readings.now_ms())
        fill = _fill(choices)
    span = range_in_address() or _newest_range(home, instrument, frame)
    fixed_range_picker(choices, span, zone)
    live_freshness(home, {instrument: frame})
    query = BarQuery(instrument, frame, span.from_ms, span.to_ms, as_of_ms, fill)
    bars, lines = bars_with_studies(partial(readings.bars, home), replace(query, newest=_MAX_BARS), studies)
    _figure(home, query, bars, lines, studies, zone)


def _figure(
    home: Home,
    query: BarQuery,
    bars: pl.DataFrame,
    lines: Sequence[StudyLine],
    studies: tuple[Study, ...],
    zone: str,
) -> None:
    if not bars.height:
        _show_explanation(query)
        return
    if bars.height == _MAX_BARS:
        st.caption(f"These are the newest {_MAX_BARS:,} bars of the range; a longer frame shows more of it.")
    figure = study_figure(bars, query.frame, lines, explained_gaps(home, bars, query.frame), zone)
    alt_text = describe_study(bars, query.instrument, query.frame, lines)
    st.plotly_chart(figure, key="study_figure", config=_FIGURE_CONFIG, alt=alt_text)
    _download_links(query, studies)


def _download_links(query: BarQuery, studies: tuple[Study, ...]) -> None:
    parameters = {
        "instrument": query.instrument,
        "frame": query.frame.text,
        "from": query.from_ms,
        "to": query.to_ms,
        "studies": studies_text(studies),
        "as_of": query.as_of_ms,
        "fill": int(query.fill),
    }
    link = urlencode({name: value for name, value in parameters.items() if value})
    with st.container(horizontal=True, vertical_alignment="center"):
        for name, extension in (("CSV", "csv"), ("Parquet", "parquet")):
            st.link_button(name, f"/bars.{extension}?{link}", icon=":material/download:")
        st.caption("The bars of the range, with its studies. The address of this page reopens this view.")


def _show_explanation(query: BarQuery) -> None:
    with st.container(border=True):
        st.subheader("No bars in this range", anchor=False)
        st.markdown(
            f"No trades occurred, or the range is outside the stored data: {moment(query.from_ms or 0)} to"
            f" {moment(query.to_ms or 0)} UTC. Pick another range above, or show the newest bars."
        )
        st.button("Show the newest bars", key="study_show_newest", on_click=clear_range)


def _newest_range(home: Home, instrument: str, frame: Frame) -> Range:
    bars = readings.bars(home, BarQuery(instrument, frame, newest=_DEFAULT_BARS))
    if not bars.height:  # the store was removed meanwhile
        now_ms = readings.now_ms()
        return Range(now_ms - _DEFAULT_BARS * frame.length_ms, now_ms)
    return Range(bars["start_ms"][0], bars["end_ms"][-1])


def _fill(choices: Choices) -> bool:
    """Let the user choose flat bars for gaps."""
    key, fill = choices.key("filled"), choices.text("fill", lambda text: text in ("", "0", "1"))
    st.session_state[key] = fill == "1"
    st.toggle("Fill gaps", key=key, on_change=lambda: choices.keep("fill", "1" if st.session_state[key] else ""))
    return fill == "1"


rerun_through_app()
page()
