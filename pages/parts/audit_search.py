"""The search of the audit page: fields that the address keeps, so that a link shows the same records."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import streamlit as st

from control.audit import Search, Stage, named
from control.database import read_control_db
from control.home import Home

_BELOW, _TRACE = "audit_below", "audit_trace"
_LONGEST_TEXT = 200


def searched(home: Home) -> Search:
    """Show the fields and return what they ask for."""
    actors, actions = _names(home)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search",
            key="audit_text",
            type="search",
            max_chars=_LONGEST_TEXT,
            placeholder="Anything that was written",
            on_change=to_newest,
            bind="query-params",
        )
        actor = _picked("Actor", "audit_actor", "Anybody", actors)
        action = _picked("Action", "audit_action", "Anything", actions)
        stage = _picked("Stage", "audit_stage", "Any", [stage.value for stage in Stage])
        from_ms, to_ms = _moment("From, UTC", "audit_from"), _moment("Before, UTC", "audit_to")
    usual = Search()
    trace_id, below = st.query_params.get(_TRACE), st.query_params.get(_BELOW, "")
    return Search(
        text=text.strip(),
        actor=actor,
        action=action,
        stage=stage,
        trace_id=trace_id or None,
        from_ms=usual.from_ms if from_ms is None else from_ms,
        to_ms=usual.to_ms if to_ms is None else to_ms,
        below=int(below) if below.isdecimal() and len(below) < 19 else usual.below,
    )


def to_newest() -> None:
    """Go back to the newest page, as every other search begins there."""
    st.query_params.pop(_BELOW, None)


def to_older(below: int) -> None:
    """Go on with the records that have smaller numbers."""
    st.query_params[_BELOW] = str(below)


def to_all_traces() -> None:
    """Look at more than one action again."""
    st.query_params.pop(_TRACE, None)


def _picked(label: str, key: str, usual: str, options: Sequence[str]) -> str | None:
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        placeholder=usual,
        on_change=to_newest,
        bind="query-params",
        width=150,
    )


def _moment(label: str, key: str) -> int | None:
    at: datetime | None = st.datetime_input(
        label, None, key=key, format="YYYY-MM-DD", step=60, on_change=to_newest, bind="query-params", width=180
    )
    return None if at is None else round(at.replace(tzinfo=UTC).timestamp() * 1_000)


@st.cache_data(ttl=10, max_entries=4, show_spinner=False)
def _names(home: Home) -> tuple[list[str], list[str]]:
    """Return who and what can be picked, read once for all visitors."""
    with closing((db := read_control_db(home)).conn):
        return named(db, "actor"), named(db, "action")
