"""The history of a measured value: a small figure with a time axis, and the same information in words.

Every point is drawn at its time of measurement; a long time without measurements interrupts the line. Streamlit's theme
sets the colours and fonts in the browser.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import plotly.graph_objects as go
import polars as pl

from barmill.platform.clock import MS_PER_DAY
from barmill.platform.texts import age

_HEIGHT_PX, _LEGEND_PX = 150, 34
_MAX_NEWEST_CHARACTERS = 44
_SIGNIFICANT_DIGITS = 5
_BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Unit(Enum):
    """The unit of a measured value: format of the axis, suffix of the number, and minimum upper end of the axis."""

    COUNT = ".3~s", "", 4
    RATE = ".3~s", "/s", 1
    SECONDS = ",.3~r", " s", 1
    SHARE = ".0%", "", 1
    BYTES = ".3~s", "B", 1_000
    CORES = ".2~f", "", 0.2

    def __init__(self, axis_format: str, suffix: str, min_top: float) -> None:
        self.axis_format, self.suffix, self.min_top = axis_format, suffix, min_top

    def format(self, value: float) -> str:
        """Return a value as text for display."""
        match self:
            case Unit.SECONDS:
                return f"{value:.2f} s" if value < 10 else age(round(value * 1_000))
            case Unit.SHARE:
                return f"{value * 100:.0f} %"
            case Unit.BYTES:
                size, unit = next(
                    (size_and_unit for size_and_unit in _BYTE_UNITS if value >= size_and_unit[0]), (1, "B")
                )
                return f"{value / size:.3g} {unit}"
            case Unit.RATE:
                return f"{value:,.0f}/s" if value >= 10 or value == 0 else f"{value:.1f}/s"
            case Unit.CORES:
                return f"{value:.2f}"
        return f"{value:,.0f}"


@dataclass(frozen=True)
class Span:
    """The time range of a figure. gap_ms: points further apart than this have a gap between them."""

    from_ms: int
    to_ms: int
    gap_ms: int


Lines = Mapping[str, pl.DataFrame]  # by label: time_ms and value, oldest first


def history_figure(lines: Lines, unit: Unit, span: Span) -> go.Figure:
    """Return a figure that shows at least the span; a zoom persists, because no fixed range is set."""
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
            "tickformat": "%H:%M" if span.to_ms - span.from_ms <= MS_PER_DAY else "%b %-d",
            "hoverformat": "%b %-d, %H:%M:%S",
        },
        yaxis={
            "range": [0, 1.05 * max([unit.min_top, *(value for line in lines.values() for value in line["value"])])],
            "fixedrange": True,
            "automargin": True,
            "nticks": 4,
            "tickformat": unit.axis_format,
            "ticksuffix": unit.suffix,
        },
    )
    return figure


def describe_history(title: str, lines: Lines, unit: Unit) -> str:
    """Return one or more sentences about the content of the figure; each line has at least one value."""
    if not lines:
        return f"{title}: nothing was measured in this range."
    return " ".join(
        [f"{title}.", *(_describe_line(name, line, unit, is_only_line=len(lines) == 1) for name, line in lines.items())]
    )


def newest_values_text(lines: Lines, unit: Unit) -> str:
    """Return the newest value of each line, or an empty text if that would be too long."""
    newest = [(name, unit.format(line["value"][-1])) for name, line in lines.items()]
    if len(newest) == 1:
        return newest[0][1]
    text = ", ".join(f"{name} {value}" for name, value in newest)
    return text if len(text) <= _MAX_NEWEST_CHARACTERS else ""


def _trace(name: str, line: pl.DataFrame, unit: Unit, span: Span) -> go.Scatter:
    times, values = line["time_ms"], line["value"].round_sig_figs(_SIGNIFICANT_DIGITS)
    # A point without a value in each gap interrupts the line.
    break_times = times.filter((times.diff() > span.gap_ms).fill_null(value=False)) - 1
    points = pl.concat(
        [
            pl.DataFrame({"time_ms": times, "value": values}),
            pl.DataFrame({"time_ms": break_times, "value": pl.Series([None] * break_times.len(), dtype=pl.Float64)}),
        ]
    ).sort("time_ms")
    return go.Scatter(
        x=points["time_ms"].to_list(),
        y=points["value"].to_list(),
        name=name,
        mode="lines",
        line={"width": 1.5},
        hovertemplate=f"%{{y:{unit.axis_format}}}{unit.suffix}",
    )


def _describe_line(name: str, line: pl.DataFrame, unit: Unit, *, is_only_line: bool) -> str:
    values = line["value"].to_list()
    low, high = unit.format(min(values)), unit.format(max(values))
    range_text = f"always {low}" if low == high else f"between {low} and {high}"
    text = f"now {unit.format(values[-1])}, {range_text}."
    return f"{text[0].upper()}{text[1:]}" if is_only_line else f"{name}: {text}"
