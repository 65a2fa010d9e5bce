"""How a measured value went: a small figure with time from left to right, and the same in words.

Every point is drawn where it was measured; where nothing was measured for a while, the line is broken. The look
(colours, fonts, dark or light) is the app's own: Streamlit's theme is laid over the figure in the browser.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import plotly.graph_objects as go
import polars as pl

from charts.texts import age

_HEIGHT_PX, _LEGEND_PX = 150, 34
_NEWEST_CHARACTERS = 44
_DAY_MS = 86_400_000
_SIGNIFICANT = 5
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Unit(Enum):
    """What is measured: how an axis prints it, what stands behind the number, and how far an axis reaches at least."""

    COUNT = ".3~s", "", 4
    RATE = ".3~s", "/s", 1
    SECONDS = ",.3~r", " s", 1
    SHARE = ".0%", "", 1
    BYTES = ".3~s", "B", 1_000
    CORES = ".2~f", "", 0.2

    def __init__(self, axis: str, suffix: str, reach: float) -> None:
        self.axis, self.suffix, self.reach = axis, suffix, reach

    def words(self, value: float) -> str:
        """Print a value for people."""
        match self:
            case Unit.SECONDS:
                return f"{value:.2f} s" if value < 10 else age(round(value * 1_000))
            case Unit.SHARE:
                return f"{value * 100:.0f} %"
            case Unit.BYTES:
                size, unit = next((one for one in _SIZES if value >= one[0]), (1, "B"))
                return f"{value / size:.3g} {unit}"
            case Unit.RATE:
                return f"{value:,.0f}/s" if value >= 10 or value == 0 else f"{value:.1f}/s"
            case Unit.CORES:
                return f"{value:.2f}"
        return f"{value:,.0f}"


@dataclass(frozen=True)
class Span:
    """What a figure shows of the past. gap_ms: between points further apart than this, nothing was measured."""

    from_ms: int
    to_ms: int
    gap_ms: int


Lines = Mapping[str, pl.DataFrame]  # by what each is called: time_ms and value, oldest first


def history_figure(lines: Lines, unit: Unit, span: Span) -> go.Figure:
    """Draw the lines. A zoom lasts: the range of time is left to Plotly, but for what it must include."""
    figure = go.Figure([_trace(name, line, unit, span) for name, line in lines.items()])
    figure.update_layout(
        height=_HEIGHT_PX + _LEGEND_PX,
        margin={"l": 4, "r": 4, "t": 4, "b": 22 + _LEGEND_PX},
        hovermode="x unified",
        uirevision="constant",
        showlegend=len(lines) > 1,
        legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        xaxis={
            "type": "date",
            "autorangeoptions": {"include": [span.from_ms, span.to_ms]},
            "nticks": 6,
            "tickformat": "%H:%M" if span.to_ms - span.from_ms <= _DAY_MS else "%b %-d",
            "hoverformat": "%b %-d, %H:%M:%S",
        },
        yaxis={
            "range": [0, 1.05 * max([unit.reach, *(value for line in lines.values() for value in line["value"])])],
            "fixedrange": True,
            "automargin": True,
            "nticks": 4,
            "tickformat": unit.axis,
            "ticksuffix": unit.suffix,
        },
    )
    return figure


def history_in_words(title: str, lines: Lines, unit: Unit) -> str:
    """Say in a sentence or a few what the figure shows."""
    if not lines:
        return f"{title}: nothing was measured in this time."
    return " ".join(
        [f"{title}.", *(_line_in_words(name, line, unit, alone=len(lines) == 1) for name, line in lines.items())]
    )


def newest_in_words(lines: Lines, unit: Unit) -> str:
    """Return the newest value of each line, or nothing where that would be too much to take in at a glance."""
    newest = [(name, unit.words(line["value"][-1])) for name, line in lines.items()]
    if len(newest) == 1:
        return newest[0][1]
    text = ", ".join(f"{name} {value}" for name, value in newest)
    return text if len(text) <= _NEWEST_CHARACTERS else ""


def _trace(name: str, line: pl.DataFrame, unit: Unit, span: Span) -> go.Scatter:
    times, values = line["time_ms"], line["value"].round_sig_figs(_SIGNIFICANT)
    # A point without a value in each gap breaks the line there.
    broken = times.filter((times.diff() > span.gap_ms).fill_null(value=False)) - 1
    points = pl.concat(
        [
            pl.DataFrame({"time_ms": times, "value": values}),
            pl.DataFrame({"time_ms": broken, "value": pl.Series([None] * broken.len(), dtype=pl.Float64)}),
        ]
    ).sort("time_ms")
    return go.Scatter(
        x=points["time_ms"].to_list(),
        y=points["value"].to_list(),
        name=name,
        mode="lines",
        line={"width": 1.5},
        hovertemplate=f"%{{y:{unit.axis}}}{unit.suffix}",
    )


def _line_in_words(name: str, line: pl.DataFrame, unit: Unit, *, alone: bool) -> str:
    values = line["value"].to_list()
    low, high = unit.words(min(values)), unit.words(max(values))
    between = f"always {low}" if low == high else f"between {low} and {high}"
    text = f"now {unit.words(values[-1])}, {between}."
    return f"{text[0].upper()}{text[1:]}" if alone else f"{name}: {text}"
