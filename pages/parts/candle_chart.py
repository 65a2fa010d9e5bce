"""The live candle chart: a canvas that is put on the page once, and from then on asks for what changed itself.

`st.echarts_chart` hands every update to ECharts as a whole new chart, which throws the user's zoom away each second;
this chart keeps it. And a fragment that runs each second has Streamlit put its whole page together anew, which costs
the browser twice what drawing a thousand candles does; an update by plain HTTP carries only the bars that changed.
"""

import streamlit as st

from charts.texts import chart_in_words
from charts.view import ChartView
from control.freshness.flow import Flow
from pages.parts.browser_code import browser_code
from pages.parts.chart_bars import Shown
from pages.parts.chart_message import chart_message
from pages.parts.zone_picker import zone_here

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
    "takeaway",
    "gestures",
    "chart",
)
_HTML = (
    '<div class="barmill-candles">'
    '<div class="barmill-strip"><div class="barmill-quote"><a class="barmill-heading" hidden></a>'
    '<b data-part="price"></b><span data-part="change"></span><span data-part="over"></span>'
    '<span data-part="bar"></span></div><span class="barmill-pulse" '
    'title="Age of the newest tick, and of the newest bar\'s last change; state of feed and job"></span>'
    '<span class="barmill-said" role="status"></span>'
    '<div class="barmill-tools" role="toolbar" aria-label="Take along">'
    '<input class="barmill-link" aria-label="Link to this view" readonly hidden>'
    '<a data-does="study" title="The bars in view on the study page, to draw on and to hover through">Study</a>'
    '<a data-does="csv" download title="The bars in view as a CSV file">CSV</a>'
    '<a data-does="parquet" download title="The bars in view as a Parquet file">Parquet</a>'
    '<button data-does="png" title="The picture as a PNG file">PNG</button>'
    '<button data-does="copy" title="Copy a link to this view">Copy link</button>'
    '<button data-does="keys" aria-expanded="false" title="What keys and mouse do">Keys</button></div></div>'
    '<div class="barmill-plot"><canvas tabindex="0" role="img"></canvas><div class="barmill-tip" hidden></div>'
    '<div class="barmill-notice" role="alert" hidden></div><button data-does="newest" hidden>Newest bar</button>'
    '<dl class="barmill-keys" hidden></dl></div></div>'
)

_chart = st.components.v2.component(
    "barmill_candles",
    html=_HTML,
    css=browser_code("candles/chart.css"),
    js=browser_code("lasting.js", "numbers.js", *(f"candles/{name}.js" for name in _SCRIPTS)),
    isolate_styles=False,
)


def candle_chart(view: ChartView, shown: Shown, read_ms: int, flow: Flow, heading: str = "") -> None:
    """Put the chart on the page with the bars so far; it asks for a rerun when it has missed too much.

    heading: where there are several, what stands above each, as a link to the chart on a page of its own.
    """
    data = chart_message(view, shown, read_ms, flow) | {
        "edition": view.edition,
        "words": chart_in_words(shown.bars, view.instrument, view.frame),
        "live": shown.live,
        "whole": shown.whole,
        "at_once": shown.at_once,
        "head_slot": view.frame.slot(shown.newest["start_ms"][-1]) if shown.newest.height else None,
        "range": view.range_ms,
        "kind": view.kind,
        "scale": view.scale,
        "zone": view.zone if view.zone == "local" else zone_here(view.zone),
        "title": view.title,
        "query": view.bars_parameters,
        "choices": view.link_parameters,
        "heading": heading,
    }
    _chart(key=f"candles{heading}", data=data, on_resync_change=_rerun)


def _rerun() -> None:
    """Do nothing: that the trigger fired makes Streamlit run the page again, with a fresh history."""
