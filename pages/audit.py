"""The audit page: all recorded actions, with actor, time, and values before and after. A link reopens a search."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import streamlit as st
from streamlit_autorefresh import st_autorefresh

from barmill.audit.accounts import authorize
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import ChainCheck, Record, Search, search, verify_chain
from barmill.platform.home import Home
from barmill.platform.sqlite_file import read_control_db
from barmill.platform.texts import escape_markdown, moment
from pages.parts.accounts.audit_search import search_fields, to_all_traces, to_newest, to_older
from pages.parts.shared.visitor import require, rerun_through_app
from views import readings
from views.audit_records import as_csv, as_json, chain_sentence, record_table

_PAGE_SIZE = 100
_MAX_EXPORTED = 100_000
_REFRESH_MS = 5_000
_CHAIN_CHECK = "audit_checked"
_ROW_PX, _TABLE_PX = 27, 620


def page() -> None:
    """Show the search, its results, and the state of the chain."""
    actor, home = require(Permission.READ_AUDIT).actor, Home.find()
    st.header("Audit", anchor=False)
    query = search_fields(home)
    records = _read(home, query, _PAGE_SIZE + 1)
    _chain_state(home)
    follow = _result_actions(home, actor, query, records)
    _show_records(records)
    if query.trace_id is not None:
        st.button("Show all actions", icon=":material/arrow_back:", key="audit_all", on_click=to_all_traces)
        for record in reversed(records):
            _record_details(record)
    if follow:
        # The page only reads, so it may rerun as a whole; text that the user is typing survives, see the browser test.
        st_autorefresh(_REFRESH_MS, key="audit_refresh")


def _chain_state(home: Home) -> None:
    """Show the end of the log, and the result of the last check of the chain, which runs on request."""
    newest = next(iter(_read(home, Search(), 1)), None)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Verify the chain", icon=":material/link:", key="audit_verify", on_click=_verify, args=(home,))
        st.markdown(
            f":gray[{newest.number if newest else 0:,} records, newest hash] `{newest.hash if newest else '–'}`"
        )
    if (checked := st.session_state.get(_CHAIN_CHECK)) is not None:
        result: ChainCheck = checked[0]
        show_result, icon = (st.error, ":material/link_off:") if result.problem else (st.success, ":material/verified:")
        show_result(f"{escape_markdown(chain_sentence(result))} Checked at {moment(checked[1])} UTC.", icon=icon)


def _verify(home: Home) -> None:
    with st.spinner("Checking every record"), closing((db := read_control_db(home)).conn):
        st.session_state[_CHAIN_CHECK] = (verify_chain(db), readings.now_ms())


def _result_actions(home: Home, actor: Actor, query: Search, records: Sequence[Record]) -> bool:
    """Show the actions on the results; return whether to keep looking for newer records."""
    newest_page = query.below == Search().below
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Newest", key="audit_newest", on_click=to_newest, disabled=newest_page)
        older = records[_PAGE_SIZE - 1].number if len(records) > _PAGE_SIZE else 0
        st.button("Older", key="audit_older", on_click=to_older, args=(older,), disabled=not older)
        _export("CSV", "text/csv", home, actor, query, as_csv)
        _export("JSON", "application/json", home, actor, query, as_json)
        follow = st.toggle(
            "Follow", True, key="audit_follow", disabled=not newest_page, help="Show new records as they arrive."
        )
    return follow and newest_page


def _show_records(records: Sequence[Record]) -> None:
    if not records:
        st.info("No matching records. Remove a filter, or search another time range.")
        return
    st.dataframe(
        record_table(records[:_PAGE_SIZE]),
        key="audit_table",
        hide_index=True,
        row_height=_ROW_PX,
        height=_TABLE_PX if _ROW_PX * len(records) > _TABLE_PX else "content",
        column_config={
            "Result": st.column_config.TextColumn(width="medium"),
            "Before": st.column_config.TextColumn(width="medium"),
            "After": st.column_config.TextColumn(width="medium"),
            "Trace": st.column_config.LinkColumn(
                help="All records of the same action.", display_text=r"audit_trace=(.{8})", width="small"
            ),
        },
        placeholder="–",
    )


def _export(
    label: str, mime: str, home: Home, actor: Actor, query: Search, write: Callable[[Sequence[Record]], bytes]
) -> None:
    """Offer the newest _MAX_EXPORTED results as a file, which is created only on request."""

    def content() -> bytes:
        with closing((db := read_control_db(home)).conn):
            authorize(db, actor, Permission.READ_AUDIT)  # with the current role, not the role when the page was shown
            return write(search(db, replace(query, below=Search().below), limit=_MAX_EXPORTED))

    st.download_button(
        label,
        content,
        f"audit.{label.lower()}",
        mime,
        key=f"audit_{label.lower()}",
        icon=":material/download:",
        on_click="ignore",
        help=f"All matching records, at most the newest {_MAX_EXPORTED:,}.",
    )


def _record_details(record: Record) -> None:
    with st.container(border=True):
        st.markdown(
            f"**{escape_markdown(record.stage)}** :gray[{moment(record.time_ms)} UTC, record {record.number:,}]"
        )
        st.markdown(
            f"{escape_markdown(record.actor)}: {escape_markdown(record.action)} {escape_markdown(record.subject)}"
        )
        if record.result:
            st.markdown(escape_markdown(record.result))
        for label, column, text in zip(("Before", "After"), st.columns(2), (record.before, record.after), strict=True):
            if text is not None:
                column.caption(label)
                column.json(text)


def _read(home: Home, query: Search, count: int) -> list[Record]:
    with closing((db := read_control_db(home)).conn):
        return search(db, query, limit=count)


rerun_through_app()
page()
