"""What one does on the chart page besides looking: kinds, studies, ranges, files, pictures, links."""

import io
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import polars as pl
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched
from tests.support.candles import CANVAS, after_updates, open_chart, pixels, seen, wait_for

AAA_SECONDS = "instrument=AAA%2FUSD&frame=1s"


def test_kinds_scales_and_zones_change_the_picture_and_keep_the_place(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.locator(CANVAS).press("+")
    page.locator(CANVAS).press("ArrowLeft")
    before, picture = seen(page), pixels(page)
    page.get_by_role("button", name="Display").click()
    for name, attribute, value in (
        ("OHLC", "kind", "ohlc"),
        ("Line", "kind", "line"),
        ("Heikin-Ashi", "kind", "heikin-ashi"),
        ("Logarithmic", "scale", "log"),
    ):
        page.get_by_role("radio", name=name, exact=True).click()
        wait_for(page, f"data.{attribute} === '{value}'")
        assert pixels(page) != picture
        picture = pixels(page)
    now = seen(page)
    assert (now.from_ms, now.to_ms) == (before.from_ms, before.to_ms)
    page.wait_for_url("**kind=heikin-ashi**scale=log**")


def test_a_study_is_added_in_two_clicks_and_goes_into_the_address(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.get_by_role("button", name="Studies").click()
    page.get_by_role("combobox", name="Add a study").click()
    page.get_by_role("option", name="Relative strength index").click()
    wait_for(page, "data.panes === 'price volume rsi:14'")
    page.wait_for_url("**studies=rsi**14**")
    after_updates(page, 2)


def test_times_are_shown_in_the_zone_of_the_link(app: str, page: Page) -> None:
    open_chart(page, app, f"{AAA_SECONDS}&zone=Asia/Kolkata")
    page.locator(CANVAS).press("Shift+ArrowLeft")
    head = page.locator(".barmill-tip b")
    expect(head).to_contain_text("Kolkata")
    slot_ms = int(page.locator(CANVAS).get_attribute("data-cross") or 0)
    clock = datetime.fromtimestamp(slot_ms / 1_000 + 5.5 * 3_600, UTC).strftime("%H:%M:%S")
    expect(head).to_contain_text(clock)


def test_the_bars_in_view_are_taken_along_as_files(app: str, page: Page) -> None:
    open_chart(page, app, f"{AAA_SECONDS}&studies=sma:5")
    page.locator(CANVAS).press("+")
    page.locator(CANVAS).press("ArrowLeft")
    wait_for(page, "Number(data.to) > 0")
    now = seen(page)
    for name in ("CSV", "Parquet"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        content = download.value.path().read_bytes()
        bars = pl.read_csv(io.BytesIO(content)) if name == "CSV" else pl.read_parquet(io.BytesIO(content))
        assert min(bars["start_ms"]) >= now.from_ms - 1_000
        assert max(bars["start_ms"]) <= now.to_ms
        assert bars.height > 20


def test_the_picture_is_taken_along_with_its_title(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert download.value.suggested_filename == "AAA-USD-1s.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_copied_link_reopens_the_same_view(app: str, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_chart(page, app, f"{AAA_SECONDS}&studies=sma:5&kind=ohlc")
    page.locator(CANVAS).press("+")
    page.locator(CANVAS).press("ArrowLeft")
    page.locator(CANVAS).press("ArrowLeft")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("status")).to_contain_text("clipboard")
    link = page.evaluate("navigator.clipboard.readText()")
    said = {name: value[0] for name, value in parse_qs(urlsplit(link).query).items()}
    again = page.context.new_page()
    again.goto(link)
    after_updates(again, 1)
    now = seen(again)
    assert (now.from_ms, now.to_ms) == (int(said["from"]), int(said["to"]))
    assert again.locator(CANVAS).get_attribute("data-kind") == "ohlc"


def test_what_is_in_view_can_be_studied(app: str, page: Page) -> None:
    open_chart(page, app, f"{AAA_SECONDS}&studies=sma:5")
    page.locator(CANVAS).press("+")
    page.locator(CANVAS).press("ArrowLeft")
    page.locator("[data-does=study]").click()
    expect(page.get_by_role("heading", name="Study", exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot .legend")).to_contain_text("SMA 5")
    said = parse_qs(urlsplit(page.url).query)
    assert said["instrument"] == ["AAA/USD"]
    assert int(said["to"][0]) - int(said["from"][0]) < 400_000


def test_a_page_that_may_not_use_the_clipboard_shows_the_link(app: str, page: Page) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    open_chart(page, app, AAA_SECONDS)
    page.get_by_role("button", name="Copy link").click()
    field = page.get_by_role("textbox", name="Link to this view")
    expect(field).to_be_visible()
    assert field.input_value().startswith(f"{app}/chart?instrument=AAA%2FUSD&frame=1s")


def test_the_keys_are_explained(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_text("read bar by bar")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("read bar by bar")).to_be_hidden()


def test_a_chart_says_how_fresh_it_is(app: str, page: Page) -> None:
    open_chart(page, app, AAA_SECONDS)
    pulse = page.locator(".barmill-pulse")
    expect(pulse).to_contain_text("live")
    expect(pulse).to_contain_text("feed running")
    expect(pulse).to_contain_text("job running")
    assert "tick " in pulse.inner_text()


def test_everything_survives_sixty_updates(app: str, watched: Watched) -> None:
    """Zoom, place, crosshair, an open menu and the text half typed in it."""
    page = watched.page
    # Ten times as many updates a second as usual.
    page.add_init_script("const later = setTimeout; window.setTimeout = (act, ms) => later(act, ms / 10);")
    open_chart(page, app, f"{AAA_SECONDS}&studies=sma:5")
    page.locator(CANVAS).press("+")
    page.locator(CANVAS).press("ArrowLeft")
    page.locator(CANVAS).press("Shift+ArrowLeft")
    page.get_by_role("button", name="Studies").click()
    typed = page.get_by_role("textbox", name="Or enter them as text")
    typed.fill("sma:5,rs")
    before, cross = seen(page), page.locator(CANVAS).get_attribute("data-cross")
    after = after_updates(page, 60)
    assert after.updates >= before.updates + 60
    assert (after.from_ms, after.to_ms) == (before.from_ms, before.to_ms)
    assert page.locator(CANVAS).get_attribute("data-cross") == cross
    expect(page.locator(".barmill-tip")).to_be_visible()
    expect(typed).to_be_visible()
    expect(typed).to_have_value("sma:5,rs")
    assert watched.complaints == []


def test_a_finger_pans_and_two_zoom(app: str, page: Page) -> None:
    whole = open_chart(page, app, AAA_SECONDS)
    script = """([css, moves]) => {
        const canvas = document.querySelector(css);
        canvas.setPointerCapture = () => {};
        for (const [type, pointerId, clientX] of moves) {
            const {left, top} = canvas.getBoundingClientRect();
            const place = {clientX: left + clientX, clientY: top + 100};
            canvas.dispatchEvent(new PointerEvent(type, {pointerId, pointerType: "touch", bubbles: true, ...place}));
        }
    }"""
    pan = [["pointerdown", 1, 200], ["pointermove", 1, 500], ["pointerup", 1, 500]]
    page.evaluate(script, [CANVAS, pan])
    wait_for(page, f"Number(data.to) < {whole.to_ms - 20_000}")
    before = seen(page)
    apart = [["pointerdown", 1, 300], ["pointerdown", 2, 400], ["pointermove", 1, 200], ["pointermove", 2, 500]]
    page.evaluate(script, [CANVAS, apart])
    wait_for(page, f"data.to - data.from < {(before.to_ms - before.from_ms) * 0.5}")
