"""What our own routes read from a request and write into an answer."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.home import Home
from control.people.sessions import Client, SignedIn, session_cookie
from control.people.settings import SignInSettings
from front.origins import own_origin

_MAX_FORM_BYTES = 16_384


async def form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form that was sent, or None if it is too large for one of ours."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MAX_FORM_BYTES:
        return None
    async with request.form(max_files=0, max_fields=20) as fields:
        return {name: value for name, value in fields.items() if isinstance(value, str)}


def client_of(request: Request) -> Client:
    """Return where a request comes from."""
    return Client(request.client.host if request.client else "unknown", request.headers.get("user-agent", ""))


def who_of(request: Request) -> SignedIn | None:
    """Return who is behind a request, as the gate found out."""
    who: SignedIn | None = request.scope["signed_in"]
    return who


def signed_in_answer(request: Request, home: Home, settings: SignInSettings, token: str, path: str) -> Response:
    """Hand the browser its session and send it to a page."""
    answer = RedirectResponse(path, 303)
    origin = own_origin(request.scope, settings.public_url) or ""
    answer.set_cookie(
        session_cookie(home),
        token,
        max_age=settings.session_ms // 1_000,
        path="/",
        secure=origin.startswith("https:"),
        httponly=True,
        # Strict would ask whoever follows a link from a chat to sign in again.
        samesite="lax",
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
