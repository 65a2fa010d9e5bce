"""The history of one job on its page: runs, operations, versions, savepoints and the current spec, each in a tab."""

import json
from collections.abc import Sequence

import streamlit as st

from barmill.audit.roles import Permission
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown, moment
from control.jobs.model import JobRun, Operation
from control.jobs.specs import spec_fields
from control.jobs.views import JobDetail, explain_end, job_detail
from pages.parts.jobs.dialog_state import Dialog, open_dialog
from pages.parts.shared.visitor import Visitor
from views import readings
from views.job_tables import (
    SHORT_ID_LENGTH,
    operation_table,
    run_table,
    savepoint_name,
    savepoint_table,
    timeline,
    version_table,
)

_CAUSES_SHOWN = 5


def job_history(home: Home, detail: JobDetail, visitor: Visitor) -> None:
    """Show the history of a job and its current spec."""
    runs, operations, versions, savepoints, spec = st.tabs(["Runs", "Operations", "Versions", "Savepoints", "Spec"])
    with runs:
        _runs(home, detail)
    with operations:
        _operations(detail, visitor)
    with versions:
        _table(version_table(detail.versions), "versions")
    with savepoints:
        _savepoints(detail, visitor)
    with spec:
        st.caption(
            f"Version {detail.view.version}; `./barmill job edit {detail.view.name} SPEC.json` accepts this JSON."
        )
        st.code(json.dumps(spec_fields(detail.spec), indent=2), language="json")


def _runs(home: Home, detail: JobDetail) -> None:
    if not detail.runs:
        st.info("The job has not run yet. Each run is listed here, with the state that it started from.")
        return
    _timeline(home, detail.view.name)
    _table(run_table(detail.runs, detail.operations, readings.now_ms()), "runs")
    for run in [past_run for past_run in detail.runs if past_run.end][:_CAUSES_SHOWN]:
        _cause(run, detail.operations)


@st.fragment(run_every=10)
def _timeline(home: Home, name: str) -> None:
    """Draw the runs, refreshed periodically because the newest run becomes longer."""
    detail = job_detail(home, name)
    if detail is None or not detail.runs:
        return
    figure = timeline(detail.runs, detail.savepoints, readings.now_ms(), detail.operations)
    alt_text = f"A timeline of the last {len(detail.runs)} runs of {name}; the table below has the same data."
    st.plotly_chart(figure, key="jobs_timeline", config={"displaylogo": False}, alt=alt_text)


def _cause(run: JobRun, operations: Sequence[Operation]) -> None:
    end_text, ending = moment(run.ended_ms) if run.ended_ms else "", explain_end(run, operations)
    if ending is None:
        return
    with st.expander(f"Why run {run.id[:SHORT_ID_LENGTH]} ended at {end_text} UTC", key=f"jobs_cause_{run.id}"):
        if ending.trace:
            st.code(ending.trace, language=None, wrap_lines=True)
        else:
            st.markdown(escape_markdown(ending.sentence))


def _operations(detail: JobDetail, visitor: Visitor) -> None:
    if not detail.operations:
        st.info("No operations yet.")
        return
    table = operation_table(detail.operations)
    if not visitor.may(Permission.READ_AUDIT):
        table = table.drop("Trace")
    _table(table, "operations")


def _savepoints(detail: JobDetail, visitor: Visitor) -> None:
    if not detail.savepoints:
        st.info(
            "The job has no savepoint. A savepoint is taken when it is stopped, restarted or upgraded, or on request."
        )
        return
    _table(savepoint_table(detail.savepoints), "savepoints")
    if visitor.may(Permission.MANAGE_JOBS):
        st.menu_button(
            "Dispose of …",
            detail.savepoints,
            key="jobs_dispose",
            icon=":material/delete:",
            format_func=savepoint_name,
            on_click=_open_dispose_dialog,
            args=(detail.view.name,),
        )


def _open_dispose_dialog(name: str) -> None:
    open_dialog(Dialog.DISPOSE, name, st.session_state["jobs_dispose"].id)


def _table(table: object, name: str) -> None:
    trace = st.column_config.LinkColumn(
        help="Audit records of this operation.", display_text=r"audit_trace=(.{8})", width="small"
    )
    st.dataframe(
        table, key=f"jobs_{name}", hide_index=True, row_height=27, column_config={"Trace": trace}, placeholder="–"
    )
