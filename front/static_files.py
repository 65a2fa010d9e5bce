"""Streamlit's own scripts, styles and fonts, answered from memory.

A browser that is new here asks for some ninety of them before it shows anything. Most are small, and to find, open,
read and close one on other threads takes longer than all the rest of its answer.
"""

import mimetypes
from functools import cache
from pathlib import Path

import streamlit
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_STREAMLIT = Path(streamlit.__file__).parent / "static"
# As Streamlit says of them: their names carry a hash of what is inside.
_CACHE_CONTROL = "public, immutable, max-age=31536000"


class StaticFiles:
    """The middleware; what is not one of these files goes on to Streamlit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        paths = (path for path in (_STREAMLIT / "static").rglob("*") if path.is_file())
        self._files = {f"/{path.relative_to(_STREAMLIT).as_posix()}": path for path in paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, if it is one of them."""
        asked = scope["type"] == "http" and scope["method"] == "GET"
        path = self._files.get(scope["path"]) if asked else None
        await (self._app if path is None else _answer(path))(scope, receive, send)


@cache
def _answer(path: Path) -> Response:
    media_type = mimetypes.guess_type(path)[0]
    return Response(path.read_bytes(), media_type=media_type, headers={"Cache-Control": _CACHE_CONTROL})
