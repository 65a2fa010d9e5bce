"""The jobs page: all jobs and how they are, or one of them in full. Its address says which, so a link reopens it."""

from collections.abc import Sequence

import streamlit as st

from charts.texts import plain
from control.home import Home
from control.jobs.views import JobView, job_detail, job_views
from control.people.roles import Permission
from pages.parts import readings
from pages.parts.job_asking import Dialog, ask, asked, show_news, show_problem
from pages.parts.job_dialogs import show_dialog
from pages.parts.job_list import job_list, job_list_update
from pages.parts.job_page import job_page
from pages.parts.routing import through_app
from pages.parts.visitor import Visitor, require


def page() -> None:
    """Show what the address asks for, and the dialog that is open if one is."""
    visitor, home = require(Permission.VIEW_OPERATIONS), Home.find()
    show_news()
    name = st.query_params.get("job")
    detail = job_detail(home, name) if name else None
    if detail is not None:
        job_page(home, detail, visitor)
    else:
        if name:
            st.info(f"There is no job {plain(name)}; it may have been deleted. These are the jobs there are.")
        _all(home, visitor)
    show_dialog(home)


def _all(home: Home, visitor: Visitor) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Jobs", anchor=False, width="content")
        if visitor.may(Permission.MANAGE_JOBS):
            st.button("Create a job", icon=":material/add:", key="jobs_create", on_click=ask, args=(Dialog.CREATE,))
    if asked() is None:
        show_problem()
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
    if (not views) != empty and asked() is None:
        st.rerun()
    job_list_update(views, readings.now_ms())


@st.cache_data(ttl=0.9, max_entries=4, show_spinner=False)
def _views(home: Home) -> Sequence[JobView]:
    """Read all jobs, once for all visitors."""
    return job_views(home)


def _first_steps(*, may_create: bool) -> None:
    with st.container(border=True):
        st.subheader("No jobs yet", anchor=False)
        st.markdown(
            "A job turns ticks into bars. Its spec says of which frames (`1s,1m,1h`), how late a tick may come, and how"
            " many task slots it uses. You say whether it should run; the controller starts it on Flink, keeps it"
            " running through crashes, and carries its state along when it is stopped, changed or moved.\n\n"
            "`./barmill up` makes the first job, `bars`, by itself. "
            + ("Or create one here." if may_create else "An admin can also create one here.")
        )


through_app()
page()
