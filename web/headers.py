"""Security headers for every response, and the pages that are served outside Streamlit."""

import base64
import hashlib
from collections.abc import Mapping

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from barmill.auth.settings import SignInSettings
from barmill.platform.home import REPO_ROOT
from web.browser import own_origin
from web.streamlit_compat import COMPONENTS_PATH, inline_scripts

_HSTS = "max-age=31536000"
_COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def content_security_policy(**sources: str) -> str:
    """Return a Content-Security-Policy; directive names have underscores instead of dashes."""
    return "; ".join(f"{name.replace('_', '-')} {value}" for name, value in sources.items())


def sha256_source(text: str) -> str:
    """Return the source expression of one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def plain_headers() -> dict[str, str]:
    """Return the headers for a response that does not pass through SecurityHeaders."""
    return _COMMON_HEADERS | {"X-Frame-Options": "DENY"}


class SecurityHeaders:
    """The middleware that adds security headers; a response with its own Content-Security-Policy keeps it."""

    def __init__(self, app: ASGIApp, settings: SignInSettings) -> None:
        self._app, self._public_url = app, settings.public_url
        self._streamlit_policy, self._component_policy = _streamlit_policy(), _component_policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and add the headers to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Only components of Python packages run in frames, and only in frames on Barmill's pages.
        is_component = scope["path"].startswith(COMPONENTS_PATH)
        origin = own_origin(scope, self._public_url)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_COMMON_HEADERS)
                headers["X-Frame-Options"] = "SAMEORIGIN" if is_component else "DENY"
                headers.setdefault(
                    "Content-Security-Policy", self._component_policy if is_component else self._streamlit_policy
                )
                if origin is not None and origin.startswith("https:"):
                    headers["Strict-Transport-Security"] = _HSTS
                    message["headers"] = [_with_secure_flag(*header) for header in message["headers"]]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _with_secure_flag(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Add Secure to a cookie; Streamlit does not know that a proxy encrypts the connection."""
    if name.lower() == b"set-cookie" and b"; secure" not in value.lower():
        value += b"; Secure"
    return name, value


def _streamlit_policy() -> str:
    """Return the policy of Streamlit's page: its own files, inline styles, and the few inline scripts it has."""
    inline = map(sha256_source, inline_scripts())
    return content_security_policy(
        default_src="'self'",
        # Streamlit loads the scripts of Barmill's components from blobs that it creates.
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
    """Return the policy of a component of a Python package, which runs in a frame."""
    return content_security_policy(
        default_src="'self'",
        script_src="'self' 'unsafe-inline'",
        style_src="'self' 'unsafe-inline'",
        img_src="'self' data: blob:",
        base_uri="'none'",
        form_action="'none'",
        frame_ancestors="'self'",
    )


_FOLDER = REPO_ROOT / "web" / "pages"
_STYLE = (_FOLDER / "style.css").read_text("utf-8")
_LOGO = (REPO_ROOT / "pages" / "parts" / "logo.svg").read_text("utf-8")
_POLICY = content_security_policy(
    default_src="'none'",
    style_src=sha256_source(_STYLE),
    img_src="'self' data:",
    form_action="'self'",
    base_uri="'none'",
    frame_ancestors="'none'",
)

_templates = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
_templates.globals.update(style=Markup(_STYLE), logo=Markup(_LOGO))


def page(
    template: str, values: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """Return a page rendered from its template, with headers that forbid caching."""
    response = HTMLResponse(_templates.get_template(template).render(values), status, headers)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Cache-Control"] = "no-store"
    return response
