"""The routes of those who are not signed in yet: sign in by password, or choose one with a one-time link."""

from collections.abc import Mapping

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.errors import ControlError
from control.home import Home
from control.people import sign_in as people
from control.people.database import open_people
from control.people.errors import LinkError, TooManyFailuresError
from control.people.passwords import MIN_LENGTH
from control.people.settings import SignInSettings
from front.browser import client_of, form, signed_in_answer, who_of
from front.html_pages import page
from front.origins import is_local_path

# A password takes a core for half a second.
_THREADS = 2


class SignInRoutes:
    """The handlers over one home."""

    def __init__(self, home: Home, settings: SignInSettings) -> None:
        self._home, self._settings = home, settings
        self._threads = CapacityLimiter(_THREADS)  # used for nothing else, so that no other request keeps a person out

    async def show_sign_in(self, request: Request) -> Response:
        """Show the form, or go on to where somebody who is signed in wants to be."""
        wanted = _local(request.query_params.get("next", "/"))
        return RedirectResponse(wanted, 303) if who_of(request) else self._sign_in_page(wanted)

    async def sign_in(self, request: Request) -> Response:
        """Let somebody in by name and password."""
        fields = await form(request) or {}
        name, password, wanted = fields.get("name", ""), fields.get("password", ""), _local(fields.get("next", "/"))
        client = client_of(request)

        def let_in() -> str:
            with open_people(self._home) as db:
                return people.sign_in(db, name, password, client, self._settings)

        try:
            token = await to_thread.run_sync(let_in, limiter=self._threads)
        except TooManyFailuresError as error:
            return self._sign_in_page(wanted, name, str(error), 429, {"Retry-After": str(error.wait_s)})
        except ControlError as error:
            return self._sign_in_page(wanted, name, str(error), 403)
        return signed_in_answer(request, self._home, self._settings, token, wanted)

    async def show_welcome(self, request: Request) -> Response:
        """Show the form behind a one-time link; looking at it uses nothing up."""
        return await self._welcome_page(request.query_params.get("token", ""))

    async def welcome(self, request: Request) -> Response:
        """Choose the password, and let its owner in."""
        fields = await form(request) or {}
        token, password = fields.get("token", ""), fields.get("password", "")
        if password != fields.get("again"):
            return await self._welcome_page(token, "The two passwords are not the same.")
        client = client_of(request)

        def let_in() -> str:
            with open_people(self._home) as db:
                return people.welcome(db, token, password, client, self._settings)

        try:
            session = await to_thread.run_sync(let_in, limiter=self._threads)
        except ControlError as error:
            return await self._welcome_page(token, str(error))
        return signed_in_answer(request, self._home, self._settings, session, "/")

    def _sign_in_page(
        self, wanted: str, name: str = "", error: str = "", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        provider = self._settings.oidc.label if self._settings.oidc else ""
        values = {"title": "Sign in", "next": wanted, "name": name, "error": error, "provider": provider}
        return page("sign_in.html", values, status=status, headers=headers)

    async def _welcome_page(self, token: str, error: str = "") -> Response:
        def whose() -> str:
            with open_people(self._home) as db:
                return people.link_account(db, token)

        try:
            name = await to_thread.run_sync(whose, limiter=self._threads)
        except LinkError as dead:
            return page("message.html", {"title": "Welcome", "text": str(dead)}, status=404)
        values = {"title": "Welcome", "token": token, "name": name, "error": error, "min_length": MIN_LENGTH}
        return page("welcome.html", values, status=422 if error else 200)


def _local(path: str) -> str:
    return path if is_local_path(path) else "/"
