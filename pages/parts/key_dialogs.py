"""The dialogs of the API keys page. Which one is open is in the session; a secret is there only until it is stored.

A secret is taken out of its field by the very callback that stores it, before anything else of the page runs.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import streamlit as st

from charts.texts import plain
from control.errors import ControlError
from control.home import Home
from control.keys.info import end_of_day_ms
from control.keys.references import Reference, parse_reference
from control.keys.store import KeyStore
from control.people.roles import Permission
from feed.key_tests import KEY_TESTS
from pages.parts.visitor import require

ADD, TEST, ROTATE, REVOKE, DELETE = "add", "test", "rotate", "revoke", "delete"
_HERE, _ELSEWHERE = "Encrypted here", "By reference"
_OPEN, _NEWS, _PROBLEM = "keys_open", "keys_news", "keys_problem"

Change = Callable[[KeyStore], str]


class _Asked(NamedTuple):
    what: str
    name: str


def ask(what: str, name: str = "") -> None:
    """Have the next run do something with a key, or open the dialog for it."""
    st.session_state[_OPEN] = _Asked(what, name)
    st.session_state.pop(_PROBLEM, None)


def take(what: str, name: str) -> bool:
    """Tell whether this, which needs no dialog, was asked for; it is asked for once."""
    if st.session_state.get(_OPEN) != (what, name):
        return False
    _close()
    return True


def take_news() -> str | None:
    """Return what the last dialog did, once."""
    news = st.session_state.pop(_NEWS, None)
    return None if news is None else str(news)


def show_dialog() -> None:
    """Show the dialog that is open, if one is."""
    asked: _Asked | None = st.session_state.get(_OPEN)
    if asked is None:
        return
    title = "Add a key" if asked.what == ADD else f"{asked.what.capitalize()} {asked.name}"
    content = {ADD: _add, ROTATE: _rotate, REVOKE: _revoke, DELETE: _delete}[asked.what]

    def dialog() -> None:
        if st.session_state.get(_OPEN) is None:
            st.rerun()  # it is done: close it, and show what it did
        content(asked.name)
        if problem := st.session_state.get(_PROBLEM):
            st.error(plain(problem))

    st.dialog(title, on_dismiss=_close)(dialog)()


def _close() -> None:
    st.session_state.pop(_OPEN, None)


def _add(_name: str) -> None:
    st.text_input("Name", key="keys_name", placeholder="demo-market", help="Small letters, digits, dots and dashes.")
    st.selectbox("Provider", sorted(KEY_TESTS), key="keys_provider", accept_new_options=True)

    _ask_hosts("those of a known provider")

    def add(store: KeyStore, secret: str | Reference, expires_ms: int | None) -> str:
        name, provider = str(st.session_state["keys_name"]).strip(), str(st.session_state["keys_provider"] or "")
        info = store.add(name, provider, secret, expires_ms=expires_ms, hosts=_hosts())
        return f"The key {info.name} is stored."

    _secret_form("Add", add)


def _rotate(name: str) -> None:
    st.markdown("The new secret counts from the next connection on; the one before is destroyed.")
    _ask_hosts("as before")

    def rotate(store: KeyStore, secret: str | Reference, expires_ms: int | None) -> str:
        info = store.rotate(name, secret, expires_ms=expires_ms, hosts=_hosts())
        return f"The key {name} is now at version {info.version}."

    _secret_form("Rotate", rotate)


def _ask_hosts(otherwise: str) -> None:
    st.text_input(
        "Hosts (optional)",
        key="keys_hosts",
        placeholder="api.example.com, *.example.com",
        help=f"The only hosts that feeds may send the key to, with commas between; left empty: {otherwise}.",
    )


def _hosts() -> list[str]:
    return str(st.session_state.get("keys_hosts") or "").split(",")


def _secret_form(verb: str, store_it: Callable[[KeyStore, str | Reference, int | None], str]) -> None:
    where = st.segmented_control("Kept", [_HERE, _ELSEWHERE], default=_HERE, key="keys_where", required=True)
    field = "keys_secret" if where == _HERE else "keys_reference"
    today = datetime.now(UTC).date()
    st.date_input("Last day of use (optional)", None, today, key="keys_expires", format="YYYY-MM-DD")

    def submitted() -> None:
        given = str(st.session_state.pop(field))
        last_day = st.session_state["keys_expires"]

        def change(store: KeyStore) -> str:
            secret = given if where == _HERE else parse_reference(given.strip())
            return store_it(store, secret, None if last_day is None else end_of_day_ms(last_day))

        _do(change)

    with st.form("keys_form", clear_on_submit=True, border=False):
        if where == _HERE:
            st.text_input("Secret", type="password", key=field, autocomplete="new-password")
        else:
            st.text_input("Reference", key=field, placeholder="env:NAME or vault:MOUNT/PATH#FIELD", autocomplete="off")
        st.form_submit_button(verb, type="primary", key="keys_submit", on_click=submitted)


def _revoke(name: str) -> None:
    st.markdown("Whatever uses this key is refused from the next connection on, and its secret is destroyed.")

    def revoke(store: KeyStore) -> str:
        store.revoke(name)
        return f"The key {name} is revoked."

    _confirmed(name, "Revoke", revoke)


def _delete(name: str) -> None:
    st.markdown("The key, its secret and its history are gone for good; the audit trail keeps what was done with it.")

    def delete(store: KeyStore) -> str:
        store.delete(name)
        return f"The key {name} is deleted."

    _confirmed(name, "Delete", delete)


def _confirmed(name: str, verb: str, change: Change) -> None:
    st.text_input(f"Type {plain(name)} to confirm", key="keys_typed", autocomplete="off")

    def confirmed() -> None:
        if st.session_state["keys_typed"] == name:
            _do(change)
        else:
            st.session_state[_PROBLEM] = f"Nothing was done; type {name}, exactly, to confirm."

    st.button(verb, type="primary", key="keys_confirm", on_click=confirmed)


def _do(change: Change) -> None:
    st.session_state.pop(_PROBLEM, None)
    visitor = require(Permission.MANAGE_KEYS)  # as they are now, not as they were when the dialog opened
    try:
        with KeyStore.open(Home.find(), visitor.actor) as store:
            st.session_state[_NEWS] = change(store)
    except ControlError as error:
        st.session_state[_PROBLEM] = str(error)
    else:
        _close()
