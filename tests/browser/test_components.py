"""What our own components do when Streamlit calls them in an order that a slow machine brings about."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pages.parts.browser_code import browser_code

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
        browser_code("lasting.js", "facts/facts.js"),
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
