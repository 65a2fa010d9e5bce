"""The accounts page: who may sign in, with which role, and from where they are signed in."""

from collections.abc import Callable, Sequence

import streamlit as st

from bar.clock import now_ms
from bar.sqlite import Database
from charts.texts import plain
from control.home import Home
from control.people import administration
from control.people.accounts import Account, all_accounts
from control.people.database import open_people
from control.people.roles import Actor, Permission, Role
from control.people.sessions import end_all_sessions, sessions_of
from control.people.settings import app_address
from pages.parts.people import account_state, account_table, session_table
from pages.parts.routing import through_app
from pages.parts.told import attempt, tell
from pages.parts.visitor import require

_TOLD, _LINK = "accounts_told", "accounts_link"
_ROLES = [role.value for role in Role]
_ROLE_HELP = "An admin may do everything; an operator looks at everything, starts and stops jobs; a trader sees prices."
_Change = Callable[[Database, Actor, str], str]


def page() -> None:
    """Show all accounts, one of them in full, and how to add one."""
    actor = require(Permission.MANAGE_ACCOUNTS).actor
    st.header("Accounts", anchor=False)
    tell(_TOLD)
    if (link := st.session_state.pop(_LINK, None)) is not None:
        st.markdown("Hand this link over; it chooses the password, works once, for a day, and is not shown again.")
        st.code(link, language=None, wrap_lines=True)
    with open_people(Home.find()) as db:
        accounts = all_accounts(db)
        st.dataframe(account_table(accounts), hide_index=True, key="accounts_table", row_height=30, placeholder="–")
        left, right = st.columns([3, 2], gap="large")
        with left:
            _one_account(db, actor, accounts)
        with right:
            _add_form(actor)


def _one_account(db: Database, actor: Actor, accounts: Sequence[Account]) -> None:
    st.subheader("Change an account", anchor=False)
    by_name = {one.name: one for one in accounts}
    account = by_name[str(st.selectbox("Account", by_name, key="accounts_picked"))]
    name, sessions = account.name, sessions_of(db, account.name, now_ms())
    st.caption(f"{plain(name)} is {account.role.value}, {account_state(account)}.")
    role = f"accounts_role_{name}"
    st.segmented_control("Role", _ROLES, default=account.role.value, required=True, key=role, help=_ROLE_HELP)
    changes: list[tuple[str, _Change, bool]] = [
        ("Change role", _set_role, st.session_state[role] != account.role.value),
        ("New link", _new_link, not account.disabled and account.identity is None),
        ("Enable", _enable, True) if account.disabled else ("Disable", _disable, True),
        ("Sign out everywhere", _sign_out, bool(sessions)),
    ]
    with st.container(horizontal=True):
        for label, change, offered in changes:
            key = f"accounts_{label.lower().replace(' ', '_')}"
            st.button(label, key=key, disabled=not offered, on_click=_act, args=(change, actor, name))
    if sessions:
        st.dataframe(session_table(sessions), hide_index=True, key="accounts_sessions", row_height=30, placeholder="–")
    else:
        st.caption("Nobody is signed in with this account.")


def _add_form(actor: Actor) -> None:
    st.subheader("Add an account", anchor=False)
    with st.form("accounts_add", clear_on_submit=True):
        st.text_input("Name", key="accounts_name", max_chars=64)
        st.segmented_control("Role", _ROLES, default="trader", required=True, key="accounts_role", help=_ROLE_HELP)
        st.form_submit_button("Add", key="accounts_submit", on_click=_act, args=(_add, actor, ""))


def _act(change: _Change, actor: Actor, name: str) -> None:
    def work() -> str:
        with open_people(Home.find()) as db:
            return change(db, actor, name)

    attempt(_TOLD, work)


def _add(db: Database, actor: Actor, _name: str) -> str:
    name = administration.normal_name(st.session_state["accounts_name"])
    administration.add_account(db, actor, name, Role(st.session_state["accounts_role"]))
    _new_link(db, actor, name)
    return f"Added {name}."


def _new_link(db: Database, actor: Actor, name: str) -> str:
    token = administration.new_link(db, actor, name)
    st.session_state[_LINK] = app_address(Home.find(), f"/welcome?token={token}")
    return f"Here is a new link for {name}; the one before it opens nothing any more."


def _set_role(db: Database, actor: Actor, name: str) -> str:
    role = Role(st.session_state[f"accounts_role_{name}"])
    administration.set_role(db, actor, name, role)
    return f"{name} is {role.value} now."


def _disable(db: Database, actor: Actor, name: str) -> str:
    administration.disable_account(db, actor, name)
    return f"{name} is disabled, and signed out everywhere."


def _enable(db: Database, actor: Actor, name: str) -> str:
    administration.enable_account(db, actor, name)
    return f"{name} is enabled."


def _sign_out(db: Database, actor: Actor, name: str) -> str:
    ended = end_all_sessions(db, actor, name)
    return f"{name} is signed out everywhere; sessions ended: {ended}."


through_app()
page()
