"""The page of one job: how it is, kept up to date; what can be done; and what is on record about it."""

import streamlit as st

from charts.texts import age, plain
from control.home import Home
from control.jobs.views import JobDetail, job_detail
from pages.parts import readings
from pages.parts.facts import Fact, facts_row
from pages.parts.job_actions import action_row
from pages.parts.job_asking import asked, show_problem
from pages.parts.job_history import job_history
from pages.parts.job_progress import operation_text, state_line, steps_line, tone
from pages.parts.job_tables import SHORT_ID
from pages.parts.visitor import Visitor


def job_page(home: Home, detail: JobDetail, visitor: Visitor) -> None:
    """Show a job."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All jobs", icon=":material/arrow_back:", key="jobs_all", type="tertiary", on_click=_to_list)
        st.header(plain(detail.view.name), anchor=False)
    _live(home, detail.view.name, _shown(detail))
    action_row(detail.view, visitor)
    if asked() is None:
        show_problem()
    job_history(home, detail, visitor)


@st.fragment(run_every=1)
def _live(home: Home, name: str, shown: object) -> None:
    """Keep showing how the job is; draw the whole page again when what it offers or has on record is another."""
    detail = job_detail(home, name)
    # Whoever is writing in a dialog is left alone until it is closed.
    if (detail is None or _shown(detail) != shown) and asked() is None:
        st.rerun()
    if detail is None:
        return
    view, now_ms = detail.view, readings.now_ms()
    facts_row(_facts(detail, now_ms))
    st.markdown(state_line(view))
    if view.operation is not None:
        st.markdown(f"{plain(operation_text(view.operation, now_ms))} &emsp; {steps_line(view.operation)}")


def _facts(detail: JobDetail, now_ms: int) -> list[Fact]:
    view, spec, run = detail.view, detail.spec, next(iter(detail.runs), None)
    tones = {"good": "good", "busy": "busy", "bad": "bad"}
    since = age(now_ms - run.created_ms) if run is not None and run.end is None else ""
    return [
        {
            "label": "State",
            "value": view.state.capitalize(),
            "note": f"should be {view.desired}",
            "tone": tones.get(tone(view), ""),
        },
        {"label": "Run", "value": run.id[:SHORT_ID] if run and since else "–", "note": since and f"for {since}"},
        {"label": "Version", "value": str(view.version)},
        {"label": "Frames", "value": view.frames.replace(",", ", ")},
        {"label": "Slots", "value": str(view.parallelism), "note": f"of {spec.shards} at most"},
    ]


def _shown(detail: JobDetail) -> object:
    """Return what makes the page another one when it changes."""
    view = detail.view
    return (
        view.desired,
        view.state == "FAILED",
        view.version,
        [version.version for version in detail.versions],
        [(run.id, run.end) for run in detail.runs],
        [(operation.id, operation.outcome) for operation in detail.operations],
        [savepoint.id for savepoint in detail.savepoints],
    )


def _to_list() -> None:
    st.query_params.pop("job", None)
