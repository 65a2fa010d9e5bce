"""Which of Streamlit's modules a browser is told to fetch early.

Streamlit's page names the modules that it starts with. Those that show elements it asks for only when the first element
comes, one round trip after the other; but every page of ours needs the same few, so they can come while the page's
script runs here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import streamlit

_STATIC = Path(streamlit.__file__).parent / "static"
_ELEMENTS = ("BidiComponent", "Button", "ButtonGroup", "Html", "Selectbox")
_IMPORT = re.compile(r'from"\./([^"]+\.js)"')


def preload_header() -> str:
    """Return the value of a Link header that names these modules and what they import."""
    named = (_STATIC / "index.html").read_text("utf-8")
    found: dict[str, None] = {}
    for element in _ELEMENTS:
        for path in (_STATIC / "static" / "js").glob(f"{element}.*.js"):
            found.update(dict.fromkeys(_with_imports(path, set())))
    paths = (f"static/js/{name}" for name in found if name not in named)
    return ", ".join(f"<{path}>; rel=modulepreload; fetchpriority=low" for path in paths)


def _with_imports(path: Path, seen: set[str]) -> Iterator[str]:
    seen.add(path.name)
    yield path.name
    for name in _IMPORT.findall(path.read_text("utf-8")):
        if name not in seen:
            yield from _with_imports(path.parent / name, seen)
