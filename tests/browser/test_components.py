"""What our own components do when Streamlit calls them in an order that a slow machine brings about."""

import json
import random
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Page, expect

from barmill.charts.candles import candles
from barmill.model.frames import parse_frame
from barmill.platform.texts import change, number_text
from pages.parts.shared.browser_code import browser_code
from tests.support.page_bars import NOON_MS, of

FACTS = json.dumps([{"label": "Ticks per second", "value": "–"}])
NEWER = json.dumps([{"label": "Ticks per second", "value": "2"}])


@pytest.fixture
def facts(page: Page) -> Page:
    """A page with an empty row of facts, and the component's code as `show`."""
    page.set_content('<div id="place"><dl class="barmill-facts"></dl></div>')
    page.evaluate(
        """async code => {
            const url = URL.createObjectURL(new Blob([code], {type: "text/javascript"}));
            const component = (await import(url)).default;
            window.show = data => component({data, parentElement: document.querySelector("#place")});
        }""",
        browser_code("cleanup.js", "facts/facts.js"),
    )
    return page


def run(page: Page, script: str) -> Any:
    return page.evaluate(f"() => {{ {script} }}")


def test_newer_data_that_overtakes_the_loading_of_the_code_changes_the_row_in_place(facts: Page) -> None:
    run(facts, f"const end = show({FACTS}); end(); show({NEWER});")
    expect(facts.locator(".barmill-facts div b")).to_have_text(["2"])


def test_what_is_kept_for_an_element_ends_with_it(facts: Page) -> None:
    ended = """
        const element = document.querySelector("#place");
        const end = show(%s);
        element.remove();
        end();
        element.querySelector("dl").replaceChildren();
        document.body.append(element);
        show(%s);
        return element.querySelectorAll("b").length;
    """
    assert run(facts, ended % (FACTS, NEWER)) == 1


@pytest.fixture
def script(page: Page) -> Page:
    """A page with the functions that print numbers and the chart's bars."""
    page.set_content("<p></p>")
    page.add_script_tag(content=browser_code("numbers.js", "candles/bars.js") + ";window.BarBook = BarBook;")
    return page


def test_numbers_are_printed_as_python_prints_them_and_come_back(script: Page) -> None:
    chosen = random.Random(11)
    floats = [chosen.uniform(-1, 1) * 10.0 ** chosen.randint(-17, 22) for _ in range(2_000)]
    floats += [round(chosen.uniform(0, 9_999), chosen.randint(0, 8)) for _ in range(2_000)]
    floats += [0.0, -0.0, 1e-7, 1.5e-7, 1e15, 999.0, 1_000.0, 0.1 + 0.2, 5e-324, 1.7e308]
    asked = [(value, chosen.randint(0, 8), chosen.random() < 0.5) for value in floats]
    printed = script.evaluate("asked => asked.map((one) => numberText(...one))", [list(request) for request in asked])
    ordinary = [index for index, (value, *_) in enumerate(asked) if value == 0 or 1e-15 <= abs(value) < 1e21]
    assert len(ordinary) > 3_000
    for index in ordinary:
        value, decimals, grouped = asked[index]
        assert printed[index] == number_text(value, decimals, grouped=grouped)
    assert [float(text.replace(",", "")) for text in printed] == floats
    assert script.evaluate("[numberText(null), numberText(undefined, 3)]") == ["–", "–"]


def test_changes_are_printed_as_python_prints_them(script: Page) -> None:
    ratios = [0.0, 0.0123, -0.5, -0.00001, 0.00001, -0.0001, 3.0]
    assert script.evaluate("ratios => ratios.map(changeText)", ratios) == [change(ratio) for ratio in ratios]


def test_a_gap_is_known_while_its_edges_are_out_of_view(script: Page) -> None:
    first = of("AAA/USD", 1.0, changed_ms=NOON_MS)
    both = pl.concat([first, first.with_columns(pl.col("start_ms", "end_ms") + 3_600_000)])
    slot = NOON_MS // 60_000
    gaps = [(NOON_MS + 60_000, NOON_MS + 3_600_000, "feed down")]
    message = candles(both, "AAA/USD", parse_frame("1m"), 5, gaps=gaps)
    script.evaluate("(message) => { window.book = new BarBook(message); }", message)
    found = script.evaluate(
        "(views) => views.map((view) => book.gapsIn(...view))",
        [[slot + 20, slot + 40], [slot - 5, slot + 5], [slot + 50, slot + 90], [slot - 9, slot - 2]],
    )
    gap = {"from": slot + 1, "to": slot + 60, "reason": "feed down"}
    assert found == [[gap], [gap], [gap], []]
