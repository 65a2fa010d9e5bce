"""Plotly figures that change in place: each is put on the page once, and told its newest data at every later run.

`st.plotly_chart` (Streamlit 1.67) knows a figure by its content, whatever its key: with new data it is a new one, and
the browser draws it anew, so zoom and hover are lost. So the first version is what Streamlit gets at every run.
"""

import plotly.graph_objects as go
import streamlit as st

from pages.parts.browser_code import browser_code
from pages.parts.readings import now_ms

_QUIET = {"displayModeBar": False}
# A browser refreshes a page in a hidden tab about once a minute; after longer than this the page was left.
_LEFT_AFTER_MS = 90_000

_update = st.components.v2.component("barmill_figures", js=browser_code("figures/figures.js"), isolate_styles=False)


class LiveFigures:
    """The figures of one page, in one view of it: another view, say another range, has figures of its own."""

    def __init__(self, page: str, view: str) -> None:
        key, at_ms = f"{page}_figures", now_ms()
        kept_view, kept_ms, kept = st.session_state.get(key, ("", 0, {}))
        stays = kept_view == view and at_ms - kept_ms < _LEFT_AFTER_MS
        self._first: dict[str, tuple[go.Figure, str]] = kept if stays else {}
        st.session_state[key] = (view, at_ms, self._first)
        self._page = page
        self._newest: dict[str, dict[str, object]] = {}

    def show(self, name: str, figure: go.Figure, words: str) -> None:
        """Put a figure here, with words for those who do not see it; later runs change it in place."""
        first, first_words = self._first.get(name, (figure, words))
        if _lines(first) != _lines(figure):
            first, first_words = figure, words
        self._first[name] = (first, first_words)
        key = f"{self._page}_{name}"
        st.plotly_chart(first, key=key, config=_QUIET, alt=first_words)
        self._newest[key] = {
            "x": [trace.x for trace in figure.data],
            "y": [trace.y for trace in figure.data],
            "span": figure.layout.xaxis.autorangeoptions.include,
            "range": figure.layout.yaxis.range,
            "words": words,
        }

    def update(self) -> None:
        """Send all figures their newest data; call this once, at the end of the run."""
        _update(key=f"{self._page}_update", data=self._newest)


def _lines(figure: go.Figure) -> list[str]:
    return [trace.name for trace in figure.data]
