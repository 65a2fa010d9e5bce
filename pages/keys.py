"""The API keys page: what is stored, how each key stands, and all that is done with it. No secret is ever shown."""

from typing import Literal

import streamlit as st

from bar.clock import now_ms
from charts.texts import age, plain
from control.errors import ControlError
from control.home import Home
from control.keys.info import SecretInfo, State, moment
from control.keys.store import KeyStore
from control.people.roles import Permission
from feed.key_tests import KEY_TESTS
from pages.parts.key_dialogs import ADD, DELETE, REVOKE, ROTATE, TEST, ask, show_dialog, take, take_news
from pages.parts.routing import through_app
from pages.parts.visitor import require

_COLORS: dict[State, Literal["green", "orange", "red", "gray"]] = {
    State.ACTIVE: "green",
    State.EXPIRING: "orange",
    State.EXPIRED: "red",
    State.REVOKED: "gray",
}


def page() -> None:
    """Show the keys, and the dialog that is open if one is."""
    actor, home = require(Permission.MANAGE_KEYS).actor, Home.find()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("API keys", anchor=False)
        st.button("Add a key", icon=":material/add:", type="primary", key="keys_add", on_click=ask, args=(ADD,))
    if news := take_news():
        st.success(plain(news), icon=":material/check:")
    with KeyStore.open(home, actor) as store:
        keys, problem = store.list(), store.problem()
        if problem:
            st.error(plain(problem), icon=":material/lock:")
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
            st.subheader(plain(name), anchor=False, width="content")
            st.badge(state.value, color=_COLORS[state])
            st.markdown(f":gray[for] {plain(info.provider)}")
        st.caption(_facts(info, at_ms))
        if warning := info.warning(at_ms):
            st.warning(plain(warning), icon=":material/schedule:")
        with st.container(horizontal=True):
            _opens(TEST, name, icon=":material/bolt:", disabled=not state.usable)
            _opens(ROTATE, name, icon=":material/autorenew:")
            _opens(REVOKE, name, icon=":material/block:", disabled=state is State.REVOKED)
            _opens(DELETE, name, icon=":material/delete:")
            with st.popover("History", icon=":material/history:"):
                _history(store, name)
        if take(TEST, name):
            _test(store, name)


def _opens(what: str, name: str, *, icon: str, disabled: bool = False) -> None:
    key = f"keys_{what}_{name}"
    st.button(what.capitalize(), icon=icon, key=key, on_click=ask, args=(what, name), disabled=disabled)


def _facts(info: SecretInfo, at_ms: int) -> str:
    used = "never used" if info.last_used_ms is None else f"last used {age(at_ms - info.last_used_ms)} ago"
    facts = [
        f"fingerprint `{info.fingerprint}`" if info.fingerprint else f"kept in {plain(str(info.reference))}",
        f"sent to {plain(', '.join(info.hosts))} only" if info.hosts else "sent to this machine only",
        f"version {info.version} of {moment(info.created_ms)}",
        used,
    ]
    if info.expires_ms is not None:
        facts.append(f"expires {moment(info.expires_ms)}")
    if info.revoked_ms is not None:
        facts.append(f"revoked {moment(info.revoked_ms)}")
    return " · ".join(facts)


def _history(store: KeyStore, name: str) -> None:
    rows = [
        {
            "Version": one.version,
            "Fingerprint": one.fingerprint or "–",
            "Since": moment(one.created_ms),
            "By": one.created_by or "–",
        }
        for one in store.versions(name)
    ]
    st.dataframe(rows, hide_index=True, key=f"keys_history_{name}", width=520, placeholder="–")


def _test(store: KeyStore, name: str) -> None:
    with st.spinner("Asking the provider"):
        try:
            said = store.test(name, KEY_TESTS)
        except ControlError as error:
            st.error(plain(str(error)), icon=":material/bolt:")
            return
    st.success(plain(said), icon=":material/bolt:")


def _first_steps() -> None:
    with st.container(border=True):
        st.subheader("No keys yet", anchor=False)
        st.markdown(
            "A provider of prices asks for an API key. Add it here, or in a terminal:\n\n"
            "```\n./barmill key add NAME --provider PROVIDER\n```\n\n"
            "It is encrypted on this machine and handed to the feed at the moment it connects. Nobody can look at it"
            " again, here or elsewhere: what you see is a fingerprint that tells two keys apart. A team that keeps its"
            " keys in OpenBao, Vault or the environment adds a reference instead. The demo market's key makes itself"
            " when you start `./barmill up`."
        )


through_app()
page()
