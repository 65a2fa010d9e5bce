"""Pages run as a signed-in admin, unless a test says who looks."""

import sys
from collections.abc import Callable

import pytest

from control.home import Home
from control.people.roles import Role
from pages.parts import visitor
from tests.signed_in import signed_in

LookAs = Callable[[Role], str]


@pytest.fixture
def look_as(home: Home, monkeypatch: pytest.MonkeyPatch) -> LookAs:
    """Let whoever has this role look at the pages from now on; returns the token of their session."""

    def look(role: Role) -> str:
        token = signed_in(home, role)
        monkeypatch.setattr(visitor, "session_token", lambda: token)
        return token

    return look


@pytest.fixture(autouse=True)
def _main_module_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a page that runs makes of `__main__`, from which processes of later tests would start."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def _admin_looks(request: pytest.FixtureRequest) -> None:
    if "home" in request.fixturenames:
        request.getfixturevalue("look_as")(Role.ADMIN)
