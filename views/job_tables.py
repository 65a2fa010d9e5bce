"""The tables and the timeline of a job's history; without I/O."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
import polars as pl

from barmill.model.job_spec import BarsJobSpec
from barmill.platform.texts import age, escape_markdown, moment
from control.jobs.model import Desired, JobRun, JobVersion, Kind, Operation, Phase, Savepoint, State, StopMode
from control.jobs.specs import spec_fields
from control.jobs.views import JobView, explain_end
from views.audit_records import trace_address

_PROBLEM_STATES = {State.FAILED, State.FAILING, State.REFUSED, State.LOST}
_COLORS = {"good": "green", "busy": "orange", "bad": "red", "idle": "gray"}
# Ids are shown with this many characters.
SHORT_ID_LENGTH = 8
_STEP_MARKS = {"done": ":green[✓]", "now": ":orange[●]", "later": ":gray[○]"}


def tone(view: JobView) -> str:
    """Return the condition of a job: good, busy, bad or idle."""
    if view.is_as_desired:
        return "good" if view.desired == Desired.RUNNING else "idle"
    return "bad" if view.state in _PROBLEM_STATES else "busy"


def state_line(view: JobView) -> str:
    """Return the state of a job as one line of Markdown with a coloured mark."""
    return f":{_COLORS[tone(view)]}[●] {escape_markdown(view.sentence)}"


def operation_text(operation: Operation | None, now_ms: int) -> str:
    """Return the operation in progress, its duration and its progress as a sentence; '' without an operation."""
    if operation is None:
        return ""
    return f"{operation.kind.capitalize()} in progress for {age(now_ms - operation.requested_ms)}: {operation.sentence}"


def steps(operation: Operation) -> list[tuple[str, str]]:
    """Return the steps of an operation in order, each with `done`, `now` or `later`."""
    names, phase = _step_names(operation), operation.phase
    current = {Phase.FIRST: 0, Phase.STARTING: 1, Phase.SETTLING: 2, Phase.ROLLING_BACK: len(names) - 1}[phase]
    return [
        (name, "done" if index < current else "now" if index == current else "later")
        for index, name in enumerate(names)
    ]


def steps_line(operation: Operation) -> str:
    """Return the steps as one line of Markdown."""
    return " &emsp; ".join(f"{_STEP_MARKS[mark]} {escape_markdown(name)}" for name, mark in steps(operation))


def _step_names(operation: Operation) -> Sequence[str]:
    parameters = operation.parameters
    stop = "Stop with a savepoint" if parameters.mode is StopMode.SAVEPOINT else "Cancel"
    match operation.kind:
        case Kind.START:
            return ("Start",)
        case Kind.STOP:
            return (stop,)
        case Kind.RESTART:
            return (stop, "Start")
        case Kind.UPGRADE if operation.phase is Phase.ROLLING_BACK:
            return (stop, f"Start version {parameters.to_version}", f"Return to version {parameters.from_version}")
        case Kind.UPGRADE:
            return (stop, f"Start version {parameters.to_version}", "Check that it is stable")
        case Kind.RESCALE:
            return (f"Take {parameters.parallelism} slots",)
        case Kind.SAVEPOINT:
            return ("Take a savepoint",)
        case Kind.DELETE:
            return ("Cancel and delete",)


# Name in the legend, colour, and the end states that belong to it; None is an open run.
_RUN_GROUPS: tuple[tuple[str, str, tuple[str | None, ...]], ...] = (
    ("runs", "#2aa06c", (None,)),
    ("stopped", "#7c8794", (State.STOPPED, State.CANCELED, State.FINISHED)),
    ("lost", "#e07b2e", (State.LOST,)),
    ("failed", "#d25252", (State.FAILED, State.REFUSED)),
)
_SAVEPOINT_COLOR = "#3f8fd2"
_TRACK_PX, _MARGIN_PX = 34, 110


def timeline(
    runs: Sequence[JobRun], savepoints: Sequence[Savepoint], now_ms: int, operations: Sequence[Operation] = ()
) -> go.Figure:
    """Return a figure of the runs of one job (at least one) up to `now_ms`, where open runs end.

    operations: the operations on the job, which explain why a run was stopped.
    """
    figure = go.Figure()
    for name, color, end_states in _RUN_GROUPS:
        figure.add_trace(_run_bars(name, color, [run for run in runs if run.end in end_states], now_ms, operations))
    figure.add_trace(_savepoint_marks(savepoints, min(run.created_ms for run in runs)))
    tracks = [_track(version) for version in sorted({run.version for run in runs})]
    figure.update_layout(
        height=_MARGIN_PX + _TRACK_PX * len(tracks),
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        barmode="overlay",
        showlegend=True,
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0},
        # This keeps the user's zoom when the figure is drawn again.
        uirevision="runs",
    )
    figure.update_xaxes(type="date", showgrid=True)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=tracks, fixedrange=True)
    return figure


def origin(restored_from: str | None) -> str:
    """Return a short text on where a run started from, given the URI of its checkpoint or savepoint."""
    if restored_from is None:
        return "the beginning"
    *_, folder, name = restored_from.rstrip("/").split("/")
    if name.startswith("chk-"):
        return f"checkpoint {name.removeprefix('chk-')} of {folder[:SHORT_ID_LENGTH]}"
    return f"savepoint {folder[:SHORT_ID_LENGTH]}"


def _run_bars(name: str, color: str, runs: Sequence[JobRun], now_ms: int, operations: Sequence[Operation]) -> go.Bar:
    end_times_ms = [now_ms if run.ended_ms is None else run.ended_ms for run in runs]
    return go.Bar(
        name=name,
        orientation="h",
        y=[_track(run.version) for run in runs],
        base=[run.created_ms for run in runs],
        x=[max(0, end_ms - run.created_ms) for run, end_ms in zip(runs, end_times_ms, strict=True)],
        # The border keeps a run of a second visible in a week.
        marker={"color": color, "line": {"color": color, "width": 2}},
        width=0.55,
        hovertext=[_run_text(run, end_ms, operations) for run, end_ms in zip(runs, end_times_ms, strict=True)],
        hoverinfo="text",
    )


def _savepoint_marks(savepoints: Sequence[Savepoint], from_ms: int) -> go.Scatter:
    visible = [savepoint for savepoint in savepoints if savepoint.created_ms >= from_ms]
    return go.Scatter(
        name="savepoint",
        mode="markers",
        x=[savepoint.created_ms for savepoint in visible],
        y=[_track(savepoint.version) for savepoint in visible],
        marker={"symbol": "diamond", "size": 10, "color": _SAVEPOINT_COLOR, "line": {"color": "#ffffff", "width": 1}},
        hovertext=[
            f"Savepoint {savepoint.id[:SHORT_ID_LENGTH]}<br>{moment(savepoint.created_ms)} UTC" for savepoint in visible
        ],
        hoverinfo="text",
    )


def _track(version: int) -> str:
    return f"v{version} "


def _run_text(run: JobRun, end_ms: int, operations: Sequence[Operation]) -> str:
    ending = explain_end(run, operations)
    reason = f"<br>{escape(ending.sentence)}" if ending else ""
    end_text = "not ended" if run.ended_ms is None else f"ended {moment(end_ms)}, {str(run.end).lower()}"
    return (
        f"Run {run.id[:SHORT_ID_LENGTH]}, version {run.version}<br>from {origin(run.restored_from)}"
        f"<br>started {moment(run.created_ms)} UTC<br>{end_text}<br>lasted {age(end_ms - run.created_ms)}{reason}"
    )


def run_table(runs: Sequence[JobRun], operations: Sequence[Operation], now_ms: int) -> pl.DataFrame:
    """Return one row per run, with the reason why it ended."""
    endings = {run.id: explain_end(run, operations) for run in runs}
    rows = [
        (
            moment(run.created_ms),
            run.id[:SHORT_ID_LENGTH],
            run.version,
            origin(run.restored_from),
            age((run.ended_ms or now_ms) - run.created_ms),
            run.end.lower() if run.end else "running",
            ending.sentence if (ending := endings[run.id]) else "",
        )
        for run in runs
    ]
    return _table(rows, "Started, UTC", "Run", "Version", "From", "Duration", "Ended", "Reason")


def version_table(versions: Sequence[JobVersion]) -> pl.DataFrame:
    """Return one row per version, newest first, with its difference from the previous version."""
    rows = [
        (
            version.version,
            moment(version.created_ms),
            version.actor,
            changes(older.spec, version.spec) if older else "–",
        )
        for version, older in zip(versions, [*versions[1:], None], strict=True)
    ]
    return _table(rows, "Version", "Created, UTC", "By", "Changes")


def changes(before: BarsJobSpec, after: BarsJobSpec) -> str:
    """Return the fields in which two specs differ, in one line."""
    old, new = spec_fields(before), spec_fields(after)
    differences = [f"{name}: {old[name]} → {new[name]}" for name in new if old[name] != new[name]]
    return "; ".join(differences) or "nothing"


def operation_table(operations: Sequence[Operation]) -> pl.DataFrame:
    """Return one row per operation; Trace is the address of its records in the audit log."""
    rows = [
        (
            moment(operation.requested_ms),
            operation.actor,
            operation.kind.value,
            operation.outcome.value if operation.outcome else "in progress",
            age(operation.ended_ms - operation.requested_ms) if operation.ended_ms else "",
            operation.sentence,
            trace_address(operation.id),
        )
        for operation in operations
    ]
    return _table(rows, "Requested, UTC", "By", "Operation", "Result", "Duration", "Details", "Trace")


def savepoint_table(savepoints: Sequence[Savepoint]) -> pl.DataFrame:
    """Return one row per savepoint."""
    rows = [
        (
            moment(savepoint.created_ms),
            savepoint.id[:SHORT_ID_LENGTH],
            savepoint.version,
            savepoint.run[:SHORT_ID_LENGTH],
            savepoint.path,
        )
        for savepoint in savepoints
    ]
    return _table(rows, "Taken, UTC", "Savepoint", "Version", "Run", "Location")


def savepoint_name(savepoint: Savepoint) -> str:
    """Return the label of a savepoint in a selection list."""
    return (
        f"Savepoint {savepoint.id[:SHORT_ID_LENGTH]} of {moment(savepoint.created_ms)} UTC, version {savepoint.version}"
    )


def _table(rows: Sequence[tuple[str | int, ...]], *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, {name: pl.Int64() if name == "Version" else pl.String() for name in names}, orient="row")
