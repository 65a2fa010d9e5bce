import re
from contextlib import closing

from playwright.sync_api import Page, expect

from barmill.audit.roles import Role
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.storage.reader import BarReader
from tests.browser.conftest import LiveHome, Serve, Watched, ran, sign_in
from tests.support.candles import point_at, seen
from tests.support.stopped_jobs import seconds_stopped
from tests.support.stores import Stores

CHARTS = ".barmill-candles canvas"
_PATIENCE_MS = 60_000


def open_frames(page: Page, app: str, query: str = "instrument=AAA%2FUSD&frames=1s,1m,1h") -> None:
    page.goto(f"{app}/frames?{query}")
    updated(page, 3, 1)


def updated(page: Page, charts: int, updates: int) -> None:
    """Wait until there are so many charts and each has drawn so many updates."""
    page.wait_for_function(
        "([css, charts, updates]) => { const all = [...document.querySelectorAll(css)];"
        " return all.length === charts && all.every((one) => Number(one.dataset.updates) >= updates); }",
        arg=[CHARTS, charts, updates],
        timeout=_PATIENCE_MS,
    )


def of_each(page: Page, name: str) -> list[str]:
    return [locator.get_attribute(f"data-{name}") or "" for locator in page.locator(CHARTS).all()]


def test_second_minute_and_hour_move_side_by_side(app: str, watched: Watched) -> None:
    page = watched.page
    open_frames(page, app)
    assert of_each(page, "view") == ["AAA/USD 1s", "AAA/USD 1m", "AAA/USD 1h"]
    updated(page, 3, 4)
    for chart in page.locator(CHARTS).all():
        expect(chart).to_have_attribute("data-stale", "false")
    tops = {round((locator.bounding_box() or {"y": 0})["y"]) for locator in page.locator(CHARTS).all()}
    assert len(tops) == 1
    assert watched.complaints == []


def test_one_cursor_goes_over_all_charts(app: str, live_home: LiveHome, page: Page) -> None:
    open_frames(page, app)
    # It shows seconds of the past from here on, and does not move under the mouse.
    page.locator(CHARTS).first.press("ArrowLeft")
    now = seen(page)
    with closing(BarReader.open(live_home.home.bars_db)) as reader:
        bars = reader.bars("AAA/USD", "1s", now.from_ms + 1_000, now.to_ms - 1_000)
    point_at(page, bars["start_ms"][bars.height // 2] + 500)
    page.wait_for_function("css => [...document.querySelectorAll(css)].every((one) => one.dataset.cross)", arg=CHARTS)
    second, minute, hour = map(int, of_each(page, "cross"))
    assert (minute, hour) == (second // 60_000 * 60_000, second // 3_600_000 * 3_600_000)
    # Only the chart that is pointed at shows the box with all values.
    for tip, is_pointed_at in zip(page.locator(".barmill-tip").all(), (True, False, False), strict=True):
        expect(tip).to_be_visible(visible=is_pointed_at)
    page.mouse.move(5, 5)
    page.wait_for_function("css => [...document.querySelectorAll(css)].every((one) => !one.dataset.cross)", arg=CHARTS)


def test_two_studies_on_all_frames_are_saved_for_the_next_time(app: str, live_home: LiveHome, page: Page) -> None:
    sign_in(page, live_home.home, Role.TRADER, "saver")  # other accounts keep their own defaults
    page.goto(app)
    page.get_by_role("link", name="Frames").click()
    updated(page, 3, 1)
    page.get_by_role("button", name="Studies").click()
    for study in ("Simple moving average", "Relative strength index"):
        page.get_by_role("combobox", name="Add a study").click()
        page.get_by_role("option", name=study).click()
        page.wait_for_url(re.compile("studies=.*" + {"S": "sma", "R": "rsi"}[study[0]]))
        ran(page)  # the end of the run moves what is clicked next
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Save as my default").click()
    expect(page.get_by_text("Saved; charts now open with these choices.")).to_be_visible()
    again = page.context.new_page()
    again.goto(f"{app}/frames")
    updated(again, 3, 1)
    assert of_each(again, "panes") == ["price volume rsi:14"] * 3


def test_all_charts_go_grey_when_data_stops(app: str, live_home: LiveHome, page: Page) -> None:
    open_frames(page, app)
    live_home.pause.set()
    try:
        page.wait_for_function(
            "css => [...document.querySelectorAll(css)].every((one) => one.dataset.stale === 'true')",
            arg=CHARTS,
            timeout=_PATIENCE_MS,
        )
        expect(page.locator(".barmill-notice").first).to_contain_text("silent for")
    finally:
        live_home.pause.clear()


def test_a_frame_whose_job_was_stopped_is_red_beside_one_that_moves(serve: Serve, home: Home, page: Page) -> None:
    """Another job runs and makes minutes; neither the charts nor the overview say that all is well."""
    stores = seconds_stopped(home)
    with serve(home) as app:
        page.goto(f"{app}/frames?instrument=AAA%2FUSD&frames=5s,5m")
        updated(page, 2, 1)
        pulses, stopped = page.locator(".barmill-pulse"), re.compile("^stopped .* job stopped$")
        expect(pulses.nth(0)).to_have_text(stopped)
        expect(pulses.nth(0)).to_have_attribute("data-color", "red")
        expect(page.locator(".barmill-notice").first).to_contain_text("was stopped by os:ada at ")
        expect(pulses.nth(1)).to_have_attribute("data-color", "green")
        expect(pulses.nth(1)).to_contain_text("job running")
        page.goto(app)
        main = page.get_by_test_id("stMain")
        expect(main.get_by_text("1s, 5s, 15s, 30s: The job bars, which makes 1s bars, was stopped")).to_be_visible()
        expect(page.locator(".barmill-facts div", has_text="Jobs").first).to_have_attribute("data-tone", "bad")
    stores.close()


def test_a_frame_of_a_stopped_job_moves_with_the_others(serve: Serve, home: Home, page: Page) -> None:
    stores, at_ms = Stores(home), now_ms()
    stores.write([(at_ms - 1_000 * s, "AAA/USD", 100 + s / 4, 1.0) for s in range(30, 0, -1)], closed_to_ms=at_ms)
    stores.make_once("fives", "5s,5m", closed_to_ms=at_ms)
    with serve(home) as app:
        open_frames(page, app, "instrument=AAA%2FUSD&frames=5s,1m,5m")
        for price in ("91.25", "92.75"):
            stores.write([(now_ms() - 50, "AAA/USD", float(price), 1.0)], closed_to_ms=now_ms())
            expect(page.locator(".barmill-quote [data-part=price]")).to_have_text([price] * 3)
    stores.close()


def test_on_a_phone_the_charts_stand_one_below_the_other(app: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_frames(page, app)
    boxes = [locator.bounding_box() for locator in page.locator(CHARTS).all()]
    assert all(box is not None and box["width"] <= 390 and box["height"] >= 280 for box in boxes)
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
