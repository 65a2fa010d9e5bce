"""The code that runs in the browser, and the messages that update elements of a page in place.

`st.plotly_chart` (Streamlit 1.67) identifies a figure by its content, even if it has a key: with new data it is a new
figure, which the browser draws from scratch, so zoom and hover are lost. Therefore every run passes the first version
to Streamlit, and sends the new data separately.
"""

from collections.abc import Mapping

import plotly.graph_objects as go
import streamlit as st

from barmill.platform.home import REPO_ROOT
from views.readings import now_ms


def browser_code(*names: str) -> str:
    """Return these files of src/barmill/charts/browser as one script or style sheet, in this order."""
    return "\n".join((REPO_ROOT / "src" / "barmill" / "charts" / "browser" / name).read_text("utf-8") for name in names)


_update = st.components.v2.component(
    "barmill_update",
    js="export default ({data: {topic, message}}) => {"
    " document.dispatchEvent(new CustomEvent(`barmill:${topic}`, {detail: message})); };",
    isolate_styles=False,
)


def update(topic: str, message: Mapping[str, object]) -> None:
    """Send a message to the listeners of a topic in this browser page; call it once per topic and run."""
    _update(key=f"update_{topic}", data={"topic": topic, "message": dict(message)})


_FIGURE_CONFIG = {"displayModeBar": False}
# A browser refreshes a page in a hidden tab about once a minute; after a longer time, the page is no longer open.
_ABANDONED_AFTER_MS = 90_000

_update_live_figures = st.components.v2.component(
    "barmill_figures", js=browser_code("figures/figures.js"), isolate_styles=False
)


class LiveFigures:
    """The figures of one view of a page; another view, such as another range, has separate figures."""

    def __init__(self, page: str, view: str) -> None:
        key, at_ms = f"{page}_figures", now_ms()
        kept_view, kept_ms, kept_figures = st.session_state.get(key, ("", 0, {}))
        is_current = kept_view == view and at_ms - kept_ms < _ABANDONED_AFTER_MS
        self._first: dict[str, tuple[go.Figure, str]] = kept_figures if is_current else {}
        st.session_state[key] = (view, at_ms, self._first)
        self._page = page
        self._newest: dict[str, dict[str, object]] = {}

    def show(self, name: str, figure: go.Figure, alt_text: str) -> None:
        """Add a figure to the page, with alternative text; later runs update it in place."""
        first, first_alt_text = self._first.get(name, (figure, alt_text))
        if _lines(first) != _lines(figure):
            first, first_alt_text = figure, alt_text
        self._first[name] = (first, first_alt_text)
        key = f"{self._page}_{name}"
        st.plotly_chart(first, key=key, config=_FIGURE_CONFIG, alt=first_alt_text)
        self._newest[key] = {
            "x": [trace.x for trace in figure.data],
            "y": [trace.y for trace in figure.data],
            "span": figure.layout.xaxis.autorangeoptions.include,
            "range": figure.layout.yaxis.range,
            "alt_text": alt_text,
        }

    def update(self) -> None:
        """Send all figures their newest data; call this once, at the end of the run."""
        _update_live_figures(key=f"{self._page}_update_live_figures", data=self._newest)


def _lines(figure: go.Figure) -> list[str]:
    return [trace.name for trace in figure.data]
