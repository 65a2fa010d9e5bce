"""The selection of instruments on a page, by rows of a table or a pasted list, and the result of the last action."""

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from barmill.audit.roles import Actor
from barmill.ingest.instruments.changes import change_selection, request_refresh
from barmill.ingest.instruments.names import evaluate_names, parse_names, report_text
from barmill.ingest.instruments.store import Instrument, Instruments
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown
from views import readings
from views.feed_tables import catalogue_hash, instrument_table, report_table

_MAX_SHORT_ROWS = 14
_MAX_TABLE_PX = 460
_RESULT = "instruments_result"
_RESULT_SHOWN_MS = 20_000
_ACTIONS = {"Enable": True, "Disable": False}


def refresh_button(home: Home, actor: Actor, provider: str) -> None:
    """Offer to fetch the catalogue again."""
    st.button(
        "Fetch again",
        key="instruments_refresh",
        icon=":material/refresh:",
        on_click=_refresh,
        args=(home, actor, provider),
    )


def table_height(rows: int) -> int | Literal["content"]:
    """Return the height of a table next to another table: in pixels, or its natural height while it is short."""
    return "content" if rows <= _MAX_SHORT_ROWS else _MAX_TABLE_PX


def selection_table(home: Home, actor: Actor, provider: str, instruments: Sequence[Instrument]) -> None:
    """Show the instruments; the buttons act on the names that were selected when they were drawn."""
    # A changed list needs a new key, because a selection identifies rows only by position.
    table = st.dataframe(
        instrument_table(instruments),
        key=f"instruments_table_{catalogue_hash(instruments)}",
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        height=table_height(len(instruments)),
        placeholder="–",
    )
    names = [instruments[row].instrument for row in table.selection.rows if row < len(instruments)]
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, enable in _ACTIONS.items():
            st.button(
                f"{label} {len(names):,} selected" if names else f"{label} selected",
                key=f"instruments_{label.lower()}",
                disabled=not names,
                on_click=_change_selection,
                args=(home, actor, provider, list(enumerate(names, 1)), enable, False),
            )
        remaining_text = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        st.caption(
            escape_markdown(", ".join(names[:5]) + remaining_text)
            if names
            else "Select rows to enable or disable them."
        )


def name_list_form(home: Home, actor: Actor, provider: str, catalogue: Sequence[Instrument]) -> None:
    """Accept a list of names, and show the outcome for each before anything is changed."""
    text = st.text_area(
        "Names",
        key="instruments_paste",
        height=150,
        placeholder="One name per line, or separated by commas",
        label_visibility="collapsed",
    )
    names = parse_names(text)
    if not names:
        st.caption("Paste names to see, line by line, the effect on each; nothing changes until you confirm.")
        return
    action = str(
        st.segmented_control("Action", list(_ACTIONS), default="Enable", key="instruments_action", required=True)
    )
    report = evaluate_names(
        names, {instrument.instrument: instrument.enabled for instrument in catalogue}, enable=_ACTIONS[action]
    )
    problems, changes = sum(line.outcome.is_error for line in report), sum(line.outcome.is_change for line in report)
    st.dataframe(report_table(report), key="instruments_report", hide_index=True, placeholder="–")
    st.caption(escape_markdown(f"Result: {report_text(report)}."))
    skipped = "1 name that is not an instrument" if problems == 1 else f"{problems:,} names that are not instruments"
    partial = problems > 0 and st.checkbox(f"Skip {skipped} of {escape_markdown(provider)}", key="instruments_partial")
    st.button(
        f"{action} {changes:,}",
        key="instruments_apply",
        type="primary",
        disabled=not changes or (problems > 0 and not partial),
        on_click=_change_selection,
        args=(home, actor, provider, names, _ACTIONS[action], partial),
    )


def show_result() -> None:
    """Show the result of the last action for 20 seconds; once is not enough, because a rerun may end a run early."""
    at_ms, succeeded, sentence = st.session_state.get(_RESULT, (0, True, ""))
    if readings.now_ms() - at_ms < _RESULT_SHOWN_MS:
        (st.success if succeeded else st.error)(escape_markdown(sentence))


def _change_selection(
    home: Home, actor: Actor, provider: str, names: Sequence[tuple[int, str]], enable: bool, partial: bool
) -> None:
    try:
        with Instruments.open(home) as instruments:
            report = change_selection(instruments, actor, provider, names, enable=enable, partial=partial)
        st.session_state[_RESULT] = (
            readings.now_ms(),
            True,
            f"Done: {report_text(report)}. A running feed applies this within two seconds.",
        )
    except ControlError as error:
        st.session_state[_RESULT] = (readings.now_ms(), False, str(error))


def _refresh(home: Home, actor: Actor, provider: str) -> None:
    try:
        with Instruments.open(home) as instruments:
            request_refresh(instruments, actor, provider)
    except ControlError as error:
        st.session_state[_RESULT] = (readings.now_ms(), False, str(error))
