"""What a browser begins with: Streamlit's own page, told where its server is and what every page of ours needs soon.

Left to itself, Streamlit's page takes the path of a page of ours for one that its server may have, asks there, is
refused, waits a tenth of a second and asks again before it connects; and the modules that show elements it asks for
only when the first element comes, one round trip after the other.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import streamlit
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from control.home import REPO_ROOT

_STATIC = Path(streamlit.__file__).parent / "static"
# As Streamlit reads it; with the second part it connects at once, and asks for the server's settings meanwhile.
_SERVER = (
    "<script>window.__streamlit = {BACKEND_BASE_URL: location.origin,"
    " HOST_CONFIG: {allowedOrigins: [location.origin], useExternalAuthToken: false}}</script>"
)
_ELEMENTS = ("BidiComponent", "Button", "ButtonGroup", "Html", "Selectbox")
_IMPORT = re.compile(r'from"\./([^"]+\.js)"')


def start_routes() -> list[Route]:
    """Return a route for each page of the app."""
    names = ["", *(path.stem for path in sorted((REPO_ROOT / "pages").glob("[!_]*.py")))]
    return [Route(f"/{name}", _answer) for name in names]


@cache
def start_html() -> str:
    """Return the page."""
    before, head, after = _streamlits_own().partition("<head>")
    return before + head + _SERVER + after


@cache
def preload_header() -> str:
    """Return the value of a Link header that names these modules and what they import."""
    own, found = _streamlits_own(), dict[str, None]()
    for element in _ELEMENTS:
        for path in (_STATIC / "static" / "js").glob(f"{element}.*.js"):
            found.update(dict.fromkeys(_with_imports(path, set())))
    paths = (f"static/js/{name}" for name in found if name not in own)
    return ", ".join(f"<{path}>; rel=modulepreload; fetchpriority=low" for path in paths)


async def _answer(_request: Request) -> Response:
    return HTMLResponse(start_html(), headers={"Cache-Control": "no-cache", "Link": preload_header()})


def _streamlits_own() -> str:
    return (_STATIC / "index.html").read_text("utf-8")


def _with_imports(path: Path, seen: set[str]) -> Iterator[str]:
    seen.add(path.name)
    yield path.name
    for name in _IMPORT.findall(path.read_text("utf-8")):
        if name not in seen:
            yield from _with_imports(path.parent / name, seen)
