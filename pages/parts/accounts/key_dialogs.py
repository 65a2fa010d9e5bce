"""The dialogs of the API keys page. The session state holds the open dialog, and a secret only until it is stored.

The callback that stores a secret also removes it from its field, before anything else on the page runs.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import streamlit as st

from barmill.audit.roles import Permission
from barmill.ingest.feeds.trial_runner import KEY_TESTS
from barmill.platform.home import Home
from barmill.secrets.info import end_of_day_ms
from barmill.secrets.references import Reference, parse_reference
from barmill.secrets.store import KeyStore
from pages.parts.shared.dialogs import Dialogs
from pages.parts.shared.visitor import require

ADD, TEST, ROTATE, REVOKE, DELETE = "add", "test", "rotate", "revoke", "delete"
_ENCRYPTED, _REFERENCE = "Encrypted here", "By reference"

Change = Callable[[KeyStore], str]


class _OpenDialog(NamedTuple):
    kind: str
    name: str


dialogs = Dialogs[_OpenDialog]("keys")


def open_dialog(kind: str, name: str = "") -> None:
    """Request an action on a key, or its dialog, for the next run."""
    dialogs.open(_OpenDialog(kind, name))


def take_request(kind: str, name: str) -> bool:
    """Return whether this action, which needs no dialog, was requested; each request counts once."""
    if dialogs.current() != (kind, name):
        return False
    dialogs.close()
    return True


def show_dialog() -> None:
    """Show the open dialog, if any."""
    dialog = dialogs.current()
    if dialog is None:
        return
    title = "Add a key" if dialog.kind == ADD else f"{dialog.kind.capitalize()} {dialog.name}"
    content = {ADD: _add, ROTATE: _rotate, REVOKE: _revoke, DELETE: _delete}.get(dialog.kind)
    if content is None:
        dialogs.close()  # a test of a key that was deleted in the meantime
        return
    dialogs.show(title, lambda: content(dialog.name), "small")


def _add(_name: str) -> None:
    st.text_input(
        "Name",
        key="keys_name",
        placeholder="demo-market",
        help="Lowercase letters, digits, dots, dashes and underscores.",
    )
    st.selectbox("Provider", sorted(KEY_TESTS), key="keys_provider", accept_new_options=True)

    _host_fields("the hosts of a known provider")

    def add(store: KeyStore, secret: str | Reference, expires_ms: int | None) -> str:
        name, provider = str(st.session_state["keys_name"]).strip(), str(st.session_state["keys_provider"] or "")
        info = store.add(name, provider, secret, expires_ms=expires_ms, hosts=_hosts())
        return f"The key {info.name} is stored."

    _secret_form("Add", add)


def _rotate(name: str) -> None:
    st.markdown("The next connection uses the new secret; the previous secret is destroyed.")
    _host_fields("as before")

    def rotate(store: KeyStore, secret: str | Reference, expires_ms: int | None) -> str:
        info = store.rotate(name, secret, expires_ms=expires_ms, hosts=_hosts())
        return f"The key {name} is now at version {info.version}."

    _secret_form("Rotate", rotate)


def _host_fields(default_hosts: str) -> None:
    st.text_input(
        "Hosts (optional)",
        key="keys_hosts",
        placeholder="api.example.com, *.example.com",
        help=f"The only hosts that feeds may send the key to, separated by commas. If empty: {default_hosts}.",
    )


def _hosts() -> list[str]:
    return str(st.session_state.get("keys_hosts") or "").split(",")


def _secret_form(verb: str, store_secret: Callable[[KeyStore, str | Reference, int | None], str]) -> None:
    storage = st.segmented_control(
        "Storage", [_ENCRYPTED, _REFERENCE], default=_ENCRYPTED, key="keys_storage", required=True
    )
    field = "keys_secret" if storage == _ENCRYPTED else "keys_reference"
    today = datetime.now(UTC).date()
    st.date_input("Expiry date (optional)", None, today, key="keys_expires", format="YYYY-MM-DD")

    def submit() -> None:
        text = str(st.session_state.pop(field))
        last_day = st.session_state["keys_expires"]

        def change(store: KeyStore) -> str:
            secret = text if storage == _ENCRYPTED else parse_reference(text.strip())
            return store_secret(store, secret, None if last_day is None else end_of_day_ms(last_day))

        dialogs.act_once(_by_visitor(change))

    with st.form("keys_form", clear_on_submit=True, border=False):
        if storage == _ENCRYPTED:
            st.text_input("Secret", type="password", key=field, autocomplete="new-password")
        else:
            st.text_input("Reference", key=field, placeholder="env:NAME or vault:MOUNT/PATH#FIELD", autocomplete="off")
        st.form_submit_button(verb, type="primary", key="keys_submit", on_click=submit)


def _revoke(name: str) -> None:
    st.markdown("The next connection with this key is refused, and its secret is destroyed.")

    def revoke(store: KeyStore) -> str:
        store.revoke(name)
        return f"The key {name} is revoked."

    dialogs.confirm_by_name(name, "Revoke", _by_visitor(revoke))


def _delete(name: str) -> None:
    st.markdown("The key, its secret and its history are deleted permanently. The audit log keeps all actions on it.")

    def delete(store: KeyStore) -> str:
        store.delete(name)
        return f"The key {name} is deleted."

    dialogs.confirm_by_name(name, "Delete", _by_visitor(delete))


def _by_visitor(change: Change) -> Callable[[], str]:
    def action() -> str:
        visitor = require(Permission.MANAGE_KEYS)  # with the current role, not the role when the dialog opened
        with KeyStore.open(Home.find(), visitor.actor) as store:
            return change(store)

    return action
