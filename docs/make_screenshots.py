"""Take the pictures of the app that the documentation shows, from a running Barmill, as one of its admins.

BARMILL_HOME=... PYTHONPATH=. python docs/make_screenshots.py --app http://127.0.0.1:8501 --out docs/pictures
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bar.clock import now_ms
from benchmarks.browser import FLAGS
from control.database import immediate
from control.home import Home
from control.people.accounts import all_accounts
from control.people.database import open_people
from control.people.roles import Role
from control.people.sessions import Client, session_cookie, sign_out, signed_in, start_session
from control.people.settings import SignInSettings

_SIZE = {"width": 1440, "height": 900}
_LOOKS = ("dark", "light")
_CHART = ".barmill-candles canvas"
_BOARD = ".barmill-watchlist tbody tr"
_UPDATES = "css => Number(document.querySelector(css)?.dataset.updates) >= 3"


def overview(page: Page, app: str) -> None:
    """Open the overview and wait for its board."""
    page.goto(app)
    page.locator(_BOARD).first.wait_for()
    page.locator(".barmill-facts polyline[points*=' ']").wait_for(state="attached")


def chart(page: Page, app: str) -> None:
    """Open the chart of the busiest instrument, second by second, and point at one of its bars."""
    page.goto(f"{app}/chart?frame=1s")
    page.wait_for_function(_UPDATES, arg=_CHART)
    page.locator(_CHART).hover(position={"x": 700, "y": 300})


def study(page: Page, app: str) -> None:
    """Open the study of the newest bars of one instrument, and point at one of them."""
    page.goto(f"{app}/study?frame=1m&studies=ema:20,bb:20:2,rsi:14")
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")
    page.locator(".js-plotly-plot .nsewdrag").first.hover(position={"x": 500, "y": 120})


def compare(page: Page, app: str) -> None:
    """Open the first instruments side by side, as they moved in the last quarter of an hour."""
    page.goto(f"{app}/compare?range=15m")
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")


def frames(page: Page, app: str) -> None:
    """Open second, minute and hour of the busiest instrument with two studies, under one cursor."""
    page.goto(f"{app}/frames?studies=sma:20,rsi:14")
    page.wait_for_function(_UPDATES, arg=_CHART)
    page.locator(_CHART).first.hover(position={"x": 200, "y": 200})


def jobs(page: Page, app: str) -> None:
    """Open the page of the first job, with its runs."""
    page.goto(f"{app}/jobs?job=bars")
    page.get_by_text("The job is running.").first.wait_for()
    page.locator(".js-plotly-plot .bars").first.wait_for(state="attached")


def monitoring(page: Page, app: str) -> None:
    """Open what the controller has measured."""
    page.goto(f"{app}/monitoring")
    page.locator(".js-plotly-plot .scatterlayer path").first.wait_for(state="attached")


@contextmanager
def admin_session(home: Home) -> Iterator[str]:
    """Lend the token of a session of the first admin."""
    with open_people(home) as db:
        name = next(one.name for one in all_accounts(db) if one.role is Role.ADMIN and not one.disabled)
        with immediate(db):
            token = start_session(db, name, Client("127.0.0.1", "pictures"), SignInSettings.read(home), now_ms())
        yield token
        if (who := signed_in(db, token, now_ms())) is not None:
            sign_out(db, who)


def main() -> None:
    """Take each picture in both looks."""
    parser = argparse.ArgumentParser(description="Take the pictures of the app for the documentation.")
    parser.add_argument("--app", default="http://127.0.0.1:8501", help="address of a running app")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    home = Home.find()
    with admin_session(home) as token, sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        for look in _LOOKS:
            context = browser.new_context(viewport=_SIZE, color_scheme=look)  # type: ignore[arg-type]
            context.add_cookies([{"name": session_cookie(home), "value": token, "url": args.app}])
            for shown in (overview, chart, frames, study, compare, jobs, monitoring):
                page = context.new_page()
                shown(page, args.app)
                page.screenshot(path=args.out / f"{shown.__name__}-{look}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
