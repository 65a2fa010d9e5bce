"""The API keys page in a real browser: a key's life, with every byte that the server sends listened to."""

import pytest
from playwright.sync_api import Locator, Page, WebSocket, expect

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from barmill.secrets.settings import ALL_VARIABLES
from barmill.secrets.store import KeyStore
from tests.browser.conftest import Serve, Watched
from tests.support.canary import canary, leaks


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def received(page: Page) -> list[bytes]:
    """Return the list to which everything goes that the page receives from now on."""
    frames = list[bytes]()

    def keep(frame: str | bytes) -> None:
        frames.append(frame if isinstance(frame, bytes) else frame.encode())

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", keep)

    page.on("websocket", listen)
    return frames


def test_a_key_is_added_rotated_and_deleted_and_its_secret_never_comes_back(
    home: Home, serve: Serve, watched: Watched
) -> None:
    first, second, page = canary(), canary(), watched.page
    frames, dialog = received(page), page.get_by_role("dialog")
    with serve(home) as address:
        page.goto(f"{address}/keys")
        expect(page.get_by_text("No keys yet")).to_be_visible()

        page.get_by_role("button", name="Add a key").click()
        field(page, "Name").fill("demo")
        field(page, "Secret").fill(first)
        expect(field(page, "Secret")).to_have_attribute("type", "password")
        dialog.get_by_role("button", name="Add").click()
        expect(page.get_by_text("The key demo is stored.")).to_be_visible()
        expect(dialog).to_have_count(0)
        assert stored(home) == first

        # A name that is taken: the dialog stays, its other fields too, the secret does not.
        page.get_by_role("button", name="Add a key").click()
        field(page, "Name").fill("demo")
        field(page, "Secret").fill(second)
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_text("already exists; give it a new secret")).to_be_visible()
        expect(field(page, "Secret")).to_have_value("")
        expect(field(page, "Name")).to_have_value("demo")
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)

        page.get_by_role("button", name="Rotate").click()
        field(page, "Secret").fill(second)
        field(page, "Secret").press("Enter")
        expect(page.get_by_text("The key demo is now at version 2.")).to_be_visible()
        assert stored(home) == second
        assert leaks(first, page.content(), *frames) == leaks(second, page.content(), *frames) == []

        page.get_by_role("button", name="Delete").click()
        field(page, "Type demo to confirm").fill("demo")
        dialog.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("No keys yet")).to_be_visible()
        expect(dialog).to_have_count(0)
    assert sum(map(len, frames)) > 10_000
    for secret in (first, second):
        assert leaks(secret, home.root, *frames) == []
    assert watched.complaints == []
    assert watched.elsewhere == []


def field(page: Page, label: str) -> Locator:
    return page.locator(f"[role=dialog] input[aria-label='{label}']")


def stored(home: Home) -> str:
    with KeyStore.open(home, Actor("ada")) as store:
        return store.reveal("demo")


def test_an_open_dialog_is_left_alone_while_the_page_beside_it_refreshes(home: Home, serve: Serve, page: Page) -> None:
    with serve(home) as address:
        with page.expect_websocket() as opened:
            page.goto(f"{address}/keys")
        page.get_by_role("button", name="Add a key").click()
        field(page, "Name").fill("half-typed")
        field(page, "Secret").fill("half-typed secret")
        for _ in range(12):  # the sidebar's line renews itself every second, in a few messages
            opened.value.wait_for_event("framereceived")
        expect(field(page, "Name")).to_have_value("half-typed")
        expect(field(page, "Secret")).to_have_value("half-typed secret")
