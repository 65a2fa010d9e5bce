"""The My account page: the user's preferences, password and sessions."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from barmill.audit.accounts import PasswordRuleError, get_account, open_audited_db
from barmill.auth.sessions import Client, Session, SignedInUser, end_own_other_sessions, end_own_session, sessions_of
from barmill.auth.sign_in import change_password
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database
from barmill.platform.texts import escape_markdown, utc_text
from pages.parts.accounts.my_preferences import (
    apply_theme,
    change_preferences,
    form_values,
    preferences_form,
    preferences_of,
)
from pages.parts.shared.messages import run_action, show_message
from pages.parts.shared.visitor import Visitor, client_address, current_visitor, rerun_through_app
from views import readings

_OUTCOME = "account_outcome"


def page() -> None:
    """Show the account, its preferences and sessions, and the form for a new password."""
    visitor = current_visitor()
    signed_in = visitor.session
    st.header("My account", anchor=False)
    show_message(_OUTCOME)
    with open_audited_db(Home.find()) as db:
        account = get_account(db, signed_in.account)
        st.markdown(
            f"**{escape_markdown(signed_in.account)}**, role {signed_in.role.value},"
            f" added {utc_text(account.created_ms)}."
        )
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.subheader("Preferences", anchor=False)
            preferences_form(
                preferences_of(visitor), readings.instruments(Home.find()), partial(_save_preferences, visitor)
            )
            _sessions(sessions_of(db, signed_in.account, now_ms()), signed_in)
        with right:
            st.subheader("Password", anchor=False)
            if account.identity is None:
                _password_form(signed_in)
            else:
                st.markdown("This account signs in with the OIDC provider, which manages its password.")


def _sessions(sessions: list[Session], signed_in: SignedInUser) -> None:
    st.subheader("Sessions", anchor=False)
    for session in sessions:
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            seen_text = (
                "this session" if session.id == signed_in.session else f"last seen {utc_text(session.last_seen_ms)}"
            )
            details = (
                f"since {utc_text(session.created_ms)}, {escape_markdown(session.user_agent or 'unknown browser')}"
            )
            st.markdown(f"**{escape_markdown(session.address)}**, {seen_text}  \n:gray[{details}]", width="stretch")
            if session.id != signed_in.session:
                st.button(
                    "End",
                    key=f"account_end_{session.id}",
                    on_click=_run_action,
                    args=(_end_session, signed_in, session.id),
                )
    st.button(
        "Sign out everywhere else",
        key="account_others",
        disabled=len(sessions) == 1,
        on_click=_run_action,
        args=(_end_other_sessions, signed_in),
    )


def _password_form(signed_in: SignedInUser) -> None:
    with st.form("account_password", clear_on_submit=True):
        st.text_input("Current password", type="password", key="account_old", autocomplete="current-password")
        st.text_input("New password", type="password", key="account_new", autocomplete="new-password")
        st.text_input("Repeat the password", type="password", key="account_again", autocomplete="new-password")
        st.form_submit_button(
            "Change password", key="account_submit", on_click=_run_action, args=(_change_password, signed_in)
        )
    st.caption("A new password ends all your other sessions.")


def _save_preferences(visitor: Visitor) -> None:
    def action() -> str:
        apply_theme(change_preferences(visitor, form_values()).theme)
        return "Your preferences are saved; they apply wherever you sign in."

    run_action(_OUTCOME, action)


def _run_action(change: Callable[..., str], *values: object) -> None:
    def action() -> str:
        with open_audited_db(Home.find()) as db:
            return change(db, *values)

    run_action(_OUTCOME, action)


def _change_password(db: Database, signed_in: SignedInUser) -> str:
    old_password, new_password, repeated = (st.session_state[f"account_{name}"] for name in ("old", "new", "again"))
    if new_password != repeated:
        raise PasswordRuleError("The new passwords do not match.")
    ended_count = change_password(db, signed_in, old_password, new_password, Client(client_address()))
    return f"The password is changed; other sessions ended: {ended_count}."


def _end_session(db: Database, signed_in: SignedInUser, session: str) -> str:
    end_own_session(db, signed_in, session)
    return "The session has ended."


def _end_other_sessions(db: Database, signed_in: SignedInUser) -> str:
    return f"You are signed out everywhere else; sessions ended: {end_own_other_sessions(db, signed_in)}."


rerun_through_app()
page()
