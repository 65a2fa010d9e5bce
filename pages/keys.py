"""The API keys page: the stored keys, their states, and all actions on them. No secret is ever shown."""

from typing import Literal

import streamlit as st

from barmill.audit.roles import Permission
from barmill.ingest.feeds.trial_runner import KEY_TESTS
from barmill.platform.clock import now_ms
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.texts import age, escape_markdown, utc_text
from barmill.secrets.info import SecretInfo, State
from barmill.secrets.store import KeyStore
from pages.parts.accounts.key_dialogs import (
    ADD,
    DELETE,
    REVOKE,
    ROTATE,
    TEST,
    dialogs,
    open_dialog,
    show_dialog,
    take_request,
)
from pages.parts.shared.visitor import require, rerun_through_app

_COLORS: dict[State, Literal["green", "orange", "red", "gray"]] = {
    State.ACTIVE: "green",
    State.EXPIRING: "orange",
    State.EXPIRED: "red",
    State.REVOKED: "gray",
}


def page() -> None:
    """Show the keys, and the open dialog, if any."""
    actor, home = require(Permission.MANAGE_KEYS).actor, Home.find()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("API keys", anchor=False)
        st.button("Add a key", icon=":material/add:", type="primary", key="keys_add", on_click=open_dialog, args=(ADD,))
    if result := dialogs.take_result():
        st.success(escape_markdown(result), icon=":material/check:")
    with KeyStore.open(home, actor) as store:
        keys, problem = store.list(), store.problem()
        if problem:
            st.error(escape_markdown(problem), icon=":material/lock:")
        for info in keys:
            _card(store, info)
    if not keys:
        _first_steps()
    show_dialog()


def _card(store: KeyStore, info: SecretInfo) -> None:
    at_ms, name = now_ms(), info.name
    state = info.state(at_ms)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(escape_markdown(name), anchor=False, width="content")
            st.badge(state.value, color=_COLORS[state])
            st.markdown(f":gray[for] {escape_markdown(info.provider)}")
        st.caption(_facts(info, at_ms))
        if warning := info.warning(at_ms):
            st.warning(escape_markdown(warning), icon=":material/schedule:")
        with st.container(horizontal=True):
            _dialog_button(TEST, name, icon=":material/bolt:", disabled=not state.usable)
            _dialog_button(ROTATE, name, icon=":material/autorenew:")
            _dialog_button(REVOKE, name, icon=":material/block:", disabled=state is State.REVOKED)
            _dialog_button(DELETE, name, icon=":material/delete:")
            with st.popover("History", icon=":material/history:"):
                _history(store, name)
        if take_request(TEST, name):
            _test(store, name)


def _dialog_button(action: str, name: str, *, icon: str, disabled: bool = False) -> None:
    key = f"keys_{action}_{name}"
    st.button(action.capitalize(), icon=icon, key=key, on_click=open_dialog, args=(action, name), disabled=disabled)


def _facts(info: SecretInfo, at_ms: int) -> str:
    last_used = "never used" if info.last_used_ms is None else f"last used {age(at_ms - info.last_used_ms)} ago"
    facts = [
        f"fingerprint `{info.fingerprint}`"
        if info.fingerprint
        else f"stored in {escape_markdown(str(info.reference))}",
        f"sent to {escape_markdown(', '.join(info.hosts))} only" if info.hosts else "sent to this machine only",
        f"version {info.version}, added {utc_text(info.created_ms)}",
        last_used,
    ]
    if info.expires_ms is not None:
        facts.append(f"expires {utc_text(info.expires_ms)}")
    if info.revoked_ms is not None:
        facts.append(f"revoked {utc_text(info.revoked_ms)}")
    return " · ".join(facts)


def _history(store: KeyStore, name: str) -> None:
    rows = [
        {
            "Version": version.version,
            "Fingerprint": version.fingerprint or "–",
            "Since": utc_text(version.created_ms),
            "By": version.created_by or "–",
        }
        for version in store.versions(name)
    ]
    st.dataframe(rows, hide_index=True, key=f"keys_history_{name}", width=520, placeholder="–")


def _test(store: KeyStore, name: str) -> None:
    with st.spinner("Checking with the provider"):
        try:
            result = store.test(name, KEY_TESTS)
        except ControlError as error:
            st.error(escape_markdown(str(error)), icon=":material/bolt:")
            return
    st.success(escape_markdown(result), icon=":material/bolt:")


def _first_steps() -> None:
    with st.container(border=True):
        st.subheader("No keys yet", anchor=False)
        st.markdown(
            "Some data providers require an API key. Add it here, or in a terminal:\n\n"
            "```\n./barmill key add NAME --provider PROVIDER\n```\n\n"
            "It is encrypted on this machine and passed to the feed when it connects. It is never shown again; pages"
            " show only a fingerprint that identifies it. If your team keeps keys in OpenBao, Vault or the"
            " environment, add a reference instead. `./barmill up` creates the key of the demo market."
        )


rerun_through_app()
page()
