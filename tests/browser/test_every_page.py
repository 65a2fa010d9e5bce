"""Every page, as wide as people have it, dark and light, and without a mouse."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, ViewportSize

from barmill.audit.roles import Actor, Role
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.instruments.store import Instruments
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from control.jobs.service import JobService
from tests.browser.conftest import Serve, Watched, ran, sign_in
from tests.support.measured import DISK_FULL, NO_TICKS, measured_past, raised
from tests.support.roles import PAGES
from tests.support.signed_in import signed_in
from tests.support.stores import Stores

ADA = Actor("ada")
SIZES: dict[str, ViewportSize] = {
    "phone": {"width": 390, "height": 844},
    "laptop": {"width": 1366, "height": 768},
    "desktop": {"width": 1920, "height": 1080},
}
# The overview is at the root.
ADDRESSES = [
    *("" if name == "overview" else name for name in PAGES),
    *("jobs?job=bars", "quality?quality_view=Rejects", "quality?quality_view=Comparison"),
]
# What a screen reader announces as something to use; each must say what it is.
CONTROLS = {
    *("button", "checkbox", "combobox", "link", "menuitem", "radio", "searchbox", "slider", "spinbutton", "switch"),
    *("tab", "textbox"),
}
SETTLED_S = 30
STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
CHECKS = Path(__file__).with_name("every_page.js").read_text()


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, serve: Serve) -> Iterator[tuple[Home, str]]:
    """A home that has something on every page, and the address of its app."""
    home = Home(tmp_path_factory.mktemp("furnished") / "home").create()
    stores, now_ms = Stores(home), time.time_ns() // 1_000_000
    past = range(180, 0, -1)
    stores.write(
        [(now_ms - 1_000 * s, "AAA/USD", round(100 + math.sin(s / 9), 2), 2.0) for s in past], closed_to_ms=now_ms
    )
    stores.write([(now_ms - 500, "A-LONG-NAME/OF-SOMETHING-USD", 12_345.678_9, None)], closed_to_ms=now_ms)
    stores.close()
    measured_past(home)
    raised(home, NO_TICKS, DISK_FULL)
    with JobService.open(home, ADA) as service, KeyStore.open(home, ADA) as keys, Instruments.open(home) as instruments:
        service.create('{"name": "bars"}')
        keys.add("market", "market", "not a real secret")
        names = ("AAA/USD", "A-LONG-NAME/OF-SOMETHING-USD", *(f"Q{number:02}/USD" for number in range(30)))
        instruments.save_catalogue(
            "market", [CatalogueEntry(name, f"Simulated {name}", 2, True) for name in names], None
        )
    signed_in(home, Role.TRADER, "someone@with-a-long-name.example.com")
    with serve(home) as address:
        yield home, address


def opened(page: Page, address: str, path: str) -> None:
    """Open a page and wait until nothing of it is still to come."""
    page.goto(f"{address}/{path}")
    page.locator("[data-testid=stMainBlockContainer] :is(h1, h2, h3, canvas)").first.wait_for()
    ran(page)
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton], [data-stale=true][data-testid]')")


def overflow(page: Page) -> list[str]:
    """Return what does not fit; a table takes a moment to take its place's width."""
    found: list[str] = page.evaluate("everyPage.painted().then(() => everyPage.overflow())")
    if found and wait_until(lambda: page.evaluate("everyPage.overflow()") == [], SETTLED_S):
        return []
    return found


def nameless(page: Page) -> list[str]:
    """Return the controls that say nothing to a screen reader, as Chromium itself works it out."""
    cdp = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = cdp.send("Accessibility.getFullAXTree")["nodes"]
    found = []
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node["ignored"] and role in CONTROLS and not node.get("name", {}).get("value", "").strip():
            described = cdp.send("DOM.describeNode", {"backendNodeId": node["backendDOMNodeId"]})["node"]
            found.append(json.dumps([role, described["nodeName"], described.get("attributes")])[:300])
    cdp.detach()
    return found


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_page_fits_names_its_controls_and_works_without_a_mouse(
    furnished: tuple[Home, str], watched: Watched, path: str
) -> None:
    home, address = furnished
    page = watched.page
    sign_in(page, home)
    page.add_init_script(CHECKS)
    problems = dict[str, list[str]]()
    for name in ("phone", "laptop"):
        page.set_viewport_size(SIZES[name])
        opened(page, address, path)
        problems[f"wider than the {name}"] = overflow(page)
        problems[f"nameless on the {name}"] = nameless(page)
    page.add_style_tag(content=STILL)
    problems["focus not seen"], problems["not reached"] = by_keyboard(page)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(SIZES["desktop"])
    problems["wider than a desktop"] = overflow(page)
    assert {what: found for what, found in problems.items() if found} == {}
    assert watched.complaints == []


def by_keyboard(page: Page, most: int = 300) -> tuple[list[str], list[str]]:
    """Go through the page by Tab; return where the focus did not show, and what Tab never came to."""
    unseen, before = [], ""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate("everyPage.focused()")
        # In a table, Tab first goes along the cells of a row.
        if focused is None or (focused["again"] and focused["name"] != before):
            break
        if not focused["visible"] and focused["name"] != before:
            unseen.append(focused["name"])
        before = focused["name"]
    return unseen, page.evaluate("everyPage.unreached()")
