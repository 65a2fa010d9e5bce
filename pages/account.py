"""My account: what one prefers, one's own password, and where one is signed in."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from bar.clock import now_ms
from bar.sqlite import Database
from charts.texts import plain
from control.clock import utc_text
from control.home import Home
from control.people.accounts import get_account
from control.people.database import open_people
from control.people.errors import PasswordRuleError
from control.people.sessions import Client, Session, SignedIn, end_own_other_sessions, end_own_session, sessions_of
from control.people.sign_in import change_password
from pages.parts import readings
from pages.parts.my_preferences import keep, mine, wear
from pages.parts.preferences_form import asked_for, preferences_form
from pages.parts.routing import through_app
from pages.parts.told import attempt, tell
from pages.parts.visitor import Visitor, address, visitor

_TOLD = "account_told"


def page() -> None:
    """Show the account, its preferences and sessions, and the form for a new password."""
    one = visitor()
    who = one.session
    st.header("My account", anchor=False)
    tell(_TOLD)
    with open_people(Home.find()) as db:
        account = get_account(db, who.account)
        st.markdown(f"**{plain(who.account)}**, {who.role.value}, added {utc_text(account.created_ms)}.")
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.subheader("Preferences", anchor=False)
            preferences_form(mine(one), readings.instruments(Home.find()), partial(_prefer, one))
            _sessions(sessions_of(db, who.account, now_ms()), who)
        with right:
            st.subheader("Password", anchor=False)
            if account.identity is None:
                _password_form(who)
            else:
                st.markdown("This account signs in with the OIDC provider, which keeps its password.")


def _sessions(sessions: list[Session], who: SignedIn) -> None:
    st.subheader("Sessions", anchor=False)
    for one in sessions:
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            seen = "this one" if one.id == who.session else f"last seen {utc_text(one.last_seen_ms)}"
            details = f"since {utc_text(one.created_ms)}, {plain(one.user_agent or 'unknown browser')}"
            st.markdown(f"**{plain(one.address)}**, {seen}  \n:gray[{details}]", width="stretch")
            if one.id != who.session:
                st.button("End", key=f"account_end_{one.id}", on_click=_act, args=(_end, who, one.id))
    alone = len(sessions) == 1
    st.button("Sign out everywhere else", key="account_others", disabled=alone, on_click=_act, args=(_end_others, who))


def _password_form(who: SignedIn) -> None:
    with st.form("account_password", clear_on_submit=True):
        st.text_input("Present password", type="password", key="account_old", autocomplete="current-password")
        st.text_input("New password", type="password", key="account_new", autocomplete="new-password")
        st.text_input("The same again", type="password", key="account_again", autocomplete="new-password")
        st.form_submit_button("Change password", key="account_submit", on_click=_act, args=(_change, who))
    st.caption("Every other session ends with it.")


def _prefer(one: Visitor) -> None:
    def work() -> str:
        wear(keep(one, asked_for()).theme)
        return "Your preferences are saved; they hold wherever you sign in."

    attempt(_TOLD, work)


def _act(change: Callable[..., str], *values: object) -> None:
    def work() -> str:
        with open_people(Home.find()) as db:
            return change(db, *values)

    attempt(_TOLD, work)


def _change(db: Database, who: SignedIn) -> str:
    old, new, again = (st.session_state[f"account_{name}"] for name in ("old", "new", "again"))
    if new != again:
        raise PasswordRuleError("The two new passwords are not the same.")
    ended = change_password(db, who, old, new, Client(address()))
    return f"The password is changed; other sessions ended: {ended}."


def _end(db: Database, who: SignedIn, session: str) -> str:
    end_own_session(db, who, session)
    return "The session has ended."


def _end_others(db: Database, who: SignedIn) -> str:
    return f"You are signed out everywhere else; sessions ended: {end_own_other_sessions(db, who)}."


through_app()
page()
