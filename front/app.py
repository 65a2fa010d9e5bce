"""The whole application: Streamlit, our own routes beside it, and the gate before both."""

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from control.home import REPO_ROOT, Home
from control.people.database import open_people
from control.people.settings import SignInSettings
from front.forwarded import Forwarded
from front.gate import Gate
from front.headers import SecurityHeaders, plain_headers
from front.html_pages import page
from front.routes import open_routes, signed_in_routes
from front.static_files import StaticFiles


def application(home: Home, settings: SignInSettings) -> st.App:
    """Put the application of a home together."""
    with open_people(home):
        pass  # what only reads finds the tables there
    openly, inside = open_routes(home, settings), signed_in_routes(home)
    return st.App(
        REPO_ROOT / "app.py",
        routes=[*openly, *inside],
        middleware=[
            Middleware(Forwarded, proxy=settings.trusted_proxy),
            Middleware(SecurityHeaders, settings=settings),
            Middleware(
                Gate,
                home=home,
                settings=settings,
                open_paths=frozenset(route.path for route in openly),
                posted_paths=frozenset(route.path for route in [*openly, *inside] if "POST" in (route.methods or ())),
            ),
            Middleware(StaticFiles),
        ],
        exception_handlers={Exception: failed},
    )


async def failed(_request: Request, _error: Exception) -> Response:
    """Answer for a mistake of ours; its traceback goes to the log."""
    text = "Something went wrong; the log of the app says what."
    return page("message.html", {"title": "Error", "text": text}, status=500, headers=plain_headers())
