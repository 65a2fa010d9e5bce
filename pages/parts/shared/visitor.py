"""The visitor of the page: the account of the browser's session, and its current permissions."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import streamlit as st

from barmill.audit.roles import GRANTS, Actor, Permission, Role
from barmill.auth.sessions import SignedInUser, find_session, session_cookie
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK
from barmill.platform.sqlite_file import StoreMissingError, read_control_db
from pages.parts.shared.browser_code import browser_code
from web.streamlit_compat import was_app_bypassed

_HTML = (
    '<div class="barmill-visitor"><span><b></b> <i></i></span>'
    '<form method="post" action="/sign-out"><button>Sign out</button></form></div>'
)

_badge = st.components.v2.component(
    "barmill_visitor",
    html=_HTML,
    css=browser_code("visitor/visitor.css"),
    js=browser_code("visitor/theme.js", "visitor/visitor.js"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Visitor:
    """The user who acts on a page, and their role when the page ran; every action checks the current role."""

    actor: Actor
    role: Role
    session: SignedInUser

    def may(self, permission: Permission) -> bool:
        """Return whether to offer actions that need this permission."""
        return permission in GRANTS[self.role]


def current_visitor() -> Visitor:
    """Return the visitor of this page; if the session has ended, say so and end the run."""
    session = _signed_in(session_token())
    if session is None:
        st.info("You are signed out. [Sign in](/sign-in) to continue.", icon=":material/lock:")
        st.stop()
    return Visitor(Actor.of_account(session.account), session.role, session)


def require(permission: Permission) -> Visitor:
    """Return the visitor if they have this permission; otherwise say so and end the page."""
    visitor = current_visitor()
    if not visitor.may(permission):
        st.error(f"This page requires permission to {permission.value}; ask an admin.", icon=":material/lock:")
        st.stop()
    return visitor


def visitor_badge(visitor: Visitor, theme: str, paths: Sequence[str]) -> None:
    """Show the signed-in user and the sign-out button; apply the account's theme to the pages at these paths."""
    data = {"name": visitor.session.account, "role": visitor.role.value, "theme": theme, "paths": list(paths)}
    _badge(key="visitor", data=data)


def session_token() -> str:
    """Return the session token that the browser sent when it opened this page."""
    return st.context.cookies.get(session_cookie(Home.find())) or ""


def client_address() -> str:
    """Return the network address of the browser; Streamlit has none for a browser on this machine."""
    return st.context.ip_address or LOOPBACK


def _signed_in(token: str) -> SignedInUser | None:
    try:
        db = read_control_db(Home.find())
    except StoreMissingError:
        return None
    with closing(db.conn):
        return find_session(db, token, now_ms())


def rerun_through_app() -> None:
    """Rerun through app.py if Streamlit bypassed it; app.py and every page call this first."""
    if was_app_bypassed():
        st.rerun()
