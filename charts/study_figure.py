"""A fixed range of bars to study in Plotly: candles, volume and studies, one under the other on one axis of time.

A bar stands at its start. Where bars are missing nothing is drawn, and where many are, lines are broken. Times are
what the clocks of a zone show; Plotly itself knows none. The look (fonts, grid, dark or light) is the app's own.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import plotly.graph_objects as go
import polars as pl

from bar.frames import Frame
from bar.model import BarState
from charts.candles import price_decimals
from charts.studies import PRICE_PANE, VOLUME_PANE, StudyLine
from charts.texts import chart_in_words
from charts.zones import clock_ms

# Up is blue and down is orange everywhere; these read on dark and on light.
_UP, _DOWN, _PLAIN, _MARK = "#3f8fd2", "#e07b2e", "#7c8794", "#b8892b"
_LINES = ("#8f6ae0", "#2aa06c", "#d25252", "#3ba3a8", "#b8892b", "#c063a4", "#6d8a3c", "#a0673f")
_PRICE_PX, _VOLUME_PX, _PANE_PX, _BETWEEN_PX = 420, 100, 120, 14
# Above is room for Plotly's tools, below for times, the zone and the legend.
_ABOVE_PX, _BELOW_PX = 36, 92
_FADED = 0.45
_HOVER_FORMAT = ",.6~r"
# As many as Plotly's number formats have.
_MOST_DECIMALS = 20
_BAND = ("upper", "lower")
# In bars, as on the canvas (charts/browser/candles/paint.js): an instrument with few ticks would have only dashes.
_JOINED_OVER = 6

Gap = tuple[int, int, str]  # from and to in ms, and why there are no bars; oldest first


def study_figure(
    bars: pl.DataFrame, frame: Frame, lines: Sequence[StudyLine] = (), gaps: Sequence[Gap] = (), zone: str = "UTC"
) -> go.Figure:
    """Draw bars (BAR_SCHEMA of one instrument and frame, oldest first) and the lines of studies over them."""
    panes = _panes(lines)
    axes = {pane: "y" if place == 0 else f"y{place + 1}" for place, pane in enumerate(panes)}
    timed = bars.with_columns(clock_ms=clock_ms(bars["start_ms"], zone))
    figure = go.Figure([*_candles(timed), *_revised(timed), _volume(timed, axes[VOLUME_PANE])])
    for place, (_, of_study) in enumerate(groupby(lines, lambda line: line.study)):
        color = _LINES[place % len(_LINES)]
        for number, line in enumerate(of_study):
            # A pane of its own has a title; elsewhere the first line of a study stands for all of them.
            named = number == 0 and line.pane in (PRICE_PANE, VOLUME_PANE)
            figure.add_trace(_line(timed, frame, line, color, axes[line.pane]).update(showlegend=named))
    figure.add_traces(_no_bars(timed, gaps, zone))
    _lay_out(figure, panes, price_decimals(bars, _MOST_DECIMALS), zone)
    return figure


def study_in_words(bars: pl.DataFrame, instrument: str, frame: Frame, lines: Sequence[StudyLine] = ()) -> str:
    """Say in a sentence or two what the figure shows, with the last value of each line."""
    said = chart_in_words(bars, instrument, frame)
    last = [(line.label, next((value for value in reversed(line.values) if value is not None), None)) for line in lines]
    values = [f"{label} no value yet" if value is None else f"{label} {value:.6g}" for label, value in last]
    return f"{said} At the end: {', '.join(values)}." if values else said


def _panes(lines: Sequence[StudyLine]) -> dict[str, tuple[str, int]]:
    """Return the panes from top to bottom: the title of each and its height in pixels."""
    own = {line.pane: line.label for line in reversed(lines) if line.pane not in (PRICE_PANE, VOLUME_PANE)}
    return {
        PRICE_PANE: ("Price", _PRICE_PX),
        VOLUME_PANE: ("Volume", _VOLUME_PX),
        **{pane: (own[pane], _PANE_PX) for pane in reversed(own)},
    }


def _candles(bars: pl.DataFrame) -> Iterator[go.Candlestick]:
    """Yield the candles; what may still change and what was never traded are set apart."""
    forming, synthetic = (pl.col("state") == state.value for state in (BarState.FORMING, BarState.SYNTHETIC))
    yield _candle(bars.filter(~forming & ~synthetic), "bars", _UP, _DOWN)
    for name, which, colors, opacity in (
        ("forming", forming, (_UP, _DOWN), _FADED),
        ("no ticks, filled", synthetic, (_PLAIN, _PLAIN), 1),
    ):
        if (some := bars.filter(which)).height:
            yield _candle(some, name, *colors, opacity=opacity)


def _candle(bars: pl.DataFrame, name: str, up: str, down: str, opacity: float = 1) -> go.Candlestick:
    return go.Candlestick(
        x=bars["clock_ms"].to_list(),
        **{price: bars[price].to_list() for price in ("open", "high", "low", "close")},
        name=name,
        increasing={"line": {"color": up, "width": 1}},
        decreasing={"line": {"color": down, "width": 1}},
        opacity=opacity,
        showlegend=name != "bars",
        yaxis="y",
    )


def _revised(bars: pl.DataFrame) -> Iterator[go.Scatter]:
    some = bars.filter(pl.col("state") == BarState.REVISED.value)
    if some.height:
        yield go.Scatter(
            x=some["clock_ms"].to_list(),
            y=some["high"].to_list(),
            customdata=some["revision"].to_list(),
            name="revised",
            mode="markers",
            marker={"symbol": "triangle-down", "size": 7, "color": _MARK},
            hovertemplate="revised %{customdata}×",
            yaxis="y",
        )


def _volume(bars: pl.DataFrame, axis: str) -> go.Bar:
    return go.Bar(
        x=bars["clock_ms"].to_list(),
        y=bars["volume"].to_list(),
        name="volume",
        marker={"color": _PLAIN, "line": {"width": 0}},
        opacity=0.6,
        showlegend=False,
        yaxis=axis,
    )


def _line(bars: pl.DataFrame, frame: Frame, line: StudyLine, color: str, axis: str) -> go.Scatter | go.Bar:
    if line.kind == "histogram":
        return go.Bar(
            x=bars["clock_ms"].to_list(),
            y=line.values,
            name=line.label,
            marker={"color": color, "line": {"width": 0}},
            opacity=_FADED,
            legendgroup=line.study,
            yaxis=axis,
        )
    suffix = line.label.rpartition(" ")[2]
    points = pl.DataFrame({"x": bars["clock_ms"], "y": pl.Series(line.values, dtype=pl.Float64)})
    # A point without a value breaks the line.
    missing = (bars["start_ms"].diff() > _JOINED_OVER * frame.length_ms).fill_null(value=False)
    broken = points.filter(missing).select(pl.col("x") - 1, y=pl.lit(None, pl.Float64))
    points = pl.concat([points, broken]).sort("x")
    return go.Scatter(
        x=points["x"].to_list(),
        y=points["y"].to_list(),
        name=line.label,
        mode="lines",
        line={"width": 1 if suffix in _BAND else 1.5, "color": color, "dash": "dot" if suffix == "signal" else "solid"},
        legendgroup=line.study,
        yaxis=axis,
    )


def _no_bars(bars: pl.DataFrame, gaps: Sequence[Gap], zone: str) -> list[go.Scatter]:
    """Return one mark in the middle of each gap, at the last price before it, that says why there is nothing."""
    within = [gap for gap in gaps if bars.height and gap[0] > bars["start_ms"][0]]
    if not within:
        return []
    starts, ends, reasons = zip(*within, strict=True)
    at = pl.DataFrame({"start_ms": starts}, {"start_ms": pl.Int64}).set_sorted("start_ms")
    known = bars.select("start_ms", "close").set_sorted("start_ms")
    last = at.join_asof(known, on="start_ms", strategy="backward", allow_exact_matches=False)["close"]
    middle = pl.Series([(start + end) // 2 for start, end in zip(starts, ends, strict=True)], dtype=pl.Int64)
    return [
        go.Scatter(
            x=clock_ms(middle, zone).to_list(),
            y=last.to_list(),
            customdata=list(reasons),
            name="no bars",
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 10, "color": _PLAIN},
            hovertemplate="no bars: %{customdata}",
            yaxis="y",
        )
    ]


def _lay_out(figure: go.Figure, panes: dict[str, tuple[str, int]], decimals: int, zone: str) -> None:
    inside = sum(height for _, height in panes.values()) + _BETWEEN_PX * (len(panes) - 1)
    figure.update_layout(
        height=inside + _ABOVE_PX + _BELOW_PX,
        margin={"l": 8, "r": 8, "t": _ABOVE_PX, "b": _BELOW_PX},
        hovermode="x unified",
        hoversubplots="axis",
        hoverlabel={"namelength": -1},
        dragmode="pan",
        uirevision="study",
        bargap=0.2,
        showlegend=True,
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "bgcolor": "rgba(0,0,0,0)",
        },
        newshape={"line": {"color": _MARK, "width": 2}},
        xaxis={
            "type": "date",
            "title": zone,
            "anchor": f"y{len(panes)}",
            "rangeslider": {"visible": False},
            "hoverformat": "%b %-d, %H:%M:%S",
            **_spikes(),
        },
    )
    top = inside
    for place, (pane, (title, height)) in enumerate(panes.items()):
        axis: dict[str, Any] = {
            "title": title,
            "domain": [max(0, (top - height) / inside), top / inside],
            "anchor": "x",
            "automargin": True,
            "side": "right",
            "hoverformat": f".{decimals}f" if pane == PRICE_PANE else _HOVER_FORMAT,
            **_spikes(),
        }
        if pane.startswith("rsi"):
            axis |= {"range": [0, 100], "tickvals": [30, 70]}
        figure.update_layout({"yaxis" if place == 0 else f"yaxis{place + 1}": axis})
        top -= height + _BETWEEN_PX


def _spikes() -> dict[str, object]:
    """Return the crosshair: one line through all panes, and one through the pane the mouse is in."""
    return {
        "showspikes": True,
        "spikemode": "across",
        "spikesnap": "cursor",
        "spikethickness": 1,
        "spikedash": "dot",
        "spikecolor": _PLAIN,
    }
