"""A real browser, a real Streamlit server, and a home whose prices never stand still."""

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from barmill.audit.roles import Role
from barmill.auth.sessions import session_cookie
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK
from benchmarks.browser import FLAGS
from tests.support.serving import serving
from tests.support.signed_in import signed_in
from tests.support.stores import Stores

HISTORY_S = 400
# These seconds of the history have no price, in one of the instruments.
GAP_S = range(100, 110)
# Long, because a busy machine is slow. Set only here: a change for some tests would apply to all that follow.
TIMEOUT_MS = 60_000
expect.set_options(timeout=TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class LiveHome:
    """A home that a thread feeds until it is paused.

    history_end_ms: where the history ends, on a full second; GAP_S counts back from there.
    """

    home: Home
    history_end_ms: int
    pause: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="package")
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHome]:
    home = Home(tmp_path_factory.mktemp("live") / "home").create()
    stores, end_ms = Stores(home), time.time_ns() // 1_000_000 // 1_000 * 1_000
    live, stop = LiveHome(home, end_ms), threading.Event()
    past = [(end_ms - 1_000 * s + 500, "AAA/USD", price(s), 2.0) for s in range(HISTORY_S, 0, -1) if s not in GAP_S]
    stores.write([*past, *((ms, "BBB", 7 + amount / 8, None) for ms, _, amount, _ in past)], closed_to_ms=end_ms)

    def feed() -> None:
        step = 0
        while not stop.wait(0.2):
            if not live.pause.is_set():
                now_ms, step = time.time_ns() // 1_000_000, step + 1
                stores.write([(now_ms - 50, "AAA/USD", price(-step), 0.5)], closed_to_ms=now_ms)

    thread = threading.Thread(target=feed)
    thread.start()
    yield live
    stop.set()
    thread.join()
    stores.close()


def price(step: int) -> float:
    """Return a price that wanders about 100 in steps of a cent."""
    return round(100 + 3 * math.sin(step / 40) + math.sin(step / 3), 2)


Serve = Callable[[Home], AbstractContextManager[str]]


@pytest.fixture(scope="package")
def serve() -> Serve:
    return serving


@pytest.fixture(scope="package")
def app(live_home: LiveHome) -> Iterator[str]:
    """The address of an app that shows the live home."""
    with serving(live_home.home) as address:
        yield address


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and everything it complained about or asked other machines for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


@contextmanager
def watching(chromium: Browser) -> Iterator[Watched]:
    """Yield a page in a separate browser, without a session."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    context.set_default_timeout(TIMEOUT_MS)
    watched = Watched(context.new_page())

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            watched.complaints.append(message.text)

    watched.page.on("console", heard)
    watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    watched.page.on(
        "request", lambda request: None if LOOPBACK in request.url else watched.elsewhere.append(request.url)
    )
    yield watched
    # The error of a route whose request is in flight when its page closes would fail the next test.
    watched.page.unroute_all(behavior="ignoreErrors")
    context.close()


def ran(page: Page) -> None:
    """Wait until the run of the page has ended, so that nothing of it is still to come or to move."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def sign_in(page: Page, home: Home, role: Role = Role.ADMIN, name: str = "") -> None:
    """Give the page's browser a session of this home, without the sign-in page."""
    token = signed_in(home, role, name)
    page.context.add_cookies([{"name": session_cookie(home), "value": token, "domain": LOOPBACK, "path": "/"}])


@pytest.fixture
def watched(chromium: Browser, live_home: LiveHome, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page that is signed in as an admin: of the live home, and of the test's own if it has one."""
    with watching(chromium) as watched:
        sign_in(watched.page, live_home.home)
        if "home" in request.fixturenames:
            sign_in(watched.page, request.getfixturevalue("home"))
        yield watched


@pytest.fixture
def stranger(chromium: Browser) -> Iterator[Watched]:
    """A page that is not signed in."""
    with watching(chromium) as watched:
        yield watched


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page
