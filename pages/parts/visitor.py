"""Who looks at the page: the account behind the browser's session, and what it may do at this moment."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import streamlit as st

from bar.clock import now_ms
from bar.sqlite_file import StoreMissingError
from control.database import read_control_db
from control.home import Home
from control.machine.ports import LOOPBACK
from control.people.roles import GRANTS, Actor, Permission, Role
from control.people.sessions import SignedIn, session_cookie, signed_in
from pages.parts.browser_code import browser_code

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
    """Who acts on a page, and the role they had when the page was run; every action looks the role up again."""

    actor: Actor
    role: Role
    session: SignedIn

    def may(self, permission: Permission) -> bool:
        """Tell whether to offer what needs this permission."""
        return permission in GRANTS[self.role]


def visitor() -> Visitor:
    """Return who looks at this page; if their session has ended, say so and end the run here."""
    who = _signed_in(session_token())
    if who is None:
        st.info("You are signed out. [Sign in](/sign-in) to go on.", icon=":material/lock:")
        st.stop()
    return Visitor(Actor.of_account(who.account), who.role, who)


def require(permission: Permission) -> Visitor:
    """Return the visitor if this page is for them; otherwise say so and end the page here."""
    one = visitor()
    if not one.may(permission):
        st.error(f"This page is for people who may {permission.value}; ask an admin.", icon=":material/lock:")
        st.stop()
    return one


def visitor_badge(one: Visitor, theme: str, paths: Sequence[str]) -> None:
    """Show who is signed in, and the way out; give the pages at these paths the look of this account."""
    data = {"name": one.session.account, "role": one.role.value, "theme": theme, "paths": list(paths)}
    _badge(key="visitor", data=data)


def session_token() -> str:
    """Return what the browser sent when it opened this page."""
    return st.context.cookies.get(session_cookie(Home.find())) or ""


def address() -> str:
    """Return the network address of the browser; Streamlit says none where it runs on this machine."""
    return st.context.ip_address or LOOPBACK


def _signed_in(token: str) -> SignedIn | None:
    try:
        db = read_control_db(Home.find())
    except StoreMissingError:
        return None
    with closing(db.conn):
        return signed_in(db, token, now_ms())
