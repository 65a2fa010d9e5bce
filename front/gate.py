"""The gate: nobody gets past it without a session, except to the few paths that are open.

It stands before Streamlit, so pages, uploads, media, components and the websocket are all behind it. A websocket
stays open for hours; so each message that comes over it is looked at again.
"""

from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

from google.protobuf.message import DecodeError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

from bar.clock import now_ms
from control.database import read_control_db
from control.home import Home
from control.people.sessions import SignedIn, session_cookie, signed_in
from control.people.settings import SignInSettings
from front.origins import own_origin

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# The largest form of ours is a password with its address; files are not taken anywhere.
MAX_BODY_BYTES = 16 * 1024
_CLOSE = {"Connection": "close"}
_TOO_LARGE = f"This request is too large; {MAX_BODY_BYTES:,} bytes are the most that is taken."
_NO_LENGTH = "Say how large this request is: send a Content-Length."
# Each takes some 10 MB in Streamlit; a person with that many pages open has forgotten most of them.
MAX_SOCKETS_OF_ACCOUNT = 50
_POLICY_VIOLATION = 1008


class Gate:
    """The middleware. A request that passes carries who is behind it in its scope, as `signed_in`.

    open_paths: those that need no session. posted_paths: the only ones that anything may be sent to.
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
        """Let a request through, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        token = connection.cookies.get(self._cookie, "")
        who = self._look(token)
        scope["signed_in"] = who
        refusal = self._refusal(connection, who)
        if scope["type"] == "websocket":
            if refusal is not None or who is None or self._sockets[who.account] >= MAX_SOCKETS_OF_ACCOUNT:
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            else:
                socket = _WatchedSocket(receive, send, lambda: self._look(token), who)
                self._sockets[who.account] += 1
                try:
                    await self._app(scope, socket.receive, socket.send)
                finally:
                    self._sockets[who.account] -= 1
        else:
            await (refusal or self._app)(scope, receive, send)

    def _look(self, token: str) -> SignedIn | None:
        return signed_in(self._db, token, now_ms()) if token else None

    def _refusal(self, asked: HTTPConnection, who: SignedIn | None) -> Response | None:
        """Return how to turn this request away, or None where it may pass."""
        origin = own_origin(asked.scope, self._public_url)
        if origin is None:
            return PlainTextResponse("This is not an address of Barmill.", 421)
        if asked.scope["type"] == "http" and (unbounded := _unbounded(asked.headers)) is not None:
            return unbounded
        changes = asked.scope["type"] == "websocket" or asked.scope["method"] not in _SAFE_METHODS
        if changes and asked.headers.get("origin") != origin:
            return PlainTextResponse("This request comes from another site.", 403)
        # As the router reads it: in a URL made of it, an escaped question mark would become one.
        path, query = asked.scope["path"], asked.scope["query_string"].decode("latin-1")
        if who is not None or path in self._open_paths:
            # Streamlit keeps whatever is uploaded in memory, although no page of ours asks for a file.
            if changes and asked.scope["type"] == "http" and path not in self._posted_paths:
                return PlainTextResponse("Nothing can be sent to this address.", 405, _CLOSE)
            return None
        if not changes and _is_navigation(asked):
            wanted = quote(path) + (f"?{query}" if query else "")
            return RedirectResponse("/sign-in" + ("" if wanted == "/" else f"?next={quote(wanted, safe='')}"), 303)
        return PlainTextResponse("Sign in first.", 401)


class _WatchedSocket:
    """A websocket whose messages are let through as long as the session lives.

    When the role has changed, the next message that asks for a part of the page is made to ask for all of it, so that
    the page is put together again from what the new role may see.
    """

    def __init__(self, receive: Receive, send: Send, look: Callable[[], SignedIn | None], who: SignedIn) -> None:
        self._receive, self._send, self._look, self._role = receive, send, look, who.role
        self._closed = False

    async def receive(self) -> Message:
        """Return the next message, or that the other side is gone."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return message
        who = self._look()
        if who is None:
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "signed out"})
            self._closed = True
            return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}
        if who.role is not self._role and (whole := _asking_for_all(message.get("bytes") or b"")) is not None:
            self._role = who.role
            return {**message, "bytes": whole}
        return message

    async def send(self, message: Message) -> None:
        """Send a message, unless the socket was closed here."""
        if not self._closed:
            await self._send(message)


def _unbounded(headers: Headers) -> Response | None:
    """Return the refusal of a request whose body is too large, or of unknown size; its connection is closed."""
    if "transfer-encoding" in headers:
        return PlainTextResponse(_NO_LENGTH, 411, _CLOSE)
    # uvicorn's parser has refused everything but one decimal number.
    return (
        PlainTextResponse(_TOO_LARGE, 413, _CLOSE) if int(headers.get("content-length", 0)) > MAX_BODY_BYTES else None
    )


def _asking_for_all(data: bytes) -> bytes | None:
    """Return a browser's message to run a part of the page as one to run all of it; None for other messages."""
    message = BackMsg()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    if not message.HasField("rerun_script"):
        return None
    message.rerun_script.fragment_id = ""
    message.rerun_script.is_auto_rerun = False
    return bytes(message.SerializeToString())


def _is_navigation(asked: HTTPConnection) -> bool:
    return asked.headers.get("sec-fetch-mode", "navigate") == "navigate" and "text/html" in asked.headers.get(
        "accept", ""
    )
