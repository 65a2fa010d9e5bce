"""Figures of data quality: rejects over time, the lateness of ticks, and the delay of bar revisions."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import polars as pl

from barmill.model.tick import REASONS
from barmill.platform.clock import MS_PER_HOUR, NS_PER_MS
from barmill.platform.texts import duration

# Upper bounds of the lateness classes, in ms. Values above the last bound form one more class.
CLASS_BOUNDS_MS = (10, 100, 1_000, 10_000, 60_000, 300_000, MS_PER_HOUR)
LATENESS_SCHEMA: dict[str, pl.DataType] = {"over_ms": pl.Int64(), "ticks": pl.Int64()}


def behind_ms(ticks: pl.DataFrame) -> pl.Series:
    """Return the delay in ms of each tick behind the newest earlier tick of its instrument.

    ticks: TICK_SCHEMA, in log order. 0 means no delay. Ticks before the given ones do not count, so the first ones may
    look less late than they were.
    """
    newest_ns = pl.col("time_ns").cum_max().over("instrument")
    return ticks.select(behind_ms=(newest_ns - pl.col("time_ns")) / NS_PER_MS)["behind_ms"]


def count_by_delay(delays_ms: pl.Series, bounds_ms: Sequence[int] = CLASS_BOUNDS_MS) -> pl.DataFrame:
    """Count late ticks by class (LATENESS_SCHEMA); over_ms is a class's lower bound. Ticks on time are not counted."""
    positive_ms = delays_ms.cast(pl.Float64).filter(delays_ms > 0).to_numpy()
    classes = np.searchsorted(np.array(bounds_ms, np.float64), positive_ms, side="left")
    counts = np.bincount(classes, minlength=len(bounds_ms) + 1)
    return pl.DataFrame({"over_ms": [0, *bounds_ms], "ticks": counts}, LATENESS_SCHEMA)


# The colour of a reason is the same in all figures, whatever other reasons they contain. Some reasons share a colour.
_PALETTE = (
    "#4e79a7",
    "#f28e2b",
    "#76b7b2",
    "#e15759",
    "#59a14f",
    "#edc948",
    "#b07aa1",
    "#ff9da7",
    "#9c755f",
    "#bab0ac",
)
COLORS = {reason: _PALETTE[index % len(_PALETTE)] for index, reason in enumerate(REASONS)}
_ACCEPTED, _REJECTED, _MARK_COLOR = "#4e79a7", "#e15759", "#7c8794"
_HEIGHT_PX = 280


def rejects_over_time(counts: pl.DataFrame, from_ms: int, to_ms: int, bucket_ms: int) -> go.Figure:
    """Return a figure of stacked bars, coloured by reason. counts: COUNT_SCHEMA, see barmill/storage/rejects.py."""
    bars = [
        go.Bar(
            x=pl.from_epoch(group["from_ms"] + bucket_ms // 2, time_unit="ms").to_list(),
            y=group["count"].to_list(),
            width=bucket_ms,
            name=reason_text(reason),
            marker_color=COLORS.get(reason),
            hovertemplate=f"%{{x|%H:%M:%S}} UTC<br>%{{y:,}} {reason_text(reason)}<extra></extra>",
        )
        for reason, group in sorted(_group_by(counts, "reason").items())
    ]
    figure = _figure(bars, "Rejects", barmode="stack")
    start, end = pl.from_epoch(pl.Series([from_ms, to_ms]), time_unit="ms")
    return figure.update_xaxes(range=[start, end])


def lateness_figure(accepted: pl.DataFrame, rejected: pl.DataFrame, lateness_ms: int | None) -> go.Figure:
    """Return the lateness of accepted and of rejected ticks (LATENESS_SCHEMA) as a figure.

    lateness_ms: the limit to mark, or None.
    """
    bars = [
        go.Bar(
            x=_classes(),
            y=ticks["ticks"].to_list(),
            name=name,
            marker_color=color,
            hovertemplate=f"%{{x}}<br>%{{y:,}} {name}<extra></extra>",
        )
        for ticks, name, color in ((accepted, "in the bars", _ACCEPTED), (rejected, "too late", _REJECTED))
    ]
    figure = _figure(bars, "Ticks", barmode="group").update_yaxes(type="log", dtick=1)
    if lateness_ms is not None:
        index = sum(lateness_ms > end for end in CLASS_BOUNDS_MS)
        figure.add_vline(x=index + 0.5, line_dash="dot", line_width=1, line_color=_MARK_COLOR)
        figure.add_annotation(
            x=index + 0.5, y=1, yref="paper", text=f" lateness {duration(lateness_ms)}", showarrow=False, xanchor="left"
        )
    return figure


def revision_delays(delays: pl.DataFrame, frames: Sequence[str]) -> go.Figure:
    """Return a figure of how long after their end bars changed, by frame.

    delays: DELAY_SCHEMA, see barmill/storage/changes.py.
    """
    delays_by_frame = _group_by(delays, "frame")
    bars = [
        go.Bar(
            x=_classes(),
            y=count_by_delay(delays_by_frame[frame]["delay_ms"])["ticks"].to_list(),
            name=frame,
            hovertemplate=f"%{{x}} after its end<br>%{{y:,}} bars of {frame}<extra></extra>",
        )
        for frame in frames
        if frame in delays_by_frame
    ]
    return _figure(bars, "Revisions", barmode="group")


def most_revised(revised: pl.DataFrame) -> go.Figure:
    """Return a figure of the most revised instruments, in the order of the rows from top to bottom.

    revised: BY_INSTRUMENT_SCHEMA, see barmill/storage/changes.py.
    """
    bars = [
        go.Bar(
            x=revised["revisions"].to_list(),
            y=revised["instrument"].to_list(),
            customdata=revised["bars"].to_list(),
            orientation="h",
            marker_color=_ACCEPTED,
            hovertemplate="%{y}<br>%{x:,} revisions of %{customdata:,} bars<extra></extra>",
        )
    ]
    return (
        _figure(bars, "", showlegend=False)
        .update_yaxes(autorange="reversed", type="category")
        .update_xaxes(title="Revisions")
    )


def reason_text(reason: str) -> str:
    """Return a reason as text for display."""
    return reason.replace("_", " ")


def _figure(bars: Sequence[go.Bar], y_title: str, **layout: object) -> go.Figure:
    # A constant uirevision keeps the user's zoom when new data arrives.
    return go.Figure(
        bars,
        layout={
            "height": _HEIGHT_PX,
            "margin": {"l": 8, "r": 8, "t": 28, "b": 8},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "yaxis": {"title": y_title},
            "bargap": 0.15,
            "showlegend": True,
            "uirevision": "quality",
            **layout,
        },
    )


def _classes() -> list[str]:
    """Return the names of the lateness classes."""
    return [*(f"up to {duration(end)}" for end in CLASS_BOUNDS_MS), f"over {duration(CLASS_BOUNDS_MS[-1])}"]


def _group_by(rows: pl.DataFrame, column: str) -> dict[str, pl.DataFrame]:
    return {str(key[0]): group for key, group in rows.group_by(column, maintain_order=True)}
