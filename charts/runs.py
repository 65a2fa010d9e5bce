"""The runs of a job on a time line: one lane for each version, one bar for each run, a mark for each savepoint."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from charts.texts import age, moment
from control.jobs.endings import why_ended
from control.jobs.ledger import JobRun, Savepoint
from control.jobs.operations import Operation
from control.jobs.states import State

# Name in the legend, colour, and the ends that belong to it; None is a run that goes on.
_GROUPS: tuple[tuple[str, str, tuple[str | None, ...]], ...] = (
    ("runs", "#2aa06c", (None,)),
    ("stopped", "#7c8794", (State.STOPPED, State.CANCELED, State.FINISHED)),
    ("lost", "#e07b2e", (State.LOST,)),
    ("failed", "#d25252", (State.FAILED, State.REFUSED)),
)
_SAVEPOINT_COLOR = "#3f8fd2"
_LANE_PX, _AROUND_PX = 34, 110


def timeline(
    runs: Sequence[JobRun], savepoints: Sequence[Savepoint], now_ms: int, operations: Sequence[Operation] = ()
) -> go.Figure:
    """Draw the runs of one job, one at least, up to `now_ms`; what is open then reaches up to it.

    operations: on the job, which say why a run was stopped.
    """
    figure = go.Figure()
    for name, color, ends in _GROUPS:
        figure.add_trace(_bars(name, color, [run for run in runs if run.end in ends], now_ms, operations))
    figure.add_trace(_marks(savepoints, min(run.created_ms for run in runs)))
    lanes = [_lane(version) for version in sorted({run.version for run in runs})]
    figure.update_layout(
        height=_AROUND_PX + _LANE_PX * len(lanes),
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        barmode="overlay",
        showlegend=True,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        # What somebody zoomed into stays in view when the figure is drawn again.
        uirevision="runs",
    )
    figure.update_xaxes(type="date", showgrid=True)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=lanes, fixedrange=True)
    return figure


def origin(restored_from: str | None) -> str:
    """Say in a few words where a run went on from, given the URI of its checkpoint or savepoint."""
    if restored_from is None:
        return "the beginning"
    *_, folder, name = restored_from.rstrip("/").split("/")
    if name.startswith("chk-"):
        return f"checkpoint {name.removeprefix('chk-')} of {folder[:8]}"
    return f"savepoint {folder[:8]}"


def _bars(name: str, color: str, runs: Sequence[JobRun], now_ms: int, operations: Sequence[Operation]) -> go.Bar:
    ends = [now_ms if run.ended_ms is None else run.ended_ms for run in runs]
    return go.Bar(
        name=name,
        orientation="h",
        y=[_lane(run.version) for run in runs],
        base=[run.created_ms for run in runs],
        x=[max(0, end_ms - run.created_ms) for run, end_ms in zip(runs, ends, strict=True)],
        # The line keeps a run of a second visible in a week.
        marker={"color": color, "line": {"color": color, "width": 2}},
        width=0.55,
        hovertext=[_in_words(run, end_ms, operations) for run, end_ms in zip(runs, ends, strict=True)],
        hoverinfo="text",
    )


def _marks(savepoints: Sequence[Savepoint], from_ms: int) -> go.Scatter:
    shown = [one for one in savepoints if one.created_ms >= from_ms]
    return go.Scatter(
        name="savepoint",
        mode="markers",
        x=[one.created_ms for one in shown],
        y=[_lane(one.version) for one in shown],
        marker={"symbol": "diamond", "size": 10, "color": _SAVEPOINT_COLOR, "line": {"color": "#ffffff", "width": 1}},
        hovertext=[f"Savepoint {one.id[:8]}<br>{moment(one.created_ms)} UTC" for one in shown],
        hoverinfo="text",
    )


def _lane(version: int) -> str:
    return f"v{version} "


def _in_words(run: JobRun, end_ms: int, operations: Sequence[Operation]) -> str:
    ending = why_ended(run, operations)
    because = f"<br>{escape(ending.sentence)}" if ending else ""
    ended = "still open" if run.ended_ms is None else f"ended {moment(end_ms)}, {str(run.end).lower()}"
    return (
        f"Run {run.id[:8]}, version {run.version}<br>from {origin(run.restored_from)}"
        f"<br>began {moment(run.created_ms)} UTC<br>{ended}<br>lasted {age(end_ms - run.created_ms)}{because}"
    )
