"""The jobs page: all jobs and their states, or in detail the job that the address names."""

from collections.abc import Sequence

import streamlit as st

from barmill.audit.roles import Permission
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown
from control.jobs.views import JobView, job_detail, job_views
from pages.parts.jobs.dialog_state import Dialog, dialogs, open_dialog, show_result
from pages.parts.jobs.dialogs import show_dialog
from pages.parts.jobs.page import job_list, job_list_update, job_page
from pages.parts.shared.visitor import Visitor, require, rerun_through_app
from views import readings


def page() -> None:
    """Show the job that the address names, or all jobs, and the open dialog, if any."""
    visitor, home = require(Permission.VIEW_OPERATIONS), Home.find()
    show_result()
    name = st.query_params.get("job")
    detail = job_detail(home, name) if name else None
    if detail is not None:
        job_page(home, detail, visitor)
    else:
        if name:
            st.info(f"There is no job {escape_markdown(name)}; it may have been deleted. All jobs are listed below.")
        _job_list(home, visitor)
    show_dialog(home)


def _job_list(home: Home, visitor: Visitor) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Jobs", anchor=False, width="content")
        if visitor.may(Permission.MANAGE_JOBS):
            st.button(
                "Create a job", icon=":material/add:", key="jobs_create", on_click=open_dialog, args=(Dialog.CREATE,)
            )
    if dialogs.current() is None:
        dialogs.show_problem()
    views = _views(home)
    if not views:
        _first_steps(may_create=visitor.may(Permission.MANAGE_JOBS))
    else:
        opened = job_list(views, readings.now_ms())
        if opened is not None:
            st.query_params["job"] = opened
            st.rerun()
    _live(home, empty=not views)


@st.fragment(run_every=1)
def _live(home: Home, *, empty: bool) -> None:
    views = _views(home)
    if (not views) != empty and dialogs.current() is None:
        st.rerun()
    job_list_update(views, readings.now_ms())


@st.cache_data(ttl=0.9, max_entries=4, show_spinner=False)
def _views(home: Home) -> Sequence[JobView]:
    """Return all jobs, cached for all visitors for about a second."""
    return job_views(home)


def _first_steps(*, may_create: bool) -> None:
    with st.container(border=True):
        st.subheader("No jobs yet", anchor=False)
        st.markdown(
            "A job turns ticks into bars. Its spec sets the frames (`1s,1m,1h`), the allowed lateness of ticks, and the"
            " number of task slots. You choose whether it runs; the controller starts it on Flink, restarts it after"
            " crashes, and preserves its state when it is stopped, upgraded or moved.\n\n"
            "`./barmill up` creates the first job, `bars`. "
            + ("Or create one here." if may_create else "An admin can also create one here.")
        )


rerun_through_app()
page()
