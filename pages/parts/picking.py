"""How instruments are picked on a page: rows of a table, or a pasted list; and what became of the last try."""

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from charts.texts import plain
from control.errors import ControlError
from control.home import Home
from control.instruments.picks import pick, request_refresh
from control.instruments.report import in_words, judge, names_in
from control.instruments.store import Instrument, Instruments
from control.people.roles import Actor
from pages.parts import readings
from pages.parts.instrument_tables import pick_table, report_table, version

_MOST_ROWS = 14
_TALL = 460
_SAID = "instruments_said"
_SAID_FOR_MS = 20_000
_ACTIONS = {"Enable": True, "Disable": False}


def refresh_button(home: Home, actor: Actor, provider: str) -> None:
    """Offer to have the catalogue fetched again."""
    st.button(
        "Fetch it again",
        key="instruments_refresh",
        icon=":material/refresh:",
        on_click=_refresh,
        args=(home, actor, provider),
    )


def table_height(rows: int) -> int | Literal["content"]:
    """Return the height of a table that stands beside another one: its own while it is short."""
    return "content" if rows <= _MOST_ROWS else _TALL


def picks_table(home: Home, actor: Actor, provider: str, shown: Sequence[Instrument]) -> None:
    """Show what can be picked; the buttons hold the names that were selected when they were drawn."""
    # Another list is another table: a selection knows its rows by their place only.
    table = st.dataframe(
        pick_table(shown),
        key=f"instruments_picks_{version(shown)}",
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        height=table_height(len(shown)),
        placeholder="–",
    )
    names = [shown[row].instrument for row in table.selection.rows if row < len(shown)]
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, enable in _ACTIONS.items():
            st.button(
                f"{label} {len(names):,} selected" if names else f"{label} selected",
                key=f"instruments_{label.lower()}",
                disabled=not names,
                on_click=_pick,
                args=(home, actor, provider, list(enumerate(names, 1)), enable, False),
            )
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        st.caption(plain(", ".join(names[:5]) + more) if names else "Select rows to enable or disable them.")


def pasted_list(home: Home, actor: Actor, provider: str, catalogue: Sequence[Instrument]) -> None:
    """Take a list of names, and show what would become of each before anything is done."""
    text = st.text_area(
        "Names",
        key="instruments_paste",
        height=150,
        placeholder="One name in each line, or separated by commas",
        label_visibility="collapsed",
    )
    names = names_in(text)
    if not names:
        st.caption("Paste names to see, line by line, what would become of each; nothing is done before you say so.")
        return
    action = str(
        st.segmented_control("What to do", list(_ACTIONS), default="Enable", key="instruments_action", required=True)
    )
    report = judge(names, {one.instrument: one.enabled for one in catalogue}, enable=_ACTIONS[action])
    wrong, changes = sum(line.outcome.wrong for line in report), sum(line.outcome.changes for line in report)
    st.dataframe(report_table(report), key="instruments_report", hide_index=True, placeholder="–")
    st.caption(plain(f"As it stands: {in_words(report)}."))
    partial = wrong > 0 and st.checkbox(
        f"Leave out the {wrong:,} that name no instrument of {plain(provider)}", key="instruments_partial"
    )
    st.button(
        f"{action} {changes:,} of them",
        key="instruments_apply",
        type="primary",
        disabled=not changes or (wrong > 0 and not partial),
        on_click=_pick,
        args=(home, actor, provider, names, _ACTIONS[action], partial),
    )


def say() -> None:
    """Say for a while what became of the last action; a run may be cut short by the next, so once is not enough."""
    at_ms, done, sentence = st.session_state.get(_SAID, (0, True, ""))
    if readings.now_ms() - at_ms < _SAID_FOR_MS:
        (st.success if done else st.error)(plain(sentence))


def _pick(
    home: Home, actor: Actor, provider: str, names: Sequence[tuple[int, str]], enable: bool, partial: bool
) -> None:
    try:
        with Instruments.open(home) as instruments:
            report = pick(instruments, actor, provider, names, enable=enable, partial=partial)
        st.session_state[_SAID] = (
            readings.now_ms(),
            True,
            f"Done: {in_words(report)}. A running feed follows within two seconds.",
        )
    except ControlError as error:
        st.session_state[_SAID] = (readings.now_ms(), False, str(error))


def _refresh(home: Home, actor: Actor, provider: str) -> None:
    try:
        with Instruments.open(home) as instruments:
            request_refresh(instruments, actor, provider)
    except ControlError as error:
        st.session_state[_SAID] = (readings.now_ms(), False, str(error))
