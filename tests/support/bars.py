"""Helpers of test_bars.py that other tests use too."""

import asyncio
from collections.abc import Callable

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from barmill.audit.roles import Role
from barmill.auth.sessions import SignedInUser
from barmill.model.frames import parse_frame
from barmill.platform.home import Home
from web.bars import BarRoutes

NOON_MS = 1_764_072_000_000


AAA, MINUTE = "AAA/USD", parse_frame("1m")


Ask = Callable[..., httpx.Response]


class SignedInAs:
    """What the gate does for a request that passes."""

    def __init__(self, app: ASGIApp, role: Role, name: str = "bob") -> None:
        self._app, self._who = app, SignedInUser("session", name, role, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "signed_in": self._who}, receive, send)


def asking(home: Home, role: Role = Role.TRADER) -> Ask:
    app = SignedInAs(Starlette(routes=BarRoutes(home).routes()), role)

    def get(path: str, **asked: object) -> httpx.Response:
        async def answered() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await client.get(path, params={name.rstrip("_"): str(value) for name, value in asked.items()})

        return asyncio.run(answered())

    return get
