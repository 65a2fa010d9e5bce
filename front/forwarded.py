"""For whom a proxy speaks: the address that the proxy itself saw, which is the last one in X-Forwarded-For.

What comes before the last one was sent by the client, who may write anything there. uvicorn skips addresses that it
trusts from the right, so a client within a trusted network chooses the address that wrong passwords are counted for.
"""

from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_ENCRYPTED = {"http": "https", "ws": "wss"}


class Forwarded:
    """The middleware. proxy: the address or network of the only proxy that is believed, or None."""

    def __init__(self, app: ASGIApp, proxy: str | None) -> None:
        self._app = app
        self._proxy = None if proxy is None else ip_network(proxy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the visitor's address and scheme in place of the proxy's."""
        if scope["type"] in ("http", "websocket") and self._is_proxy(scope):
            scope = _as_the_visitor_sent_it(scope)
        await self._app(scope, receive, send)

    def _is_proxy(self, scope: Scope) -> bool:
        peer = _address((scope.get("client") or ("",))[0])
        return peer is not None and self._proxy is not None and ip_address(peer) in self._proxy


def _as_the_visitor_sent_it(scope: Scope) -> Scope:
    headers, changed = Headers(scope=scope), dict[str, object]()
    forwarded = headers.getlist("x-forwarded-for")
    address = _address(forwarded[-1].rpartition(",")[2]) if forwarded else None
    if address is not None:
        changed["client"] = (address, 0)
    schemes = headers.getlist("x-forwarded-proto")
    if schemes and schemes[-1].rpartition(",")[2].strip().lower() in ("https", "wss"):
        changed["scheme"] = _ENCRYPTED.get(scope["scheme"], scope["scheme"])
    return {**scope, **changed}


def _address(text: str) -> str | None:
    """Return an address without its port, or None where the text is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
