"""The pages that are not Streamlit's: small, and complete without scripts or other files."""

from collections.abc import Mapping

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from control.home import REPO_ROOT
from front.headers import policy, sha256_source

_FOLDER = REPO_ROOT / "front" / "pages"
_STYLE = (_FOLDER / "style.css").read_text("utf-8")
_LOGO = (REPO_ROOT / "pages" / "parts" / "logo.svg").read_text("utf-8")
_POLICY = policy(
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
    """Return a page made from its template; nobody may keep a copy."""
    answer = HTMLResponse(_templates.get_template(template).render(values), status, headers)
    answer.headers["Content-Security-Policy"] = _POLICY
    answer.headers["Cache-Control"] = "no-store"
    return answer
