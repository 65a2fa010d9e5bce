"""Figures of data quality: what was refused when, how late ticks come, and how long after its end a bar changed."""

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from bar.lateness import UP_TO_MS, spread
from charts.texts import duration
from feed.tick import REASONS

# One colour for each reason, the same in every figure, whichever reasons there are.
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
COLORS = {reason: _PALETTE[place % len(_PALETTE)] for place, reason in enumerate(REASONS)}
_ACCEPTED, _REFUSED, _MARK = "#4e79a7", "#e15759", "#7c8794"
_HEIGHT = 280


def rejects_over_time(counts: pl.DataFrame, from_ms: int, to_ms: int, bucket_ms: int) -> go.Figure:
    """Draw COUNT_SCHEMA (see feed/rejects.py) as stacked bars, one colour for each reason."""
    bars = [
        go.Bar(
            x=pl.from_epoch(of_reason["from_ms"] + bucket_ms // 2, time_unit="ms").to_list(),
            y=of_reason["count"].to_list(),
            width=bucket_ms,
            name=words(reason),
            marker_color=COLORS.get(reason),
            hovertemplate=f"%{{x|%H:%M:%S}} UTC<br>%{{y:,}} {words(reason)}<extra></extra>",
        )
        for reason, of_reason in sorted(_by(counts, "reason").items())
    ]
    figure = _figure(bars, "Rejects", barmode="stack")
    start, end = pl.from_epoch(pl.Series([from_ms, to_ms]), time_unit="ms")
    return figure.update_xaxes(range=[start, end])


def lateness(accepted: pl.DataFrame, refused: pl.DataFrame, lateness_ms: int | None) -> go.Figure:
    """Draw how many ticks came how late (SPREAD_SCHEMA, see bar/lateness.py): in the bars, and too late for them."""
    bars = [
        go.Bar(
            x=_classes(),
            y=one["ticks"].to_list(),
            name=name,
            marker_color=color,
            hovertemplate=f"%{{x}}<br>%{{y:,}} {name}<extra></extra>",
        )
        for one, name, color in ((accepted, "in the bars", _ACCEPTED), (refused, "too late", _REFUSED))
    ]
    figure = _figure(bars, "Ticks", barmode="group").update_yaxes(type="log", dtick=1)
    if lateness_ms is not None:
        place = sum(lateness_ms > end for end in UP_TO_MS)
        figure.add_vline(x=place + 0.5, line_dash="dot", line_width=1, line_color=_MARK)
        figure.add_annotation(
            x=place + 0.5, y=1, yref="paper", text=f" lateness {duration(lateness_ms)}", showarrow=False, xanchor="left"
        )
    return figure


def revision_delays(delays: pl.DataFrame, frames: Sequence[str]) -> go.Figure:
    """Draw how long after its end bars changed (DELAY_SCHEMA, see bar/revisions.py), one colour for each frame."""
    of_frames = _by(delays, "frame")
    bars = [
        go.Bar(
            x=_classes(),
            y=spread(of_frames[frame]["delay_ms"])["ticks"].to_list(),
            name=frame,
            hovertemplate=f"%{{x}} after its end<br>%{{y:,}} bars of {frame}<extra></extra>",
        )
        for frame in frames
        if frame in of_frames
    ]
    return _figure(bars, "Revisions", barmode="group")


def most_revised(revised: pl.DataFrame) -> go.Figure:
    """Draw the most revised instruments (BY_INSTRUMENT_SCHEMA, see bar/revisions.py), the most revised on top."""
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


def words(reason: str) -> str:
    """Return a reason as people write it."""
    return reason.replace("_", " ")


def _figure(bars: Sequence[go.Bar], y_title: str, **layout: object) -> go.Figure:
    # A constant uirevision keeps what the user zoomed to when the next reading comes.
    return go.Figure(
        bars,
        layout={
            "height": _HEIGHT,
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
    """Return the names of the classes of lateness."""
    return [*(f"up to {duration(end)}" for end in UP_TO_MS), f"over {duration(UP_TO_MS[-1])}"]


def _by(rows: pl.DataFrame, column: str) -> dict[str, pl.DataFrame]:
    return {str(key[0]): group for key, group in rows.group_by(column, maintain_order=True)}
