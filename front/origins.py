"""Which addresses are ours: what a browser says it asked for, and where it says it comes from."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def own_origin(scope: Scope, public_url: str | None) -> str | None:
    """Return the origin under which the browser knows us, or None if this is no address of ours.

    A page elsewhere can give its own name our address (DNS rebinding); what it cannot change is the Host it sends.
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
    """Tell whether this leads to a page of ours, so that it is safe to send somebody there."""
    if not text.startswith("/") or text.startswith("//") or "\\" in text:
        return False  # browsers read a backslash as a slash
    return text.isprintable() and not any(character.isspace() for character in text)
