"""A headless Chromium that looks at a private Barmill, and what it costs: main thread, heap, bytes received."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, TimeoutError, sync_playwright

from bar.clock import now_ms
from benchmarks.private_home import PrivateHomeError
from control.database import immediate
from control.home import Home
from control.people.accounts import all_accounts
from control.people.administration import insert_account
from control.people.database import open_people
from control.people.roles import Role
from control.people.sessions import Client, session_cookie, start_session
from control.people.settings import SignInSettings

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# What Chromium would do beside the page: ask other machines for things, and for each new window, which every context of
# a headless one is, draw the list under an address bar that nobody sees, which takes more than half a second of a core.
_FEATURES_OFF = (
    "HttpsUpgrades",
    "MediaRouter",
    "OptimizationHints",
    "Translate",
    "WebUIOmniboxAimPopup",
    "WebUIOmniboxFullPopup",
    "WebUIOmniboxPopup",
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(_FEATURES_OFF)}",
)
_ACCOUNT = "bench"
_TEXT = 1  # the opcode of a websocket frame that holds text; others come as base64


@contextmanager
def browsing() -> Iterator[Browser]:
    """Lend a browser: the machine's Chromium, else the one that Playwright has installed."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


def signed_in_context(browser: Browser, home: Home, app: str) -> BrowserContext:
    """Return a context with a session of its own, of a trader."""
    with open_people(home) as db, immediate(db):
        if _ACCOUNT not in {one.name for one in all_accounts(db)}:
            insert_account(db, _ACCOUNT, Role.TRADER)
        client = Client("127.0.0.1", "a benchmark")
        token = start_session(db, _ACCOUNT, client, SignInSettings.read(home), now_ms())
    context = browser.new_context(viewport={"width": 1366, "height": 900}, color_scheme="dark")
    context.add_cookies([{"name": session_cookie(home), "value": token, "url": app}])
    return context


def open_and_see(page: Page, address: str, css: str, timeout_ms: float = 60_000) -> None:
    """Open a page and wait until it has taken an update; raise PrivateHomeError where none comes."""
    script = "css => Number(document.querySelector(css)?.dataset.updates) >= 1"
    try:
        page.goto(address, timeout=timeout_ms)
        page.wait_for_function(script, arg=css, timeout=timeout_ms)
    except TimeoutError as error:
        raise PrivateHomeError(f"{address} takes no update; the log of the app is in the home's folder log.") from error


@dataclass
class Cost:
    """What a page costs, as Chromium itself counts it.

    received_bytes: of the websocket, before any compression, and of answers over HTTP with their headers.
    """

    page: Page
    cdp: CDPSession
    received_bytes: int = 0

    @classmethod
    def of(cls, page: Page) -> "Cost":
        """Count from now on."""
        cost = cls(page, page.context.new_cdp_session(page))
        cost.cdp.on("Network.webSocketFrameReceived", cost._receive)
        cost.cdp.on("Network.loadingFinished", cost._finish)
        cost.cdp.send("Network.enable")
        cost.cdp.send("HeapProfiler.enable")
        # The time the thread itself had, not that in which others had its core.
        cost.cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
        return cost

    def busy_ms(self) -> float:
        """Return for how long the page's main thread has worked so far."""
        metrics = self.cdp.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration")) * 1_000

    def wait(self, length_s: float) -> None:
        """Let time pass, in which what the browser says is heard."""
        self.page.wait_for_timeout(length_s * 1_000)

    def heap_mb(self) -> float:
        """Return how much of the heap is in use when all garbage is gone."""
        self.cdp.send("HeapProfiler.collectGarbage")
        return float(self.cdp.send("Runtime.getHeapUsage")["usedSize"]) / 1e6

    def _receive(self, event: dict[str, dict[str, object]]) -> None:
        frame = event["response"]
        payload = str(frame["payloadData"])
        size = len(payload.encode()) if frame["opcode"] == _TEXT else len(base64.b64decode(payload))
        self.received_bytes += size

    def _finish(self, event: dict[str, float]) -> None:
        self.received_bytes += round(event["encodedDataLength"])
