"""The study page: its address is the view, and what is on it can be taken along."""

from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from barmill.platform.home import Home
from tests.pages.conftest import address, opened, texts
from tests.support.stores import Stores

NOON_MS = 1_764_072_000_000
AAA = "AAA/USD"
_MIN_MS = 60_000


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


def fill(home: Home) -> None:
    """Write half a minute's prices of two instruments for forty minutes from noon, five minutes of them missing."""
    stores = Stores(home)
    steps = [step for step in range(80) if step not in range(40, 50)]
    trades = [(NOON_MS + 30_000 * step, AAA, 100 + step % 9 / 4, 2.0) for step in steps]
    stores.write([*trades, (NOON_MS, "BBB", 7.0, None)], closed_to_ms=NOON_MS + 40 * _MIN_MS)
    stores.close()


def studied(**query: str) -> AppTest:
    app = opened("study", **query)
    assert not app.exception
    return app


def figure(app: AppTest) -> str:
    """Return the description of the figure for screen readers."""
    (found,) = app.get("plotly_chart")
    return str(found.proto.alt)


def export_links(app: AppTest) -> dict[str, dict[str, str]]:
    links = {
        urlsplit(element.proto.url).path: parse_qs(urlsplit(element.proto.url).query)
        for element in app.get("link_button")
    }
    return {path: {name: values[0] for name, values in asked.items()} for path, asked in links.items()}


def test_an_empty_home_says_how_to_start() -> None:
    assert "No bars yet" in texts(studied())


def test_a_bare_address_becomes_one_that_reopens_the_view(home: Home) -> None:
    fill(home)
    app = studied()
    fixed = {"instrument": AAA, "frame": "1m", "from": str(NOON_MS), "to": str(NOON_MS + 40 * _MIN_MS)}
    assert address(app) == fixed
    again = studied(**fixed)
    assert address(again) == fixed
    assert figure(again) == figure(app)
    assert figure(app).startswith("Candles of AAA/USD, 35 bars of 1m from 12:00 to 12:39 UTC")


def test_the_address_says_range_frame_and_studies(home: Home) -> None:
    fill(home)
    span = {"from": str(NOON_MS + 10 * _MIN_MS), "to": str(NOON_MS + 15 * _MIN_MS)}
    app = studied(instrument=AAA, frame="1m", studies="sma:3,rsi:5", **span)
    said = figure(app)
    assert "5 bars of 1m from 12:10 to 12:14 UTC" in said
    # Both have values from the first bar on: what came before was read too.
    assert "SMA 3 1" in said
    assert "no value yet" not in said


def test_what_is_on_screen_can_be_taken_along(home: Home) -> None:
    fill(home)
    asked = {"instrument": AAA, "frame": "1m", "from": str(NOON_MS), "to": str(NOON_MS + _MIN_MS), "studies": "sma:3"}
    app = studied(**asked)
    assert export_links(app) == {"/bars.csv": asked, "/bars.parquet": asked}
    known = asked | {"fill": "1", "as_of": "4000000000000"}
    assert export_links(studied(**known)) == {"/bars.csv": known, "/bars.parquet": known}


def test_nothing_is_shown_that_was_not_known_then(home: Home) -> None:
    fill(home)
    app = studied(instrument=AAA, frame="1m", as_of="1000000000000")
    assert "No bars in this range" in texts(app)


def test_gaps_are_filled_by_choice(home: Home) -> None:
    fill(home)
    app = studied(instrument=AAA, frame="1m")
    assert "35 bars of 1m" in figure(app)
    app.toggle(key="study_filled").set_value(True).run()
    assert "40 bars of 1m" in figure(app)
    assert address(app)["fill"] == "1"


def test_earlier_and_later_move_by_the_length_of_the_range(home: Home) -> None:
    fill(home)
    span = {"from": str(NOON_MS + 10 * _MIN_MS), "to": str(NOON_MS + 15 * _MIN_MS)}
    app = studied(instrument=AAA, frame="1m", **span)
    app.button(key="study_earlier").click().run()
    assert "from 12:05 to 12:09 UTC" in figure(app)
    app.button(key="study_later").click().run()
    assert (address(app)["from"], address(app)["to"]) == (span["from"], span["to"])
    app.button(key="study_newest").click().run()
    assert address(app)["to"] == str(NOON_MS + 40 * _MIN_MS)


def test_a_time_is_picked_on_the_clock_of_the_zone(home: Home) -> None:
    fill(home)
    app = studied(instrument=AAA, frame="1m", zone="Asia/Kolkata")
    begin = app.datetime_input(key="study_from")
    assert (begin.label, begin.value) == ("From, Asia/Kolkata", datetime(2025, 11, 25, 17, 30))
    begin.set_value(datetime(2025, 11, 25, 17, 40)).run()
    assert not app.exception
    assert address(app)["from"] == str(NOON_MS + 10 * _MIN_MS)


def test_a_field_that_shows_minutes_leaves_an_exact_range_alone(home: Home) -> None:
    fill(home)
    app = studied(instrument=AAA, frame="1s", **{"from": str(NOON_MS + 30_001), "to": str(NOON_MS + 90_000)})
    # As the browser hands a field back that it has rounded.
    app.datetime_input(key="study_from").set_value(datetime(2025, 11, 25, 12)).run()
    assert address(app)["from"] == str(NOON_MS + 30_001)


def test_a_range_without_bars_says_what_to_do(home: Home) -> None:
    fill(home)
    app = studied(instrument=AAA, frame="1m", **{"from": "1000000000000", "to": "1000000060000"})
    assert "No bars in this range" in texts(app)
    assert not app.get("plotly_chart")
    app.button(key="study_show_newest").click().run()
    assert "35 bars" in figure(app)


@pytest.mark.parametrize("span", [("5", "4"), ("x", "y"), ("", "5"), ("0", "9" * 30), ("1", "2"), ("²", "3")])
def test_a_range_that_makes_no_sense_becomes_the_newest(home: Home, span: tuple[str, str]) -> None:
    fill(home)
    app = studied(instrument=AAA, frame="1m", **{"from": span[0], "to": span[1]})
    assert address(app)["from"] == str(NOON_MS)


def test_a_frame_that_is_not_stored_is_rolled_up(home: Home) -> None:
    fill(home)
    assert "7 bars of 5m from 12:00 to 12:35 UTC" in figure(studied(instrument=AAA, frame="5m"))


def test_an_instrument_that_left_the_store_is_said_so(home: Home) -> None:
    fill(home)
    app = studied(instrument="ZZZ")
    assert app.toast[0].value.startswith("There are no bars for the instrument ZZZ")


def test_a_store_that_is_taken_away_brings_the_empty_page_back(home: Home) -> None:
    fill(home)
    app = studied()
    home.bars_db.unlink()
    app.run()
    assert not app.exception
    assert "No bars yet" in texts(app)
