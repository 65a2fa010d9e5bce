"""Security headers on every answer."""

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control.people.settings import SignInSettings
from front.origins import own_origin
from front.start_page import start_html

_HSTS = "max-age=31536000"
_EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def policy(**sources: str) -> str:
    """Return a Content-Security-Policy; names with underscores for dashes."""
    return "; ".join(f"{name.replace('_', '-')} {value}" for name, value in sources.items())


def sha256_source(text: str) -> str:
    """Return how a policy names one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def plain_headers() -> dict[str, str]:
    """Return the headers of an answer that is made outside of SecurityHeaders."""
    return _EVERYWHERE | {"X-Frame-Options": "DENY"}


class SecurityHeaders:
    """The middleware; an answer that brings a policy of its own keeps it."""

    def __init__(self, app: ASGIApp, settings: SignInSettings) -> None:
        self._app, self._public_url = app, settings.public_url
        self._streamlit_policy, self._component_policy = _streamlit_policy(), _component_policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Components of packages run in a frame of their own; nothing else may be framed, and nobody else may frame.
        framed = scope["path"].startswith("/component/")
        origin = own_origin(scope, self._public_url)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_EVERYWHERE)
                headers["X-Frame-Options"] = "SAMEORIGIN" if framed else "DENY"
                headers.setdefault(
                    "Content-Security-Policy", self._component_policy if framed else self._streamlit_policy
                )
                if origin is not None and origin.startswith("https:"):
                    headers["Strict-Transport-Security"] = _HSTS
                    message["headers"] = [_secured(*header) for header in message["headers"]]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _secured(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Keep a cookie to encrypted connections; Streamlit does not know that a proxy makes them so."""
    if name.lower() == b"set-cookie" and b"; secure" not in value.lower():
        value += b"; Secure"
    return name, value


def _streamlit_policy() -> str:
    """Return what Streamlit's page may do: its own files, and the few scripts that stand in it."""
    inline = [sha256_source(script) for script in re.findall(r"<script>(.*?)</script>", start_html(), re.DOTALL)]
    return policy(
        default_src="'self'",
        # Streamlit loads the script of a component of ours from a blob of its own making.
        script_src=" ".join(["'self'", "blob:", *inline]),
        style_src="'self' 'unsafe-inline'",
        img_src="'self' data: blob:",
        font_src="'self' data:",
        connect_src="'self'",
        frame_src="'self'",
        object_src="'none'",
        base_uri="'none'",
        form_action="'self'",
        frame_ancestors="'none'",
    )


def _component_policy() -> str:
    """Return what a component of a package may do in its frame."""
    return policy(
        default_src="'self'",
        script_src="'self' 'unsafe-inline'",
        style_src="'self' 'unsafe-inline'",
        img_src="'self' data: blob:",
        base_uri="'none'",
        form_action="'none'",
        frame_ancestors="'self'",
    )
