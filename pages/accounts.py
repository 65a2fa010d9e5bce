"""The accounts page: all accounts, their roles and their sessions."""

from collections.abc import Callable, Sequence

import streamlit as st

from barmill.audit.accounts import Account, all_accounts, open_audited_db
from barmill.audit.roles import Actor, Permission, Role
from barmill.auth import administration
from barmill.auth.sessions import end_all_sessions, sessions_of
from barmill.auth.settings import app_address
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database
from barmill.platform.texts import escape_markdown
from pages.parts.shared.messages import run_action, show_message
from pages.parts.shared.visitor import require, rerun_through_app
from views.audit_records import account_state, account_table, session_table

_OUTCOME, _LINK = "accounts_outcome", "accounts_link"
_ROLES = [role.value for role in Role]
_ROLE_HELP = (
    "Admins can do everything. Operators can view prices, jobs, feeds, monitoring and data quality, control jobs and"
    " acknowledge alerts. Traders can view prices."
)
_Change = Callable[[Database, Actor, str], str]


def page() -> None:
    """Show all accounts, one of them in detail, and the form to add one."""
    actor = require(Permission.MANAGE_ACCOUNTS).actor
    st.header("Accounts", anchor=False)
    show_message(_OUTCOME)
    if (link := st.session_state.pop(_LINK, None)) is not None:
        st.markdown(
            "Send this link to the user to choose a password. It works once, within a day, and is not shown again."
        )
        st.code(link, language=None, wrap_lines=True)
    with open_audited_db(Home.find()) as db:
        accounts = all_accounts(db)
        st.dataframe(account_table(accounts), hide_index=True, key="accounts_table", row_height=30, placeholder="–")
        left, right = st.columns([3, 2], gap="large")
        with left:
            _account_section(db, actor, accounts)
        with right:
            _add_form(actor)


def _account_section(db: Database, actor: Actor, accounts: Sequence[Account]) -> None:
    st.subheader("Change an account", anchor=False)
    by_name = {listed_account.name: listed_account for listed_account in accounts}
    account = by_name[str(st.selectbox("Account", by_name, key="accounts_picked"))]
    name, sessions = account.name, sessions_of(db, account.name, now_ms())
    st.caption(f"{escape_markdown(name)}: {account.role.value}, {account_state(account)}.")
    role = f"accounts_role_{name}"
    st.segmented_control("Role", _ROLES, default=account.role.value, required=True, key=role, help=_ROLE_HELP)
    changes: list[tuple[str, _Change, bool]] = [
        ("Change role", _set_role, st.session_state[role] != account.role.value),
        ("New link", _new_link, not account.disabled and account.identity is None),
        ("Enable", _enable, True) if account.disabled else ("Disable", _disable, True),
        ("Sign out everywhere", _sign_out, bool(sessions)),
    ]
    with st.container(horizontal=True):
        for label, change, enabled in changes:
            key = f"accounts_{label.lower().replace(' ', '_')}"
            st.button(label, key=key, disabled=not enabled, on_click=_run_change, args=(change, actor, name))
    if sessions:
        st.markdown("**Sessions**")
        st.dataframe(session_table(sessions), hide_index=True, key="accounts_sessions", row_height=30, placeholder="–")
    else:
        st.caption("This account has no open sessions.")


def _add_form(actor: Actor) -> None:
    st.subheader("Add an account", anchor=False)
    with st.form("accounts_add", clear_on_submit=True):
        st.text_input("Name", key="accounts_name", max_chars=64)
        st.segmented_control("Role", _ROLES, default="trader", required=True, key="accounts_role", help=_ROLE_HELP)
        st.form_submit_button("Add", key="accounts_submit", on_click=_run_change, args=(_add, actor, ""))


def _run_change(change: _Change, actor: Actor, name: str) -> None:
    def action() -> str:
        with open_audited_db(Home.find()) as db:
            return change(db, actor, name)

    run_action(_OUTCOME, action)


def _add(db: Database, actor: Actor, _name: str) -> str:
    name = administration.normalize_name(st.session_state["accounts_name"])
    administration.add_account(db, actor, name, Role(st.session_state["accounts_role"]))
    _new_link(db, actor, name)
    return f"Added {name}."


def _new_link(db: Database, actor: Actor, name: str) -> str:
    token = administration.new_link(db, actor, name)
    st.session_state[_LINK] = app_address(Home.find(), f"/welcome?token={token}")
    return f"New link for {name}; the previous link no longer works."


def _set_role(db: Database, actor: Actor, name: str) -> str:
    role = Role(st.session_state[f"accounts_role_{name}"])
    administration.set_role(db, actor, name, role)
    return f"{name} is now {role.value}."


def _disable(db: Database, actor: Actor, name: str) -> str:
    administration.disable_account(db, actor, name)
    return f"{name} is disabled, and signed out everywhere."


def _enable(db: Database, actor: Actor, name: str) -> str:
    administration.enable_account(db, actor, name)
    return f"{name} is enabled."


def _sign_out(db: Database, actor: Actor, name: str) -> str:
    ended_count = end_all_sessions(db, actor, name)
    return f"{name} is signed out everywhere; sessions ended: {ended_count}."


rerun_through_app()
page()
