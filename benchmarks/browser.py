"""A headless Chromium that opens pages of a private Barmill, and their cost: main thread, heap, bytes received."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, TimeoutError, sync_playwright

from barmill.audit.accounts import all_accounts, open_audited_db
from barmill.audit.roles import Role
from barmill.auth.administration import insert_account
from barmill.auth.sessions import Client, session_cookie, start_session
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate
from benchmarks.private_home import PrivateHomeError

_EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
# Features that would disturb the measurement: requests to other hosts, and an invisible list under the address bar,
# which is drawn for each new window and takes more than half a second of a core. Each context of a headless browser
# opens a window.
_DISABLED_FEATURES = (
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
    f"--disable-features={','.join(_DISABLED_FEATURES)}",
)
_ACCOUNT = "bench"
_TEXT_OPCODE = 1  # the opcode of a text frame; other frames arrive as base64


@contextmanager
def headless_browser() -> Iterator[Browser]:
    """Run a headless browser: the machine's Chromium, or else Playwright's."""
    executable = next(filter(None, map(shutil.which, _EXECUTABLES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def signed_in_context(browser: Browser, home: Home, app: str) -> BrowserContext:
    """Return a context with a new session of a trader."""
    with open_audited_db(home) as db, immediate(db):
        if _ACCOUNT not in {account.name for account in all_accounts(db)}:
            insert_account(db, _ACCOUNT, Role.TRADER)
        client = Client("127.0.0.1", "a benchmark")
        token = start_session(db, _ACCOUNT, client, SignInSettings.read(home), now_ms())
    context = browser.new_context(viewport={"width": 1366, "height": 900}, color_scheme="dark")
    context.add_cookies([{"name": session_cookie(home), "value": token, "url": app}])
    return context


def open_until_updated(page: Page, address: str, css: str, timeout_ms: float = 60_000) -> None:
    """Open a page and wait for its first update; raise PrivateHomeError if none arrives."""
    script = "css => Number(document.querySelector(css)?.dataset.updates) >= 1"
    try:
        page.goto(address, timeout=timeout_ms)
        page.wait_for_function(script, arg=css, timeout=timeout_ms)
    except TimeoutError as error:
        raise PrivateHomeError(f"{address} received no update; see log/app.log in the home.") from error


@dataclass
class Cost:
    """The cost of a page, as Chromium measures it.

    received_bytes: of the WebSocket, before compression, and of HTTP responses including headers.
    """

    page: Page
    cdp: CDPSession
    received_bytes: int = 0

    @classmethod
    def of(cls, page: Page) -> "Cost":
        """Return the cost of a page, counted from now on."""
        cost = cls(page, page.context.new_cdp_session(page))
        cost.cdp.on("Network.webSocketFrameReceived", cost._receive)
        cost.cdp.on("Network.loadingFinished", cost._finish)
        cost.cdp.send("Network.enable")
        cost.cdp.send("HeapProfiler.enable")
        # The CPU time of the thread, not the wall time in which others used its core.
        cost.cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
        return cost

    def busy_ms(self) -> float:
        """Return the CPU time in ms that the page's main thread has used so far."""
        metrics = self.cdp.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")) * 1_000

    def wait(self, length_s: float) -> None:
        """Let time pass while events of the browser are processed."""
        self.page.wait_for_timeout(length_s * 1_000)

    def heap_mb(self) -> float:
        """Return the size of the used heap in MB after a garbage collection."""
        self.cdp.send("HeapProfiler.collectGarbage")
        return float(self.cdp.send("Runtime.getHeapUsage")["usedSize"]) / 1e6

    def _receive(self, event: dict[str, dict[str, object]]) -> None:
        frame = event["response"]
        payload = str(frame["payloadData"])
        size = len(payload.encode()) if frame["opcode"] == _TEXT_OPCODE else len(base64.b64decode(payload))
        self.received_bytes += size

    def _finish(self, event: dict[str, float]) -> None:
        self.received_bytes += round(event["encodedDataLength"])
