"""The program that takes the screenshots of the documentation from a running Barmill, as its first admin.

BARMILL_HOME=... PYTHONPATH=.:src python -m tools.make_screenshots --app http://127.0.0.1:8501 --out docs/pictures
"""

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from barmill.audit.accounts import all_accounts, open_audited_db
from barmill.audit.roles import Role
from barmill.auth.sessions import Client, find_session, session_cookie, sign_out, start_session
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate
from benchmarks.browser import FLAGS

_SIZE = {"width": 1440, "height": 900}
_THEMES = ("dark", "light")
_CHART = ".barmill-candles canvas"
_WATCHLIST = ".barmill-watchlist tbody tr"
_UPDATES = "css => Number(document.querySelector(css)?.dataset.updates) >= 3"


def overview(page: Page, app: str) -> None:
    """Open the overview and wait for its watchlist."""
    page.goto(app)
    page.locator(_WATCHLIST).first.wait_for()
    page.locator(".barmill-facts polyline[points*=' ']").wait_for(state="attached")


def chart(page: Page, app: str) -> None:
    """Open the 1s chart of the busiest instrument and point at a bar."""
    page.goto(f"{app}/chart?frame=1s")
    page.wait_for_function(_UPDATES, arg=_CHART)
    page.locator(_CHART).hover(position={"x": 700, "y": 300})


def week(page: Page, app: str) -> None:
    """Open a week of the busiest instrument as a 1h chart with studies."""
    page.goto(f"{app}/chart?frame=1h&studies=ema:50,bb:20:2,volavg:20,rsi:14,macd:12:26:9")
    page.wait_for_function(_UPDATES, arg=_CHART)


def study(page: Page, app: str) -> None:
    """Open the study of the newest bars of the busiest instrument and point at a bar."""
    page.goto(f"{app}/study?frame=1m&studies=ema:20,bb:20:2,rsi:14")
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")
    page.locator(".js-plotly-plot .nsewdrag").first.hover(position={"x": 500, "y": 120})


def compare(page: Page, app: str) -> None:
    """Open the comparison of the busiest instruments over the last 15 minutes."""
    page.goto(f"{app}/compare?range=15m")
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")


def frames(page: Page, app: str) -> None:
    """Open the 1s, 1m and 1h charts of the busiest instrument with two studies and a shared cursor."""
    page.goto(f"{app}/frames?studies=sma:20,rsi:14")
    page.wait_for_function(_UPDATES, arg=_CHART)
    page.locator(_CHART).first.hover(position={"x": 200, "y": 200})


def jobs(page: Page, app: str) -> None:
    """Open the page of the job `bars`, with its runs."""
    page.goto(f"{app}/jobs?job=bars")
    page.get_by_text("The job is running.").first.wait_for()
    page.locator(".js-plotly-plot .bars").first.wait_for(state="attached")


def monitoring(page: Page, app: str) -> None:
    """Open the monitoring page with the last 15 minutes."""
    page.goto(f"{app}/monitoring?range=15m")
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")


_PICTURES: Mapping[str, Callable[[Page, str], None]] = {
    function.__name__: function for function in (overview, week, chart, frames, study, compare, jobs, monitoring)
}


@contextmanager
def admin_session(home: Home) -> Iterator[str]:
    """Yield the token of a new session of the first enabled admin, and sign it out afterwards."""
    with open_audited_db(home) as db:
        name = next(account.name for account in all_accounts(db) if account.role is Role.ADMIN and not account.disabled)
        with immediate(db):
            token = start_session(db, name, Client("127.0.0.1", "pictures"), SignInSettings.read(home), now_ms())
        yield token
        if (identity := find_session(db, token, now_ms())) is not None:
            sign_out(db, identity)


def main() -> None:
    """Take each picture in the dark and the light theme."""
    parser = argparse.ArgumentParser(description="Take the pictures of the app for the documentation.")
    parser.add_argument("--app", default="http://127.0.0.1:8501", help="address of a running app")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--only", choices=_PICTURES, nargs="+", default=list(_PICTURES), help="the pictures to take")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    home = Home.find()
    with admin_session(home) as token, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for theme in _THEMES:
            context = browser.new_context(viewport=_SIZE, color_scheme=theme)  # type: ignore[arg-type]
            context.add_cookies([{"name": session_cookie(home), "value": token, "url": args.app}])
            for name in args.only:
                page = context.new_page()
                _PICTURES[name](page, args.app)
                page.screenshot(path=args.out / f"{name}-{theme}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
