"""The live candle chart: a canvas that is added to the page once, and then requests changes from the server.

`st.echarts_chart` passes every update to ECharts as a new chart, which discards the user's zoom each second; this chart
keeps it. A fragment that runs each second makes Streamlit rebuild the whole page, which costs the browser twice as much
as drawing a thousand candles; an update over HTTP carries only the changed bars.
"""

import streamlit as st

from barmill.charts.candles import describe_chart
from barmill.charts.view import ChartView
from control.freshness.flow import Flow
from pages.parts.shared.browser_code import browser_code
from pages.parts.shared.choices import resolve_zone
from views.chart_bars import ShownBars, chart_message

_SCRIPTS = (
    "bars",
    "zones",
    "scales",
    "panes",
    "kinds",
    "paint",
    "loader",
    "follower",
    "tip",
    "export",
    "gestures",
    "chart",
)
_HTML = (
    '<div class="barmill-candles">'
    '<div class="barmill-strip"><div class="barmill-quote"><a class="barmill-heading" hidden></a>'
    '<b data-part="price"></b><span data-part="change"></span><span data-part="over"></span>'
    '<span data-part="bar"></span></div><span class="barmill-pulse" '
    'title="Age of the newest tick, and of the newest bar\'s last change; state of feed and job"></span>'
    '<span class="barmill-announcement" role="status"></span>'
    '<div class="barmill-tools" role="toolbar" aria-label="Save and share">'
    '<input class="barmill-link" aria-label="Link to this view" readonly hidden>'
    '<a data-does="study" title="Open the visible bars on the Study page">Study</a>'
    '<a data-does="csv" download title="Download the visible bars as CSV">CSV</a>'
    '<a data-does="parquet" download title="Download the visible bars as Parquet">Parquet</a>'
    '<button data-does="png" title="Download the chart as a PNG image">PNG</button>'
    '<button data-does="copy" title="Copy a link to this view">Copy link</button>'
    '<button data-does="keys" aria-expanded="false" title="Show keyboard and mouse controls">Keys</button></div></div>'
    '<div class="barmill-plot"><canvas tabindex="0" role="img"></canvas><div class="barmill-tip" hidden></div>'
    '<div class="barmill-notice" role="alert" hidden></div><button data-does="newest" hidden>Newest bar</button>'
    '<dl class="barmill-keys" hidden></dl></div></div>'
)

_chart = st.components.v2.component(
    "barmill_candles",
    html=_HTML,
    css=browser_code("candles/chart.css"),
    js=browser_code("cleanup.js", "numbers.js", *(f"candles/{name}.js" for name in _SCRIPTS)),
    isolate_styles=False,
)


def candle_chart(view: ChartView, shown_bars: ShownBars, read_ms: int, flow: Flow, heading: str = "") -> None:
    """Add the chart to the page with the current bars; it requests a rerun when it has missed too many changes.

    heading: the title above each of several charts, which links to the chart page.
    """
    data = chart_message(view, shown_bars, read_ms, flow) | {
        "edition": view.edition,
        "alt_text": describe_chart(shown_bars.bars, view.instrument, view.frame),
        "live": shown_bars.live,
        "has_oldest": shown_bars.has_oldest,
        "max_bars": shown_bars.max_bars_per_request,
        "head_slot": view.frame.slot(shown_bars.newest["start_ms"][-1]) if shown_bars.newest.height else None,
        "range": view.range_ms,
        "kind": view.kind,
        "scale": view.scale,
        "zone": view.zone if view.zone == "local" else resolve_zone(view.zone),
        "title": view.title,
        "query": view.bars_parameters,
        "choices": view.link_parameters,
        "heading": heading,
    }
    _chart(key=f"candles{heading}", data=data, on_resync_change=_rerun)


def _rerun() -> None:
    """Do nothing: the trigger itself makes Streamlit rerun the page, with a new history."""
