"""What a test wants to know of the candle chart on a page."""

from dataclasses import dataclass

from playwright.sync_api import Page

CANVAS = ".barmill-candles canvas"
_PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Seen:
    """What is in view: the stretch of time, and how many updates it has lived through."""

    view: str
    from_ms: int
    to_ms: int
    updates: int
    stale: bool


def open_chart(page: Page, app: str, query: str) -> Seen:
    """Open a chart and wait until it has drawn an update."""
    page.goto(f"{app}/chart?{query}")
    return after_updates(page, 1)


def seen(page: Page) -> Seen:
    """Look at the chart now, the first of several, with all that was done before it drawn."""
    _wait_for_drawing(page)
    data = page.locator(CANVAS).first.evaluate("canvas => ({...canvas.dataset})")
    return Seen(data["view"], int(data["from"]), int(data["to"]), int(data["updates"]), data["stale"] == "true")


def _wait_for_drawing(page: Page) -> None:
    """A chart draws a change in the next animation frame."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def after_updates(page: Page, count: int) -> Seen:
    """Wait for so many more updates, then look."""
    before = int(page.locator(CANVAS).get_attribute("data-updates", timeout=_PATIENCE_MS) or 0)
    page.wait_for_function(
        "([css, count]) => Number(document.querySelector(css).dataset.updates) >= count",
        arg=[CANVAS, before + count],
        timeout=_PATIENCE_MS,
    )
    return seen(page)


def wait_for(page: Page, condition: str) -> None:
    """Wait until a JavaScript condition over `data`, the canvas's data, holds."""
    script = f"css => {{ const data = document.querySelector(css).dataset; return {condition}; }}"
    page.wait_for_function(script, arg=CANVAS, timeout=_PATIENCE_MS)


def pixels(page: Page) -> str:
    """Return the picture, with all that was done before it drawn."""
    _wait_for_drawing(page)
    return str(page.locator(CANVAS).evaluate("canvas => canvas.toDataURL()"))


def point_at(page: Page, time_ms: float) -> None:
    """Move the mouse over the middle of the candle of that time, in a chart that does not follow the newest bar."""
    canvas = page.locator(CANVAS).first
    box, now = canvas.bounding_box(), seen(page)
    assert box is not None
    width = float(canvas.get_attribute("data-width") or 0)
    share = (time_ms - now.from_ms) / (now.to_ms - now.from_ms)
    page.mouse.move(box["x"] + width * share, box["y"] + box["height"] / 3)
