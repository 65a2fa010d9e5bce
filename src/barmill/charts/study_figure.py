"""A Plotly figure of a fixed range of bars: candles, volume and studies in panes with a common time axis.

A bar is at its start time. Missing bars are left empty, and many missing bars interrupt a line. Times are converted to
the local time of a zone, because Plotly does not support zones. Streamlit's theme sets fonts, grid and background.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import plotly.graph_objects as go
import polars as pl

from barmill.charts.candles import describe_chart, price_decimals
from barmill.charts.studies import PRICE_PANE, VOLUME_PANE, StudyLine
from barmill.charts.view import clock_ms
from barmill.model.bar import BarState
from barmill.model.frames import Frame

# Up is blue and down is orange everywhere; these shades are legible on dark and light backgrounds.
_UP_COLOR, _DOWN_COLOR, _NEUTRAL_COLOR, _MARK_COLOR = "#3f8fd2", "#e07b2e", "#7c8794", "#b8892b"
_LINE_COLORS = ("#8f6ae0", "#2aa06c", "#d25252", "#3ba3a8", "#b8892b", "#c063a4", "#6d8a3c", "#a0673f")
_PRICE_PX, _VOLUME_PX, _PANE_PX, _SPACING_PX = 420, 100, 120, 14
# Space above for Plotly's toolbar, and below for times, the zone and the legend.
_ABOVE_PX, _BELOW_PX = 36, 92
_FADED_OPACITY = 0.45
_HOVER_FORMAT = ",.6~r"
# The maximum of Plotly's number formats.
_MAX_DECIMALS = 20
_BAND_LINES = ("upper", "lower")
# A line joins points at most this many bar lengths apart, as on the canvas (browser/candles/kinds.js); otherwise an
# instrument with few ticks would only have dashes.
_MAX_JOINED_BARS = 6

Gap = tuple[int, int, str]  # from and to in ms, and the reason; oldest first


def study_figure(
    bars: pl.DataFrame, frame: Frame, lines: Sequence[StudyLine] = (), gaps: Sequence[Gap] = (), zone: str = "UTC"
) -> go.Figure:
    """Return bars (BAR_SCHEMA of one instrument and frame, oldest first) and the lines of studies as a figure.

    zone: the IANA name of the zone of the time axis.
    """
    panes = _panes(lines)
    axes = {pane: "y" if index == 0 else f"y{index + 1}" for index, pane in enumerate(panes)}
    timed = bars.with_columns(clock_ms=clock_ms(bars["start_ms"], zone))
    figure = go.Figure([*_candles(timed), *_revision_markers(timed), _volume(timed, axes[VOLUME_PANE])])
    for index, (_, lines_of_study) in enumerate(groupby(lines, lambda line: line.study)):
        color = _LINE_COLORS[index % len(_LINE_COLORS)]
        for number, line in enumerate(lines_of_study):
            # A separate pane has a title; in the other panes, the first line of a study represents it in the legend.
            in_legend = number == 0 and line.pane in (PRICE_PANE, VOLUME_PANE)
            figure.add_trace(_line(timed, frame, line, color, axes[line.pane]).update(showlegend=in_legend))
    figure.add_traces(_gap_markers(timed, gaps, zone))
    _set_layout(figure, panes, price_decimals(bars, _MAX_DECIMALS), zone)
    return figure


def describe_study(bars: pl.DataFrame, instrument: str, frame: Frame, lines: Sequence[StudyLine] = ()) -> str:
    """Return one or two sentences about the figure, with the last value of each line."""
    description = describe_chart(bars, instrument, frame)
    last = [(line.label, next((value for value in reversed(line.values) if value is not None), None)) for line in lines]
    values = [f"{label} no value yet" if value is None else f"{label} {value:.6g}" for label, value in last]
    return f"{description} At the end: {', '.join(values)}." if values else description


def _panes(lines: Sequence[StudyLine]) -> dict[str, tuple[str, int]]:
    """Return the panes by name, from top to bottom: the title of each and its height in pixels."""
    separate = {line.pane: line.label for line in reversed(lines) if line.pane not in (PRICE_PANE, VOLUME_PANE)}
    return {
        PRICE_PANE: ("Price", _PRICE_PX),
        VOLUME_PANE: ("Volume", _VOLUME_PX),
        **{pane: (separate[pane], _PANE_PX) for pane in reversed(separate)},
    }


def _candles(bars: pl.DataFrame) -> Iterator[go.Candlestick]:
    """Yield the candles; forming bars and synthetic bars are drawn differently."""
    forming, synthetic = (pl.col("state") == state.value for state in (BarState.FORMING, BarState.SYNTHETIC))
    yield _candle(bars.filter(~forming & ~synthetic), "bars", _UP_COLOR, _DOWN_COLOR)
    for name, condition, colors, opacity in (
        ("forming", forming, (_UP_COLOR, _DOWN_COLOR), _FADED_OPACITY),
        ("no ticks, filled", synthetic, (_NEUTRAL_COLOR, _NEUTRAL_COLOR), 1),
    ):
        if (selected := bars.filter(condition)).height:
            yield _candle(selected, name, *colors, opacity=opacity)


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


def _revision_markers(bars: pl.DataFrame) -> Iterator[go.Scatter]:
    revised = bars.filter(pl.col("state") == BarState.REVISED.value)
    if revised.height:
        yield go.Scatter(
            x=revised["clock_ms"].to_list(),
            y=revised["high"].to_list(),
            customdata=revised["revision"].to_list(),
            name="revised",
            mode="markers",
            marker={"symbol": "triangle-down", "size": 7, "color": _MARK_COLOR},
            hovertemplate="revised %{customdata}×",
            yaxis="y",
        )


def _volume(bars: pl.DataFrame, axis: str) -> go.Bar:
    return go.Bar(
        x=bars["clock_ms"].to_list(),
        y=bars["volume"].to_list(),
        name="volume",
        marker={"color": _NEUTRAL_COLOR, "line": {"width": 0}},
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
            opacity=_FADED_OPACITY,
            legendgroup=line.study,
            yaxis=axis,
        )
    suffix = line.label.rpartition(" ")[2]
    points = pl.DataFrame({"x": bars["clock_ms"], "y": pl.Series(line.values, dtype=pl.Float64)})
    # A point without a value interrupts the line.
    missing = (bars["start_ms"].diff() > _MAX_JOINED_BARS * frame.length_ms).fill_null(value=False)
    breaks = points.filter(missing).select(pl.col("x") - 1, y=pl.lit(None, pl.Float64))
    points = pl.concat([points, breaks]).sort("x")
    return go.Scatter(
        x=points["x"].to_list(),
        y=points["y"].to_list(),
        name=line.label,
        mode="lines",
        line={
            "width": 1 if suffix in _BAND_LINES else 1.5,
            "color": color,
            "dash": "dot" if suffix == "signal" else "solid",
        },
        legendgroup=line.study,
        yaxis=axis,
    )


def _gap_markers(bars: pl.DataFrame, gaps: Sequence[Gap], zone: str) -> list[go.Scatter]:
    """Return a trace with a mark in the middle of each gap, at the last price before it, or no trace without gaps."""
    within = [gap for gap in gaps if bars.height and gap[0] > bars["start_ms"][0]]
    if not within:
        return []
    starts, ends, reasons = zip(*within, strict=True)
    gap_starts = pl.DataFrame({"start_ms": starts}, {"start_ms": pl.Int64}).set_sorted("start_ms")
    closes = bars.select("start_ms", "close").set_sorted("start_ms")
    last = gap_starts.join_asof(closes, on="start_ms", strategy="backward", allow_exact_matches=False)["close"]
    middle = pl.Series([(start + end) // 2 for start, end in zip(starts, ends, strict=True)], dtype=pl.Int64)
    return [
        go.Scatter(
            x=clock_ms(middle, zone).to_list(),
            y=last.to_list(),
            customdata=list(reasons),
            name="no bars",
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 10, "color": _NEUTRAL_COLOR},
            hovertemplate="no bars: %{customdata}",
            yaxis="y",
        )
    ]


def _set_layout(figure: go.Figure, panes: dict[str, tuple[str, int]], decimals: int, zone: str) -> None:
    inner_px = sum(height for _, height in panes.values()) + _SPACING_PX * (len(panes) - 1)
    figure.update_layout(
        height=inner_px + _ABOVE_PX + _BELOW_PX,
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
        newshape={"line": {"color": _MARK_COLOR, "width": 2}},
        xaxis={
            "type": "date",
            "title": zone,
            "anchor": f"y{len(panes)}",
            "rangeslider": {"visible": False},
            "hoverformat": "%b %-d, %H:%M:%S",
            **_spikes(),
        },
    )
    top_px = inner_px
    for index, (pane, (title, height)) in enumerate(panes.items()):
        axis: dict[str, Any] = {
            "title": title,
            "domain": [max(0, (top_px - height) / inner_px), top_px / inner_px],
            "anchor": "x",
            "automargin": True,
            "side": "right",
            "hoverformat": f".{decimals}f" if pane == PRICE_PANE else _HOVER_FORMAT,
            **_spikes(),
        }
        if pane.startswith("rsi"):
            axis |= {"range": [0, 100], "tickvals": [30, 70]}
        figure.update_layout({"yaxis" if index == 0 else f"yaxis{index + 1}": axis})
        top_px -= height + _SPACING_PX


def _spikes() -> dict[str, object]:
    """Return the settings of the crosshair: one line through all panes, and one through the pane at the mouse."""
    return {
        "showspikes": True,
        "spikemode": "across",
        "spikesnap": "cursor",
        "spikethickness": 1,
        "spikedash": "dot",
        "spikecolor": _NEUTRAL_COLOR,
    }
