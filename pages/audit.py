"""The audit page: who did what, when, from what to what. It only reads; a link shows the same search again."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import streamlit as st
from streamlit_autorefresh import st_autorefresh

from charts.texts import moment, plain
from control.audit import ChainCheck, Record, Search, search, verify_chain
from control.database import read_control_db
from control.home import Home
from control.people.accounts import authorise
from control.people.roles import Actor, Permission
from pages.parts import readings
from pages.parts.audit_records import as_csv, as_json, chain_sentence, record_table
from pages.parts.audit_search import searched, to_all_traces, to_newest, to_older
from pages.parts.routing import through_app
from pages.parts.visitor import require

_PAGE = 100
_MOST_EXPORTED = 100_000
_FOLLOW_MS = 5_000
_CHECKED = "audit_checked"
_ROW_PX, _TABLE_PX = 27, 620


def page() -> None:
    """Show the search, what it finds, and the state of the chain."""
    actor, home = require(Permission.READ_AUDIT).actor, Home.find()
    st.header("Audit", anchor=False)
    wanted = searched(home)
    found = _read(home, wanted, _PAGE + 1)
    _chain(home)
    follow = _choices(home, actor, wanted, found)
    _found(found)
    if wanted.trace_id is not None:
        st.button("Show all actions", icon=":material/arrow_back:", key="audit_all", on_click=to_all_traces)
        for one in reversed(found):
            _in_full(one)
    if follow:
        # The page only reads, so it may be run again as a whole; what is half typed stays, see the browser test.
        st_autorefresh(_FOLLOW_MS, key="audit_refresh")


def _chain(home: Home) -> None:
    """Say how far the trail goes, and what checking it has found, which is done when somebody asks for it."""
    newest = next(iter(_read(home, Search(), 1)), None)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Verify the chain", icon=":material/link:", key="audit_verify", on_click=_verify, args=(home,))
        st.markdown(
            f":gray[{newest.number if newest else 0:,} records, newest hash] `{newest.hash if newest else '–'}`"
        )
    if (checked := st.session_state.get(_CHECKED)) is not None:
        result: ChainCheck = checked[0]
        show, icon = (st.error, ":material/link_off:") if result.problem else (st.success, ":material/verified:")
        show(f"{plain(chain_sentence(result))} Checked at {moment(checked[1])} UTC.", icon=icon)


def _verify(home: Home) -> None:
    with st.spinner("Checking every record"), closing((db := read_control_db(home)).conn):
        st.session_state[_CHECKED] = (verify_chain(db), readings.now_ms())


def _choices(home: Home, actor: Actor, wanted: Search, found: Sequence[Record]) -> bool:
    """Show what can be done with what was found; tell whether to keep looking for newer records."""
    newest_page = wanted.below == Search().below
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Newest", key="audit_newest", on_click=to_newest, disabled=newest_page)
        older = found[_PAGE - 1].number if len(found) > _PAGE else 0
        st.button("Older", key="audit_older", on_click=to_older, args=(older,), disabled=not older)
        _export("CSV", "text/csv", home, actor, wanted, as_csv)
        _export("JSON", "application/json", home, actor, wanted, as_json)
        follow = st.toggle(
            "Follow", True, key="audit_follow", disabled=not newest_page, help="Show new records at once."
        )
    return follow and newest_page


def _found(found: Sequence[Record]) -> None:
    if not found:
        st.info("No record fits. Take away a part of the search, or look at another time.")
        return
    st.dataframe(
        record_table(found[:_PAGE]),
        key="audit_table",
        hide_index=True,
        row_height=_ROW_PX,
        height=_TABLE_PX if _ROW_PX * len(found) > _TABLE_PX else "content",
        column_config={
            "Result": st.column_config.TextColumn(width="medium"),
            "Before": st.column_config.TextColumn(width="medium"),
            "After": st.column_config.TextColumn(width="medium"),
            "Trace": st.column_config.LinkColumn(
                help="Everything that belongs to the same action.", display_text=r"audit_trace=(.{8})", width="small"
            ),
        },
        placeholder="–",
    )


def _export(
    label: str, mime: str, home: Home, actor: Actor, wanted: Search, write: Callable[[Sequence[Record]], bytes]
) -> None:
    """Offer all that was found as a file, which is only made when somebody asks for it."""

    def made() -> bytes:
        with closing((db := read_control_db(home)).conn):
            authorise(db, actor, Permission.READ_AUDIT)  # as they are now, not as they were when the page was shown
            return write(search(db, replace(wanted, below=Search().below), limit=_MOST_EXPORTED))

    st.download_button(
        label,
        made,
        f"audit.{label.lower()}",
        mime,
        key=f"audit_{label.lower()}",
        icon=":material/download:",
        on_click="ignore",
        help=f"All records that were found, the newest {_MOST_EXPORTED:,} at most.",
    )


def _in_full(one: Record) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(one.stage)}** :gray[{moment(one.time_ms)} UTC, record {one.number:,}]")
        st.markdown(f"{plain(one.actor)}: {plain(one.action)} {plain(one.subject)}")
        if one.result:
            st.markdown(plain(one.result))
        for label, column, text in zip(("Before", "After"), st.columns(2), (one.before, one.after), strict=True):
            if text is not None:
                column.caption(label)
                column.json(text)


def _read(home: Home, wanted: Search, count: int) -> list[Record]:
    with closing((db := read_control_db(home)).conn):
        return search(db, wanted, limit=count)


through_app()
page()
