"""The real server, and clients of it."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from barmill.auth.sessions import session_cookie
from barmill.platform.home import Home
from tests.support.serving import serving

Visit = Callable[..., httpx.Client]


@pytest.fixture(scope="package")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("web") / "home").create()


@pytest.fixture(scope="package")
def app(served_home: Home) -> Iterator[str]:
    """The address of the app of `served_home`."""
    with serving(served_home) as address:
        yield address


@pytest.fixture
def visit(app: str, served_home: Home) -> Iterator[Visit]:
    """Make clients that behave as browsers do; `token` is the session they have."""
    clients: list[httpx.Client] = []

    def open_client(token: str = "", **headers: str) -> httpx.Client:
        cookies = {session_cookie(served_home): token} if token else {}
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = {"Accept": "text/html", "Origin": app} | own
        clients.append(httpx.Client(base_url=app, cookies=cookies, headers=asked, timeout=30))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()
