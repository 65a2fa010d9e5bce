"""Sign-in in a real browser: the way in, what stays shut, and the way out."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Browser, Page, expect

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth.administration import add_account, disable_account, first_admin_link, new_link, set_role
from barmill.auth.sessions import sessions_of
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, immediate
from tests.browser.conftest import LiveHome, Watched, sign_in, watching
from tests.support.serving import serving

ROOT = Actor("os:root")
PASSWORD = "correct horse"


@pytest.fixture
def db(live_home: LiveHome) -> Iterator[Database]:
    with open_audited_db(live_home.home) as opened:
        yield opened


def fill(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("path", ["/", "/chart?instrument=AAA%2FUSD&frame=1s", "/accounts", "/no-such-page"])
def test_a_stranger_sees_only_the_sign_in_page(app: str, stranger: Watched, path: str) -> None:
    page = stranger.page
    page.goto(app + path)
    assert page.url.startswith(f"{app}/sign-in")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "AAA" not in page.inner_text("body")
    assert page.evaluate("document.scripts.length") == 0
    assert stranger.complaints == []
    assert stranger.elsewhere == []


def test_a_strangers_websocket_is_refused(app: str, stranger: Watched, watched: Watched) -> None:
    outcomes = []
    for visitor in (stranger, watched):
        visitor.page.goto(f"{app}/healthz")  # open to all, and its policy allows connections to the app
        outcomes.append(
            visitor.page.evaluate(
                """address => new Promise(done => {
                    const socket = new WebSocket(address, ["streamlit"]);
                    socket.onopen = () => done("open");
                    socket.onerror = () => done("refused");
                })""",
                f"{app.replace('http', 'ws', 1)}/_stcore/stream",
            )
        )
    assert outcomes == ["refused", "open"]


def test_the_first_admin_chooses_a_password_and_stays_signed_in(home: Home, stranger: Watched) -> None:
    first = first_admin_link(home)
    assert first is not None
    page = stranger.page
    with serving(home) as app:
        page.goto(f"{app}/welcome?token={first[1]}")
        expect(page.get_by_text("Choose a password for the account admin")).to_be_visible()
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Repeat the password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        assert page.url == f"{app}/"
        expect(page.locator(".barmill-visitor")).to_contain_text("admin admin")
        page.reload()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        assert "barmill" not in page.evaluate("document.cookie")
        (cookie,) = [entry for entry in page.context.cookies() if entry["name"].startswith("barmill_session")]
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
        assert first_admin_link(home) is None
        assert stranger.complaints == []
        assert stranger.elsewhere == []


def test_a_link_to_a_chart_is_opened_after_sign_in(app: str, db: Database, stranger: Watched) -> None:
    add_account(db, ROOT, "carol", Role.TRADER, PASSWORD)
    page = stranger.page
    page.goto(f"{app}/chart?instrument=AAA%2FUSD&frame=1s")
    fill(page, "carol", PASSWORD)
    page.wait_for_url(f"{app}/chart?instrument=AAA%2FUSD&frame=1s")
    expect(page.locator(".barmill-candles canvas")).to_be_visible()


def test_wrong_passwords_slow_down_and_the_right_one_works_after_the_wait(
    app: str, db: Database, stranger: Watched
) -> None:
    add_account(db, ROOT, "dave", Role.TRADER, PASSWORD)
    page = stranger.page
    page.goto(app)
    said: list[str] = []
    while not said or "Too many" not in said[-1]:
        with page.expect_navigation():  # the page before it has an alert too
            fill(page, "dave", f"wrong horse {len(said)}")
        said.append(page.get_by_role("alert").inner_text())
        expect(page.get_by_label("Password", exact=True)).to_be_focused()
    assert said[:4] == ["The name or the password is wrong."] * 4
    assert 5 <= len(said) < 20  # the fifth, unless typing them took longer than the wait
    wait_s = re.fullmatch(r"Too many wrong passwords; try again in (\d+) s\.", said[-1])
    assert wait_s is not None
    page.wait_for_timeout(int(wait_s[1]) * 1_000)
    fill(page, "dave", PASSWORD)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_signing_out_reaches_the_other_tabs(app: str, watched: Watched) -> None:
    page = watched.page
    other = page.context.new_page()
    other.goto(f"{app}/chart?instrument=AAA%2FUSD&frame=1s")
    expect(other.locator(".barmill-visitor")).to_contain_text("test-admin")
    page.goto(app)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{app}/sign-in")
    other.wait_for_url(f"{app}/sign-in?next=**")
    page.goto(f"{app}/chart")
    assert page.url.startswith(f"{app}/sign-in")


def test_a_disabled_account_is_out_of_its_open_pages(
    app: str, live_home: LiveHome, db: Database, stranger: Watched
) -> None:
    page = stranger.page
    sign_in(page, live_home.home, Role.OPERATOR, "erin")
    page.goto(app)
    expect(page.locator(".barmill-visitor")).to_contain_text("erin operator")
    disable_account(db, ROOT, "erin")
    page.wait_for_url(f"{app}/sign-in")


def test_a_role_change_takes_effect_in_an_open_tab(
    app: str, live_home: LiveHome, db: Database, stranger: Watched
) -> None:
    page = stranger.page
    sign_in(page, live_home.home, Role.ADMIN, "frank")
    page.goto(f"{app}/accounts")
    expect(page.get_by_role("heading", name="Change an account")).to_be_visible()
    set_role(db, ROOT, "frank", Role.TRADER)
    # Without any input, the next refresh of a part of it becomes one of the whole.
    expect(page.get_by_role("heading", name="Change an account")).to_have_count(0)
    expect(page.get_by_role("link", name="Accounts", exact=True)).to_have_count(0)
    expect(page.locator(".barmill-visitor")).to_contain_text("frank trader")


def test_a_trader_cannot_reach_the_accounts_by_their_address(app: str, live_home: LiveHome, stranger: Watched) -> None:
    page = stranger.page
    sign_in(page, live_home.home, Role.TRADER, "heidi")
    page.goto(f"{app}/accounts")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_role("heading", name="Change an account")).to_have_count(0)
    expect(page.get_by_role("link", name="Accounts", exact=True)).to_have_count(0)


def test_an_admin_adds_an_account_whose_owner_comes_in_by_the_link(
    app: str, watched: Watched, stranger: Watched
) -> None:
    page = watched.page
    page.goto(f"{app}/accounts")
    page.get_by_label("Name").fill("ivan")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Added ivan.")).to_be_visible()
    link = page.locator("code", has_text="/welcome?token=").inner_text()
    guest = stranger.page
    guest.goto(app + link[link.index("/welcome") :])
    guest.get_by_label("Password", exact=True).fill(PASSWORD)
    guest.get_by_label("Repeat the password").fill(PASSWORD)
    guest.get_by_role("button", name="Continue").click()
    expect(guest.get_by_role("heading", name="Overview")).to_be_visible()
    expect(guest.locator(".barmill-visitor")).to_contain_text("ivan trader")
    assert watched.complaints == []
    assert stranger.complaints == []


def test_a_password_is_changed_and_other_browsers_are_out(
    app: str, db: Database, chromium: Browser, stranger: Watched
) -> None:
    add_account(db, ROOT, "judy", Role.TRADER, PASSWORD)
    page = stranger.page
    page.goto(f"{app}/account")
    fill(page, "judy", PASSWORD)
    with watching(chromium) as elsewhere:
        elsewhere.page.goto(app)
        fill(elsewhere.page, "judy", PASSWORD)
        expect(elsewhere.page.locator(".barmill-visitor")).to_contain_text("judy trader")
        page.get_by_label("Current password").fill(PASSWORD)
        page.get_by_label("New password").fill("battery staple")
        page.get_by_label("Repeat the password").fill("battery staple")
        page.get_by_role("button", name="Change password").click()
        expect(page.get_by_text("The password is changed; other sessions ended: 1.")).to_be_visible()
        elsewhere.page.wait_for_url(f"{app}/sign-in")
    assert len(sessions_of(db, "judy", now_ms())) == 1


def test_a_page_that_only_refreshes_itself_is_no_use_of_the_session(
    app: str, live_home: LiveHome, db: Database, stranger: Watched
) -> None:
    page = stranger.page
    sign_in(page, live_home.home, Role.TRADER, "kim")

    def asked(method: str) -> AbstractContextManager[object]:
        return page.expect_response(
            lambda response: response.url == f"{app}/session" and response.request.method == method
        )

    with asked("POST"):  # that the page was opened is use
        page.goto(app)
    with immediate(db):
        db.conn.execute("UPDATE sessions SET last_seen_ms = last_seen_ms - 3600000 WHERE account = 'kim'")
    (then,) = sessions_of(db, "kim", now_ms())
    for _ in range(2):
        with asked("GET"):
            pass
    assert sessions_of(db, "kim", now_ms()) == [then]
    with asked("POST"):
        page.mouse.click(5, 5)
    assert sessions_of(db, "kim", now_ms())[0].last_seen_ms > then.last_seen_ms


def test_an_old_link_says_what_to_do(app: str, db: Database, stranger: Watched) -> None:
    add_account(db, ROOT, "karl", Role.TRADER)
    used = new_link(db, ROOT, "karl")
    new_link(db, ROOT, "karl")
    stranger.page.goto(f"{app}/welcome?token={used}")
    expect(stranger.page.get_by_text("ask an admin for a new one")).to_be_visible()
