"""Streamlit compatibility: everything that relies on undocumented parts of Streamlit 1.67.

After an upgrade, tests/web/test_streamlit_compat.py shows what is broken. Two other places rely on undocumented parts:
the theme's key in src/barmill/charts/browser/visitor/theme.js, and web/sign_in.py, which stores the state of a sign-in
at a provider in the session cookie of Streamlit's server.

The first response to a browser is Streamlit's page with two changes, because by default it connects slowly. It treats
the path of a page of Barmill as a possible base path of its server: it sends a request there, is refused, and waits a
tenth of a second before it connects to the root. And it requests the modules that show elements only when the first
element arrives, one round trip after the other.
"""

import mimetypes
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import streamlit
from google.protobuf.message import DecodeError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import runtime
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime.pages_manager import PagesManager

from barmill.platform.home import REPO_ROOT

_STATIC = Path(streamlit.__file__).parent / "static"
# Settings that Streamlit's page reads; with HOST_CONFIG it connects immediately and requests the server's settings in
# parallel.
_SERVER_SETTINGS = (
    "<script>window.__streamlit = {BACKEND_BASE_URL: location.origin,"
    " HOST_CONFIG: {allowedOrigins: [location.origin], useExternalAuthToken: false}}</script>"
)
PRELOADED_ELEMENTS = ("BidiComponent", "Button", "ButtonGroup", "Html", "Selectbox")
DEFAULT_PAGE = "overview"
# The components of Python packages, which run in frames, are served below this path.
COMPONENTS_PATH = "/component/"
# Streamlit has no settings for these: narrow margins leave more width for tables and charts; keyboard focus on a table,
# a link or the page must be visible; a page's timer must not be focusable.
STYLE = """<style>
.stMainBlockContainer { padding-inline: 2rem; }
.stMain:focus-visible { outline: 2px solid; outline-offset: -2px; }
.stDataFrame:has(:focus-visible), .stPageLink a:focus-visible { outline: 2px solid; outline-offset: 1px; }
iframe[title^="streamlit_autorefresh"] { visibility: hidden; }
</style>"""
_IMPORT = re.compile(r'from"\./([^"]+\.js)"')


def start_routes() -> list[Route]:
    """Return a route for each page of the app."""
    names = ["", *(path.stem for path in sorted((REPO_ROOT / "pages").glob("[!_]*.py")) if path.stem != DEFAULT_PAGE)]
    # Streamlit serves the default page only at /, and reports an unknown page at its name.
    return [Route(f"/{DEFAULT_PAGE}", _redirect_to_start_page), *(Route(f"/{name}", _start_page) for name in names)]


@cache
def start_html() -> str:
    """Return Streamlit's page, with the server's settings added."""
    before, head, after = _index_html().partition("<head>")
    return before + head + _SERVER_SETTINGS + after


def inline_scripts() -> list[str]:
    """Return the scripts in the page, which a Content-Security-Policy must name by their hashes."""
    return re.findall(r"<script>(.*?)</script>", start_html(), re.DOTALL)


@cache
def preload_header() -> str:
    """Return the value of a Link header that preloads the modules of PRELOADED_ELEMENTS and their imports."""
    index_html, file_names = _index_html(), dict[str, None]()
    for element in PRELOADED_ELEMENTS:
        for path in (_STATIC / "static" / "js").glob(f"{element}.*.js"):
            file_names.update(dict.fromkeys(_with_imports(path, set())))
    paths = (f"static/js/{name}" for name in file_names if name not in index_html)
    return ", ".join(f"<{path}>; rel=modulepreload; fetchpriority=low" for path in paths)


async def _redirect_to_start_page(request: Request) -> Response:
    return RedirectResponse(f"./?{request.url.query}" if request.url.query else "./")


async def _start_page(_request: Request) -> Response:
    return HTMLResponse(start_html(), headers={"Cache-Control": "no-cache", "Link": preload_header()})


def _index_html() -> str:
    return (_STATIC / "index.html").read_text("utf-8")


def _with_imports(path: Path, seen_names: set[str]) -> Iterator[str]:
    seen_names.add(path.name)
    yield path.name
    for name in _IMPORT.findall(path.read_text("utf-8")):
        if name not in seen_names:
            yield from _with_imports(path.parent / name, seen_names)


# The same as Streamlit sends: the names contain a hash of the content.
_CACHE_CONTROL = "public, immutable, max-age=31536000"


class StaticFiles:
    """The middleware that serves Streamlit's static files from memory; other requests go to Streamlit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        paths = (path for path in (_STATIC / "static").rglob("*") if path.is_file())
        self._files = {f"/{path.relative_to(_STATIC).as_posix()}": path for path in paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to requests for static files; forward others."""
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        path = self._files.get(scope["path"]) if is_get else None
        await (self._app if path is None else _file_response(path))(scope, receive, send)


@cache
def _file_response(path: Path) -> Response:
    media_type = mimetypes.guess_type(path)[0]
    return Response(path.read_bytes(), media_type=media_type, headers={"Cache-Control": _CACHE_CONTROL})


def set_main_script(script: Path) -> None:
    """Set the launched script, whose folder becomes Streamlit's first import path."""
    sys.argv = [str(script)]


async def is_serving() -> bool:
    """Return whether the app accepts browsers."""
    return runtime.exists() and (await runtime.get_instance().is_ready_for_browser_connection)[0]


def was_app_bypassed() -> bool:
    """Return whether Streamlit runs a page without app.py, and prevent that for the next run.

    Until `st.navigation` is called for the first time in a server's life, Streamlit treats any file in `pages/` as a
    page and runs it without app.py, for any visitor who opens its address.
    """
    bypassed = bool(PagesManager.uses_pages_directory)
    if bypassed:
        PagesManager.uses_pages_directory = False
    return bypassed


def as_whole_rerun(data: bytes) -> bytes | None:
    """Return a browser's request to rerun a part of the page, changed to rerun all of it; None for other messages."""
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
