"""The routes of a session: is it alive, it is in use, and its end."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bar.clock import now_ms
from control.home import Home
from control.people import sessions
from control.people.database import open_people
from control.people.sessions import SEEN_EVERY_MS, session_cookie
from front.browser import who_of


class SessionRoutes:
    """The handlers over one home, behind the gate."""

    def __init__(self, home: Home) -> None:
        self._home = home

    async def look(self, _request: Request) -> Response:
        """Say that the session is alive; the gate says so when it is not."""
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    async def seen(self, request: Request) -> Response:
        """Note that somebody sits before the page and does something."""
        who = who_of(request)
        if who is not None and now_ms() - who.seen_ms >= SEEN_EVERY_MS:

            def touch() -> None:
                with open_people(self._home) as db:
                    sessions.touch(db, who.session, now_ms())

            await run_in_threadpool(touch)
        return await self.look(request)

    async def sign_out(self, request: Request) -> Response:
        """End the session, also when Streamlit is busy."""
        if (who := who_of(request)) is not None:

            def end() -> None:
                with open_people(self._home) as db:
                    sessions.sign_out(db, who)

            await run_in_threadpool(end)
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(session_cookie(self._home), path="/", httponly=True, samesite="lax")
        return answer
