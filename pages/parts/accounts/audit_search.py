"""The search of the audit page: fields that the address keeps, so that a link shows the same records."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import streamlit as st

from barmill.audit.trail import Search, Stage, distinct_values
from barmill.platform.home import Home
from barmill.platform.sqlite_file import read_control_db

_BELOW, _TRACE = "audit_below", "audit_trace"
_MAX_TEXT_LENGTH = 200


def search_fields(home: Home) -> Search:
    """Show the fields and return the search."""
    actors, actions = _actors_and_actions(home)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search",
            key="audit_text",
            type="search",
            max_chars=_MAX_TEXT_LENGTH,
            placeholder="Any text in a record",
            on_change=to_newest,
            bind="query-params",
        )
        actor = _select("Actor", "audit_actor", "Any actor", actors)
        action = _select("Action", "audit_action", "Any action", actions)
        stage = _select("Stage", "audit_stage", "Any", [stage.value for stage in Stage])
        from_ms, to_ms = _time_input("From, UTC", "audit_from"), _time_input("Before, UTC", "audit_to")
    defaults = Search()
    trace_id, below = st.query_params.get(_TRACE), st.query_params.get(_BELOW, "")
    return Search(
        text=text.strip(),
        actor=actor,
        action=action,
        stage=stage,
        trace_id=trace_id or None,
        from_ms=defaults.from_ms if from_ms is None else from_ms,
        to_ms=defaults.to_ms if to_ms is None else to_ms,
        below=int(below) if below.isdecimal() and len(below) < 19 else defaults.below,
    )


def to_newest() -> None:
    """Go back to the first page of results, where every new search starts."""
    st.query_params.pop(_BELOW, None)


def to_older(below: int) -> None:
    """Continue with records that have smaller numbers."""
    st.query_params[_BELOW] = str(below)


def to_all_traces() -> None:
    """Show the records of all actions again."""
    st.query_params.pop(_TRACE, None)


def _select(label: str, key: str, placeholder: str, options: Sequence[str]) -> str | None:
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        placeholder=placeholder,
        on_change=to_newest,
        bind="query-params",
        width=150,
    )


def _time_input(label: str, key: str) -> int | None:
    selected: datetime | None = st.datetime_input(
        label, None, key=key, format="YYYY-MM-DD", step=60, on_change=to_newest, bind="query-params", width=180
    )
    return None if selected is None else round(selected.replace(tzinfo=UTC).timestamp() * 1_000)


@st.cache_data(ttl=10, max_entries=4, show_spinner=False)
def _actors_and_actions(home: Home) -> tuple[list[str], list[str]]:
    """Return the actors and actions to pick from, cached for all visitors."""
    with closing((db := read_control_db(home)).conn):
        return distinct_values(db, "actor"), distinct_values(db, "action")
