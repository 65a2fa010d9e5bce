from contextlib import closing

import pytest
from playwright.sync_api import Page, Route, expect

from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.storage.reader import BarReader
from tests.browser.conftest import GAP_S, LiveHome, Serve, Watched
from tests.support.candles import CANVAS, after_updates, open_chart, pixels, point_at, seen, wait_for
from tests.support.stores import Stores

AAA_SECONDS = "instrument=AAA%2FUSD&frame=1s"


def zoom_in(page: Page, notches: int = 4) -> None:
    box = page.locator(CANVAS).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    for _ in range(notches):
        page.mouse.wheel(0, -120)


def drag(page: Page, by: float) -> None:
    box = page.locator(CANVAS).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300 + by, box["y"] + 200, steps=4)
    page.mouse.up()


def test_the_chart_moves_by_itself_and_complains_of_nothing(app: str, watched: Watched) -> None:
    page = watched.page
    first = open_chart(page, app, AAA_SECONDS)
    before = pixels(page)
    later = after_updates(page, 3)
    assert first.view == "AAA/USD 1s"
    assert later.to_ms > first.to_ms
    assert pixels(page) != before
    assert watched.complaints == []
    assert watched.elsewhere == []


def test_zoom_and_place_survive_twenty_updates(app: str, page: Page) -> None:
    whole = open_chart(page, app, AAA_SECONDS)
    zoom_in(page)
    drag(page, by=400)
    wait_for(page, f"Number(data.to) < {whole.to_ms}")
    before = seen(page)
    assert before.to_ms - before.from_ms < (whole.to_ms - whole.from_ms) * 0.7
    after = after_updates(page, 20)
    assert (after.from_ms, after.to_ms) == (before.from_ms, before.to_ms)


def test_a_zoomed_chart_that_shows_the_newest_bar_goes_on_showing_it(app: str, page: Page) -> None:
    whole = open_chart(page, app, AAA_SECONDS)
    zoom_in(page)
    wait_for(page, f"data.to - data.from < {(whole.to_ms - whole.from_ms) * 0.7}")
    before, after = seen(page), after_updates(page, 3)
    assert after.to_ms > before.to_ms
    assert after.to_ms - after.from_ms == pytest.approx(before.to_ms - before.from_ms, abs=2)


def test_the_button_and_a_double_click_lead_back(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.locator(CANVAS).dblclick(position={"x": 200, "y": 100})
    whole = seen(page)
    zoom_in(page)
    drag(page, by=400)
    newest = page.get_by_role("button", name="Newest bar")
    newest.click()
    expect(newest).to_be_hidden()
    page.locator(CANVAS).dblclick(position={"x": 200, "y": 100})
    wait_for(page, f"data.to - data.from > {(whole.to_ms - whole.from_ms) * 0.9}")


def test_keys_do_what_the_mouse_does(app: str, page: Page) -> None:
    whole = open_chart(page, app, AAA_SECONDS)
    page.locator(CANVAS).focus()
    page.keyboard.press("+")
    wait_for(page, f"data.to - data.from < {(whole.to_ms - whole.from_ms) * 0.9}")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="Newest bar")).to_be_visible()
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="Newest bar")).to_be_hidden()


def test_the_picture_is_never_empty_and_never_replaced(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.evaluate(
        """css => {
            const first = document.querySelector(css);
            window.looked = {times: 0, emptiest: Infinity, replaced: false};
            const look = () => {
                const canvas = document.querySelector(css);
                if (canvas !== first) { window.looked.replaced = true; return; }
                const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                let inked = 0;
                for (let i = 3; i < data.length; i += 4 * 7) inked += data[i] > 200;
                window.looked.emptiest = Math.min(window.looked.emptiest, inked);
                window.looked.times += 1;
                requestAnimationFrame(look);
            };
            look();
        }""",
        CANVAS,
    )
    after_updates(page, 6)
    looked = page.evaluate("window.looked")
    assert not looked["replaced"]
    assert looked["times"] > 6
    assert looked["emptiest"] > 500


def test_another_instrument_takes_the_same_canvas_and_goes_into_the_address(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.locator(CANVAS).evaluate("canvas => { canvas.marked = true; }")
    page.get_by_role("combobox").click()
    page.get_by_role("option", name="BBB").click()
    wait_for(page, "data.view === 'BBB 1s'")
    page.wait_for_url("**/chart?instrument=BBB&frame=1s")
    assert page.locator(CANVAS).evaluate("canvas => canvas.marked")


def test_a_link_opens_the_same_view_again(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.get_by_role("radio", name="1m").click()
    wait_for(page, "data.view === 'AAA/USD 1m'")
    page.wait_for_url("**frame=1m**")
    again = page.context.new_page()
    again.goto(page.url)
    after_updates(again, 1)
    assert seen(again).view == "AAA/USD 1m"


def test_the_tooltip_shows_the_bar_as_stored_and_nothing_in_a_gap(app: str, live_home: LiveHome, page: Page) -> None:
    end_ms = live_home.history_end_ms
    # A fixed range: a chart that follows the newest bar moves on under the mouse, and away from the history.
    open_chart(page, app, f"{AAA_SECONDS}&from={end_ms - 120_000}&to={end_ms}")
    start_ms = end_ms - 50_000
    with closing(BarReader.open(live_home.home.bars_db)) as reader:
        (bar,) = reader.bars("AAA/USD", "1s", start_ms, start_ms + 1).to_dicts()
    point_at(page, start_ms + 500)
    tip = page.locator(".barmill-tip")
    expect(tip).to_be_visible()
    shown = tip.locator("span").all_inner_texts()
    values = dict(zip(shown[::2], shown[1::2], strict=True))
    assert {name: float(values[name.capitalize()]) for name in ("open", "high", "low", "close", "volume", "ticks")} == {
        name: bar[name] for name in ("open", "high", "low", "close", "volume", "ticks")
    }
    assert values["State"] == "closed"
    point_at(page, end_ms - GAP_S[4] * 1_000 + 500)
    expect(tip).to_be_hidden()


def test_a_gap_stays_on_the_chart_when_both_its_edges_are_out_of_view(
    app: str, live_home: LiveHome, page: Page
) -> None:
    end_ms = live_home.history_end_ms
    from_ms, to_ms = end_ms - GAP_S[-1] * 1_000, end_ms - (GAP_S[0] - 1) * 1_000
    open_chart(page, app, f"{AAA_SECONDS}&from={from_ms - 4_000}&to={to_ms - 2_000}")
    for _ in range(4):
        page.locator(CANVAS).press("+")
    wait_for(page, f"Number(data.from) >= {from_ms} && Number(data.to) <= {to_ms}")
    wait_for(page, f"data.gaps.startsWith('{from_ms}-{to_ms} ')")


def test_a_chart_without_fresh_data_goes_grey_and_says_why(app: str, live_home: LiveHome, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    live_home.pause.set()
    try:
        wait_for(page, "data.stale === 'true'")
        expect(page.get_by_role("alert")).to_contain_text("silent for")
    finally:
        live_home.pause.clear()
    wait_for(page, "data.stale === 'false'")
    expect(page.locator(".barmill-notice")).to_be_hidden()


def test_a_chart_whose_server_is_gone_does_not_look_alive(serve: Serve, live_home: LiveHome, page: Page) -> None:
    with serve(live_home.home) as own_app:
        open_chart(page, own_app, AAA_SECONDS)
    wait_for(page, "data.stale === 'true'")
    expect(page.locator(".barmill-notice")).to_contain_text("Barmill does not respond")


def test_a_store_that_is_taken_away_brings_the_page_that_says_how_to_start(
    serve: Serve, home: Home, page: Page
) -> None:
    stores, at_ms = Stores(home), now_ms()
    stores.write([(at_ms, "AAA/USD", 100.0, 2.0)], closed_to_ms=at_ms)
    stores.close()
    with serve(home) as own_app:
        open_chart(page, own_app, AAA_SECONDS)
        home.bars_db.unlink()
        expect(page.get_by_text("No bars yet")).to_be_visible()
        expect(page.locator(CANVAS)).to_have_count(0)


def test_what_was_missed_is_asked_for(app: str, page: Page) -> None:
    """An update that does not reach back to what the chart holds makes it ask for the whole history."""
    open_chart(page, app, AAA_SECONDS)
    words = page.locator(CANVAS).get_attribute("aria-label")  # as of the last whole history
    assert words is not None
    after_updates(page, 2)
    expect(page.locator(CANVAS)).to_have_attribute("aria-label", words)

    def forgetful(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "after": None})

    page.route("**/bar-changes.json?**", forgetful, times=1)
    expect(page.locator(CANVAS)).not_to_have_attribute("aria-label", words)
    after_updates(page, 2)


def test_updates_are_shown_also_while_the_clock_of_the_server_is_behind(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)

    def an_hour_behind(route: Route) -> None:
        answer = route.fetch()
        message = answer.json()
        route.fulfill(response=answer, json={**message, "read_ms": message["read_ms"] - 3_600_000})

    page.route("**/bar-changes.json?**", an_hour_behind)
    after_updates(page, 1)
    bars = int(page.locator(CANVAS).get_attribute("data-bars") or 0)
    wait_for(page, f"Number(data.bars) > {bars}")


def test_the_chart_says_in_words_what_it_shows(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    expect(page.get_by_role("img", name="Candles of AAA/USD")).to_be_visible()
