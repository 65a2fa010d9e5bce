"""Helpers for routes: fields of requests, session cookies, and checks of hosts and redirects."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from barmill.auth.sessions import Client, SignedInUser, session_cookie
from barmill.auth.settings import SignInSettings
from barmill.platform.home import Home

_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def own_origin(scope: Scope, public_url: str | None) -> str | None:
    """Return Barmill's origin as the browser sees it, or None if the Host header is not one of Barmill's addresses.

    Another site can let its name resolve to Barmill's address (DNS rebinding), but it cannot change the Host header.
    """
    host = Headers(scope=scope).get("host", "").lower()
    if public_url is not None and urlsplit(public_url).netloc == host:
        return public_url
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if name not in _LOOPBACK_NAMES or parts.netloc != host or "@" in host:
        return None
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    return f"{scheme}://{host}"


def is_local_path(text: str) -> bool:
    """Return whether a path leads to a page of Barmill, so that a redirect to it is safe."""
    if not text.startswith("/") or text.startswith("//") or "\\" in text:
        return False  # browsers treat a backslash as a slash
    return text.isprintable() and not any(character.isspace() for character in text)


_MAX_FORM_BYTES = 16_384


async def read_form(request: Request) -> dict[str, str] | None:
    """Return the fields of a submitted form, or None if it is too large or its size is unknown."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MAX_FORM_BYTES:
        return None
    async with request.form(max_files=0, max_fields=20) as fields:
        return {name: value for name, value in fields.items() if isinstance(value, str)}


def client_of(request: Request) -> Client:
    """Return the address and user agent of a request."""
    return Client(request.client.host if request.client else "unknown", request.headers.get("user-agent", ""))


def user_of(request: Request) -> SignedInUser | None:
    """Return the signed-in user of a request, as the gate determined it."""
    signed_in: SignedInUser | None = request.scope["signed_in"]
    return signed_in


def signed_in_response(request: Request, home: Home, settings: SignInSettings, token: str, path: str) -> Response:
    """Return a redirect to `path` that sets the session cookie to `token`."""
    response = RedirectResponse(path, 303)
    origin = own_origin(request.scope, settings.public_url) or ""
    response.set_cookie(
        session_cookie(home),
        token,
        max_age=settings.session_ms // 1_000,
        path="/",
        secure=origin.startswith("https:"),
        httponly=True,
        # With Strict, users who follow a link from another site would have to sign in again.
        samesite="lax",
    )
    response.headers["Cache-Control"] = "no-store"
    return response
