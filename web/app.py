"""The complete application: Streamlit, the additional routes, and the gate in front of them."""

import sqlite3
from contextlib import closing
from ipaddress import ip_address, ip_network
from pathlib import Path

import streamlit as st
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from barmill.audit.accounts import open_audited_db
from barmill.auth import sessions
from barmill.auth.sessions import SEEN_EVERY_MS, session_cookie
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.sqlite_file import StoreMissingError, open_for_reading
from barmill.storage.bar_damage import store_problem
from control.monitoring.prometheus import metrics_route
from web.bars import BarRoutes
from web.browser import user_of
from web.gate import Gate
from web.headers import SecurityHeaders, page, plain_headers
from web.sign_in import CALLBACK, OidcRoutes, SignInRoutes
from web.streamlit_compat import StaticFiles, is_serving, start_routes


def open_routes(home: Home, settings: SignInSettings) -> list[Route]:
    """Return the routes that need no session."""
    sign_in = SignInRoutes(home, settings)
    provider = OidcRoutes(home, settings, settings.oidc) if settings.oidc else None
    with_provider = [Route("/sign-in/oidc", provider.start), Route(CALLBACK, provider.callback)] if provider else []
    return [
        Route("/healthz", Health(home).answer),
        metrics_route(home),
        Route("/sign-in", sign_in.show_sign_in),
        Route("/sign-in", sign_in.sign_in, methods=["POST"]),
        Route("/welcome", sign_in.show_welcome),
        Route("/welcome", sign_in.set_password, methods=["POST"]),
        *with_provider,
    ]


def signed_in_routes(home: Home) -> list[Route]:
    """Return the routes that need a session."""
    session = SessionRoutes(home)
    return [
        Route("/session", session.confirm_session),
        Route("/session", session.record_activity, methods=["POST"]),
        Route("/sign-out", session.sign_out, methods=["POST"]),
        *BarRoutes(home).routes(),
        *start_routes(),
    ]


_HEALTH_THREADS = 2
_NOT_CREATED = "not there yet"


class Health:
    """The health check: the state of the app and of the stores of a home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._threads = CapacityLimiter(_HEALTH_THREADS)  # reserved, so that no other request delays it

    async def answer(self, _request: Request) -> Response:
        """Return the state of the app and its stores; the status is 200 if all are healthy, otherwise 503."""
        stores = {"control": self._home.control_db, "ticks": self._home.ticks_db, "bars": self._home.bars_db}
        states = {
            name: await to_thread.run_sync(_store_state, path, limiter=self._threads) for name, path in stores.items()
        }
        serving = await is_serving()
        if states["bars"] != _NOT_CREATED and store_problem(self._home.bars_db):
            states["bars"] = "damaged"
        is_healthy = serving and "damaged" not in states.values() and "unreadable" not in states.values()
        content = {"status": "ok" if is_healthy else "failing", "app": "ok" if serving else "failing", "stores": states}
        return JSONResponse(content, 200 if is_healthy else 503, {"Cache-Control": "no-store"})


def _store_state(path: Path) -> str:
    """Return the state of a store. A store that does not exist yet is not a failure."""
    try:
        with closing(open_for_reading(path).conn) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except StoreMissingError:
        return _NOT_CREATED
    except (sqlite3.Error, OSError):
        return "unreadable"
    return "ok"


class SessionRoutes:
    """The request handlers for the session of a signed-in user."""

    def __init__(self, home: Home) -> None:
        self._home = home

    async def confirm_session(self, _request: Request) -> Response:
        """Confirm that the session is valid; the gate responds if it is not."""
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    async def record_activity(self, request: Request) -> Response:
        """Record activity of the user on a page."""
        signed_in = user_of(request)
        if signed_in is not None and now_ms() - signed_in.seen_ms >= SEEN_EVERY_MS:

            def touch() -> None:
                with open_audited_db(self._home) as db:
                    sessions.touch(db, signed_in.session, now_ms())

            await run_in_threadpool(touch)
        return await self.confirm_session(request)

    async def sign_out(self, request: Request) -> Response:
        """End the session, even while Streamlit is busy."""
        if (signed_in := user_of(request)) is not None:

            def end() -> None:
                with open_audited_db(self._home) as db:
                    sessions.sign_out(db, signed_in)

            await run_in_threadpool(end)
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(session_cookie(self._home), path="/", httponly=True, samesite="lax")
        return response


_ENCRYPTED_SCHEMES = {"http": "https", "ws": "wss"}


class ProxyHeaders:
    """The middleware that applies the headers of a trusted proxy. proxy: its address or network, or None.

    Only the last address in X-Forwarded-For counts, because a client can write anything before it. uvicorn instead
    skips trusted addresses from the right, so a client within a trusted network could choose the address under which
    wrong passwords are counted.
    """

    def __init__(self, app: ASGIApp, proxy: str | None) -> None:
        self._app = app
        self._proxy = None if proxy is None else ip_network(proxy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace the address and scheme of a trusted proxy with the visitor's, and run the app."""
        if scope["type"] in ("http", "websocket") and self._is_proxy(scope):
            scope = _with_client_address(scope)
        await self._app(scope, receive, send)

    def _is_proxy(self, scope: Scope) -> bool:
        peer = _address((scope.get("client") or ("",))[0])
        return peer is not None and self._proxy is not None and ip_address(peer) in self._proxy


def _with_client_address(scope: Scope) -> Scope:
    headers, changed = Headers(scope=scope), dict[str, object]()
    forwarded = headers.getlist("x-forwarded-for")
    address = _address(forwarded[-1].rpartition(",")[2]) if forwarded else None
    if address is not None:
        changed["client"] = (address, 0)
    schemes = headers.getlist("x-forwarded-proto")
    if schemes and schemes[-1].rpartition(",")[2].strip().lower() in ("https", "wss"):
        changed["scheme"] = _ENCRYPTED_SCHEMES.get(scope["scheme"], scope["scheme"])
    return {**scope, **changed}


def _address(text: str) -> str | None:
    """Return an address without its port, or None for other text."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def application(home: Home, settings: SignInSettings) -> st.App:
    """Return the application of a home."""
    with open_audited_db(home):
        pass  # creates the tables for readers
    public, signed_in = open_routes(home, settings), signed_in_routes(home)
    return st.App(
        REPO_ROOT / "app.py",
        routes=[*public, *signed_in],
        middleware=[
            Middleware(ProxyHeaders, proxy=settings.trusted_proxy),
            Middleware(SecurityHeaders, settings=settings),
            Middleware(
                Gate,
                home=home,
                settings=settings,
                open_paths=frozenset(route.path for route in public),
                posted_paths=frozenset(
                    route.path for route in [*public, *signed_in] if "POST" in (route.methods or ())
                ),
            ),
            Middleware(StaticFiles),
        ],
        exception_handlers={Exception: internal_error},
    )


async def internal_error(_request: Request, _error: Exception) -> Response:
    """Return the response to an internal error; its traceback goes to the log."""
    text = "An internal error occurred; see the log of the app."
    return page("message.html", {"title": "Error", "text": text}, status=500, headers=plain_headers())
