"""The gate in front of Streamlit: every request needs a session, except requests for a few open paths.

Pages, uploads, media, components and the websocket are all behind it. A websocket stays open for hours, so the gate
checks each message that arrives on it.
"""

from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from barmill.auth.sessions import SignedInUser, find_session, session_cookie
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import read_control_db
from web.browser import own_origin
from web.streamlit_compat import as_whole_rerun

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# The largest form contains a password and a path; no page accepts files.
MAX_BODY_BYTES = 16 * 1024
_CLOSE = {"Connection": "close"}
_TOO_LARGE = f"This request is too large; {MAX_BODY_BYTES:,} bytes are the maximum."
_NO_LENGTH = "The size of this request is unknown; send a Content-Length header."
# Each websocket takes about 10 MB in Streamlit; a user needs far fewer.
MAX_SOCKETS_PER_ACCOUNT = 50
_POLICY_VIOLATION = 1008


class Gate:
    """The middleware that checks every request, and stores the signed-in user or None in its scope as `signed_in`.

    open_paths: paths that need no session. posted_paths: the only paths that accept methods other than GET, HEAD and
    OPTIONS.
    """

    def __init__(
        self,
        app: ASGIApp,
        home: Home,
        settings: SignInSettings,
        open_paths: frozenset[str],
        posted_paths: frozenset[str],
    ) -> None:
        self._app, self._public_url = app, settings.public_url
        self._open_paths, self._posted_paths = open_paths, posted_paths
        self._sockets: Counter[str] = Counter()
        self._cookie, self._db = session_cookie(home), read_control_db(home)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request to the app, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        token = connection.cookies.get(self._cookie, "")
        user = self._check_session(token)
        scope["signed_in"] = user
        refusal = self._refusal(connection, user)
        if scope["type"] == "websocket":
            if refusal is not None or user is None or self._sockets[user.account] >= MAX_SOCKETS_PER_ACCOUNT:
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            else:
                socket = _CheckedSocket(receive, send, lambda: self._check_session(token), user)
                self._sockets[user.account] += 1
                try:
                    await self._app(scope, socket.receive, socket.send)
                finally:
                    self._sockets[user.account] -= 1
        else:
            await (refusal or self._app)(scope, receive, send)

    def _check_session(self, token: str) -> SignedInUser | None:
        return find_session(self._db, token, now_ms()) if token else None

    def _refusal(self, connection: HTTPConnection, user: SignedInUser | None) -> Response | None:
        """Return the refusal of this request, or None if it may pass."""
        origin = own_origin(connection.scope, self._public_url)
        if origin is None:
            return PlainTextResponse("This is not an address of Barmill.", 421)
        if connection.scope["type"] == "http" and (size_refusal := _size_refusal(connection.headers)) is not None:
            return size_refusal
        changes = connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE_METHODS
        if changes and connection.headers.get("origin") != origin:
            return PlainTextResponse("This request comes from another site.", 403)
        # The path as the router reads it; connection.url would treat an escaped question mark in the path as the start
        # of the query.
        path, query = connection.scope["path"], connection.scope["query_string"].decode("latin-1")
        if user is not None or path in self._open_paths:
            # Streamlit keeps uploads in memory, although no page accepts a file.
            if changes and connection.scope["type"] == "http" and path not in self._posted_paths:
                return PlainTextResponse("Nothing can be sent to this address.", 405, _CLOSE)
            return None
        if not changes and _is_navigation(connection):
            target = quote(path) + (f"?{query}" if query else "")
            return RedirectResponse("/sign-in" + ("" if target == "/" else f"?next={quote(target, safe='')}"), 303)
        return PlainTextResponse("Sign in first.", 401)


class _CheckedSocket:
    """A websocket that forwards messages while the session is valid.

    After a change of role, the next request to rerun a part of the page becomes a request to rerun all of it, so that
    the page shows only what the new role permits.
    """

    def __init__(
        self, receive: Receive, send: Send, check: Callable[[], SignedInUser | None], user: SignedInUser
    ) -> None:
        self._receive, self._send, self._check_session, self._role = receive, send, check, user.role
        self._closed = False

    async def receive(self) -> Message:
        """Return the next message, or a disconnect if the client has disconnected or its session has ended."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return message
        user = self._check_session()
        if user is None:
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "signed out"})
            self._closed = True
            return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}
        if user.role is not self._role and (rerun := as_whole_rerun(message.get("bytes") or b"")) is not None:
            self._role = user.role
            return {**message, "bytes": rerun}
        return message

    async def send(self, message: Message) -> None:
        """Send a message, unless the gate has closed the socket."""
        if not self._closed:
            await self._send(message)


def _size_refusal(headers: Headers) -> Response | None:
    """Return the refusal of a request whose body is too large or of unknown size; its connection is closed."""
    if "transfer-encoding" in headers:
        return PlainTextResponse(_NO_LENGTH, 411, _CLOSE)
    # uvicorn's parser has already refused any other value than a single decimal number.
    return (
        PlainTextResponse(_TOO_LARGE, 413, _CLOSE) if int(headers.get("content-length", 0)) > MAX_BODY_BYTES else None
    )


def _is_navigation(connection: HTTPConnection) -> bool:
    return connection.headers.get("sec-fetch-mode", "navigate") == "navigate" and "text/html" in connection.headers.get(
        "accept", ""
    )
