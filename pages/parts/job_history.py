"""One job's history on its page: runs, operations, versions and savepoints, each under a tab."""

import json
from collections.abc import Sequence

import streamlit as st

from charts.runs import timeline
from charts.texts import moment, plain
from control.home import Home
from control.jobs.endings import why_ended
from control.jobs.ledger import JobRun
from control.jobs.operations import Operation
from control.jobs.specs import written
from control.jobs.views import JobDetail, job_detail
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.job_asking import Dialog, ask
from pages.parts.job_tables import (
    SHORT_ID,
    operation_table,
    run_table,
    savepoint_name,
    savepoint_table,
    version_table,
)
from pages.parts.visitor import Visitor

_CAUSES_SHOWN = 5


def job_history(home: Home, detail: JobDetail, visitor: Visitor) -> None:
    """Show what is on record about a job."""
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
        st.caption(f"Version {detail.view.version}; `./barmill job edit {detail.view.name} SPEC.json` takes the same.")
        st.code(json.dumps(written(detail.spec), indent=2), language="json")


def _runs(home: Home, detail: JobDetail) -> None:
    if not detail.runs:
        st.info("The job has not run yet. Each time it is started, a run is noted here, with what it went on from.")
        return
    _timeline(home, detail.view.name)
    _table(run_table(detail.runs, detail.operations, readings.now_ms()), "runs")
    for run in [one for one in detail.runs if one.end][:_CAUSES_SHOWN]:
        _cause(run, detail.operations)


@st.fragment(run_every=10)
def _timeline(home: Home, name: str) -> None:
    """Keep drawing the runs, as the newest of them grows."""
    detail = job_detail(home, name)
    if detail is None or not detail.runs:
        return
    figure = timeline(detail.runs, detail.savepoints, readings.now_ms(), detail.operations)
    words = f"A time line of the last {len(detail.runs)} runs of {name}; the table below says the same."
    st.plotly_chart(figure, key="jobs_timeline", config={"displaylogo": False}, alt=words)


def _cause(run: JobRun, operations: Sequence[Operation]) -> None:
    ended, ending = moment(run.ended_ms) if run.ended_ms else "", why_ended(run, operations)
    if ending is None:
        return
    with st.expander(f"Why run {run.id[:SHORT_ID]} ended at {ended} UTC", key=f"jobs_cause_{run.id}"):
        if ending.trace:
            st.code(ending.trace, language=None, wrap_lines=True)
        else:
            st.markdown(plain(ending.sentence))


def _operations(detail: JobDetail, visitor: Visitor) -> None:
    if not detail.operations:
        st.info("Nothing was asked of the job yet.")
        return
    table = operation_table(detail.operations)
    if not visitor.may(Permission.READ_AUDIT):
        table = table.drop("Trace")
    _table(table, "operations")


def _savepoints(detail: JobDetail, visitor: Visitor) -> None:
    if not detail.savepoints:
        st.info(
            "There is no savepoint of the job. One is taken when it is stopped, restarted or upgraded, or on request."
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
            on_click=_picked,
            args=(detail.view.name,),
        )


def _picked(name: str) -> None:
    ask(Dialog.DISPOSE, name, st.session_state["jobs_dispose"].id)


def _table(table: object, name: str) -> None:
    trace = st.column_config.LinkColumn(
        help="What the audit trail has on it.", display_text=r"audit_trace=(.{8})", width="small"
    )
    st.dataframe(
        table, key=f"jobs_{name}", hide_index=True, row_height=27, column_config={"Trace": trace}, placeholder="–"
    )
