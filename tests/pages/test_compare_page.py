"""The compare page: several instruments from one address."""

import time

import pytest
from streamlit.testing.v1 import AppTest

from barmill.platform.home import Home
from tests.pages.conftest import address, component, opened, texts
from tests.support.stores import Stores


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


def fill(home: Home) -> None:
    """Write ten minutes of three instruments, of which one falls and two rise by a tenth, and one that is silent."""
    now_ms, stores = time.time_ns() // 1_000_000, Stores(home)
    trades = [
        (now_ms - 600_000 + 10_000 * step, name, price * (1 + sign * step / 600), 1.0)
        for name, price, sign in (("AAA/USD", 100.0, 1), ("BBB", 7.0, -1), ("CCC", 0.5, 1))
        for step in range(61)
    ]
    stores.write([*trades, (now_ms - 5 * 86_400_000, "OLD", 3.0, None)], closed_to_ms=now_ms)
    stores.close()


def compared(**query: str) -> AppTest:
    app = opened("compare", **query)
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    (found,) = app.get("plotly_chart")
    return str(found.proto.alt)


def test_an_empty_home_says_how_to_start() -> None:
    assert "No bars yet" in texts(compared())


def test_a_bare_address_compares_the_first_three(home: Home) -> None:
    fill(home)
    app = compared()
    assert address(app) == {"range": "1h", "instruments": "AAA/USD,BBB,CCC"}
    assert words(app).startswith("Prices since the start of the range: ")
    assert words(app).index("AAA/USD up 10.00 percent") < words(app).index("BBB down 10.00 percent")


def test_the_address_says_which_and_how_far_back(home: Home) -> None:
    fill(home)
    app = compared(instruments="CCC,BBB", range="15m")
    table = app.dataframe[0].value
    assert table["Instrument"].to_list() == ["CCC", "BBB"]
    assert table["Change"].to_list() == ["▲ +10.00 %", "▼ −10.00 %"]
    assert address(app) == {"instruments": "CCC,BBB", "range": "15m"}


def test_the_figure_on_the_page_is_told_its_newest_data(home: Home) -> None:
    fill(home)
    app = compared(instruments="AAA/USD,BBB")
    update = component(app, "barmill_figures")["compare_indexed"]
    assert len(update["x"]) == len(update["y"]) == 2
    assert [line[0] for line in update["y"]] == [100, 100]
    assert update["alt_text"] == words(app)


def test_one_instrument_is_shown_with_a_hint_and_none_with_only_that(home: Home) -> None:
    fill(home)
    app_test = compared(instruments="AAA/USD")
    assert "Select two or more instruments" in texts(app_test)
    assert words(app_test) == "Prices since the start of the range: AAA/USD up 10.00 percent."
    none = compared(instruments="")
    assert "Select two or more instruments" in texts(none)
    assert not none.get("plotly_chart")


def test_an_instrument_without_bars_in_the_range_says_so_in_the_table(home: Home) -> None:
    fill(home)
    table = compared(instruments="AAA/USD,OLD").dataframe[0].value
    assert table["Last"].to_list()[1] == "–"


def test_what_is_picked_goes_into_the_address(home: Home) -> None:
    fill(home)
    app = compared(instruments="AAA/USD,BBB")
    app.multiselect(key="compare_instruments").set_value(["BBB", "CCC"]).run()
    assert not app.exception
    assert address(app)["instruments"] == "BBB,CCC"
    assert app.dataframe[0].value["Instrument"].to_list() == ["BBB", "CCC"]


def test_an_unknown_instrument_is_left_out_and_said_so(home: Home) -> None:
    fill(home)
    app = compared(instruments="AAA/USD,[x](http://elsewhere),BBB")
    assert address(app)["instruments"] == "AAA/USD,BBB"
    assert app.toast[0].value == r"No bars of \[x\](http\://elsewhere), so not shown."


def test_prices_that_stand_still_are_said_to(home: Home) -> None:
    stores, then_ms = Stores(home), time.time_ns() // 1_000_000 - 60_000
    stores.write([(then_ms, "AAA/USD", 1.0, None), (then_ms, "BBB", 2.0, None)], closed_to_ms=then_ms)
    stores.close()
    assert "silent for" in texts(compared())
