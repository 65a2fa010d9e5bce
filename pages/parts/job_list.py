"""The list of jobs on the page: a table that changes in place, whose rows open jobs."""

from collections.abc import Sequence

import streamlit as st

from control.jobs.views import JobView
from pages.parts.browser_code import browser_code
from pages.parts.job_progress import operation_text, tone
from pages.parts.update import update

_HEADS = ("Job", "State", "Should be", "What that means", "Frames", "Version", "Slots")
_HTML = (
    '<div class="barmill-jobs"><table><thead><tr>'
    + "".join(f'<th scope="col">{head}</th>' for head in _HEADS)
    + "</tr></thead><tbody></tbody></table></div>"
)

_list = st.components.v2.component(
    "barmill_jobs",
    html=_HTML,
    css=browser_code("jobs/jobs.css"),
    js=browser_code("lasting.js", "jobs/jobs.js"),
    isolate_styles=False,
)


def job_list(views: Sequence[JobView], read_ms: int) -> str | None:
    """Put the list on the page with the jobs as they are; return the job whose row was clicked, once."""
    opened = _list(key="jobs", data=_message(views, read_ms), on_opened_change=_rerun).opened
    return None if opened is None else str(opened)


def job_list_update(views: Sequence[JobView], read_ms: int) -> None:
    """Send the list its rows; call this every second, in a fragment."""
    update("jobs", _message(views, read_ms))


def _message(views: Sequence[JobView], read_ms: int) -> dict[str, object]:
    return {"rows": [_row(view, read_ms) for view in views], "read_ms": read_ms}


def _row(view: JobView, read_ms: int) -> dict[str, str]:
    return {
        "name": view.name,
        "tone": tone(view),
        "state": view.state.lower(),
        "desired": view.desired,
        "sentence": view.sentence,
        "operation": operation_text(view.operation, read_ms),
        "frames": view.frames.replace(",", ", "),
        "version": str(view.version),
        "slots": str(view.parallelism),
    }


def _rerun() -> None:
    """Do nothing: that there is a listener makes a click run the page again."""
