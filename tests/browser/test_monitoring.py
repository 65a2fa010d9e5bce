"""The Monitoring page in a real browser: a recorded past, figures that move by themselves, and a zoom that stays."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from barmill.platform.home import Home
from control.monitoring.alerts import open_alerts
from control.monitoring.history import History
from control.monitoring.metrics import SAMPLE_MS
from tests.browser.conftest import Serve, Watched, ran, sign_in
from tests.support.measured import DISK_FULL, NO_TICKS, measured_past, raised, readings

PLOT = ".st-key-monitoring_ticks_accepted_per_s .js-plotly-plot"
RANGE = "plot => plot._fullLayout.xaxis.range.map(at => plot._fullLayout.xaxis.d2c(at))"
ZOOMED = f"css => {{ const [from, to] = ({RANGE})(document.querySelector(css)); return to - from < 2_500_000; }}"
POINTS = "plot => plot.data[0].x.length"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, serve: Serve) -> Iterator[tuple[Home, str]]:
    """A home with a recorded past and two open alerts, and the address of its app."""
    home = Home(tmp_path_factory.mktemp("monitored") / "home").create()
    measured_past(home)
    raised(home, NO_TICKS, DISK_FULL)
    with serve(home) as address:
        yield home, address


def measure_now(home: Home) -> int:
    history, now_ms = History.open(home), time.time_ns() // 1_000_000
    history.write(now_ms, readings(now_ms))
    history.close()
    return now_ms


def after_a_refresh(page: Page, home: Home, selector: str = PLOT) -> None:
    """Measure something new, and wait until the figure shows it."""
    newest_ms = measure_now(home) // SAMPLE_MS * SAMPLE_MS - 15_000  # a point represents up to 15 seconds
    page.wait_for_function(
        "([css, newest]) => document.querySelector(css).data[0].x.at(-1) >= newest", arg=[selector, newest_ms]
    )


def test_the_recorded_past_is_there_and_the_page_goes_on_by_itself(
    measured: tuple[Home, str], watched: Watched
) -> None:
    home, app = measured
    page = watched.page
    sign_in(page, home)
    page.goto(f"{app}/monitoring")
    plot = page.locator(PLOT)
    expect(plot).to_be_visible()
    assert plot.evaluate(POINTS) > 150
    plot.evaluate("plot => { plot.marked = true; }")
    after_a_refresh(page, home)
    assert plot.evaluate("plot => plot.marked"), "the figure was replaced, not changed"
    assert watched.complaints == []
    assert watched.elsewhere == []


def test_a_refresh_disturbs_neither_a_zoom_nor_an_open_exception(measured: tuple[Home, str], page: Page) -> None:
    home, app = measured
    sign_in(page, home)
    page.goto(f"{app}/monitoring")
    plot = page.locator(PLOT)
    expect(plot).to_be_visible()
    ran(page)  # nothing moves from here on
    box = plot.locator(".nsewdrag").bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 50, steps=5)
    page.mouse.up()
    page.wait_for_function(ZOOMED, arg=PLOT)
    zoomed = plot.evaluate(RANGE)
    after_a_refresh(page, home)
    assert plot.evaluate(RANGE) == zoomed

    page.get_by_role("radio", name="Jobs").click()
    page.get_by_text("ValueError: the block is broken").first.click()
    line = page.get_by_text("added = self._open.add(mine)")
    expect(line).to_be_visible()
    checkpoints = ".st-key-monitoring_checkpoint_duration_s .js-plotly-plot"
    expect(page.locator(checkpoints)).to_be_visible()
    after_a_refresh(page, home, checkpoints)
    expect(line).to_be_visible()
    expect(page).to_have_url(re.compile("section=jobs"))


def test_an_alert_is_seen_on_every_page_and_acknowledged_on_this_one(measured: tuple[Home, str], page: Page) -> None:
    home, app = measured
    sign_in(page, home)
    page.goto(app)
    link = page.get_by_test_id("stSidebar").get_by_role("link", name=re.compile("2 open alerts"))
    expect(link).to_be_visible()
    link.click()
    page.wait_for_url("**/monitoring**")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(2)
    page.get_by_role("button", name="Acknowledge").first.click()
    expect(page.get_by_text(re.compile("acknowledged by"))).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(1)
    assert [alert.acknowledged_ms is not None for alert in open_alerts(home)] == [True, False]


def test_a_form_on_the_alerts_page_is_left_in_peace(measured: tuple[Home, str], page: Page) -> None:
    home, app = measured
    sign_in(page, home)
    page.goto(f"{app}/monitoring")
    page.get_by_role("link", name="Rules and webhook").click()
    page.wait_for_url("**/alerts**")
    threshold = page.get_by_label("No new ticks: seconds without a tick")
    expect(threshold).to_be_visible()
    threshold.fill("77")
    page.wait_for_timeout(11_000)  # two refreshes, if this page had any
    expect(threshold).to_have_value("77")
    page.get_by_role("button", name="Save rules").click()
    expect(page.get_by_text("Changed: No new ticks.")).to_be_visible()
