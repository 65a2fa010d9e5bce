"""The watchlist: what is shown of each instrument, and whose favourites stand first."""

import json
import time

import polars as pl
import pytest

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.auth.preferences import save_preferences
from barmill.charts.watchlist import SPANS_MS, sparklines, watchlist
from barmill.ingest.connection.state import stale_after_ms
from barmill.platform.home import Home
from barmill.storage.latest import CLOSES_SCHEMA, LATEST_SCHEMA
from tests.pages.conftest import component, opened
from tests.support.page_bars import NOON_MS
from tests.support.signed_in import signed_in
from tests.support.stores import Stores, fill

SCHEMA = LATEST_SCHEMA | dict.fromkeys(SPANS_MS, pl.Float64())


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


def test_the_columns_are_exactly_these() -> None:
    rows = [
        ("AAA/USD", 10.5, NOON_MS - 1_500, 25, 10.0, 12.0, 10.5),
        ("BBB", 7.0, NOON_MS - 90_000, 0, None, None, None),
        ("CCC", None, None, 0, None, None, None),
    ]
    table = pl.DataFrame(rows, SCHEMA, orient="row")
    columns = watchlist(table, NOON_MS, rate_over_ms=10_000, stale_after_ms={"AAA/USD": 60_000, "BBB": 60_500.5})
    assert columns == {
        "instrument": ["AAA/USD", "BBB", "CCC"],
        "last": [10.5, 7.0, None],
        "change_1m": [0.05, None, None],
        "change_1h": [-0.125, None, None],
        "change_1d": [0.0, None, None],
        "rate": [2.5, 0.0, 0.0],
        "age_ms": [1_500, 90_000, None],
        "stale": [False, True, False],
    }
    assert json.loads(json.dumps(columns)) == columns


def test_an_instrument_whose_rhythm_nobody_knows_is_not_called_stale() -> None:
    table = pl.DataFrame([("AAA", 1.0, 0, 0, None, None, None)], SCHEMA, orient="row")
    assert watchlist(table, NOON_MS, rate_over_ms=10_000, stale_after_ms={})["stale"] == [False]


def test_each_instrument_is_stale_by_its_own_rhythm() -> None:
    rows = [("AAA", 1.0, NOON_MS - 70_000, 0, *(None,) * 3), ("BBB", 1.0, NOON_MS - 70_000, 0, *(None,) * 3)]
    table = pl.DataFrame(rows, SCHEMA, orient="row")
    limits_ms = {"AAA": stale_after_ms(None), "BBB": stale_after_ms(26_342.1)}
    assert watchlist(table, NOON_MS, rate_over_ms=10_000, stale_after_ms=limits_ms)["stale"] == [True, False]


def test_a_line_reaches_from_the_lowest_to_the_highest_close() -> None:
    closes = pl.DataFrame(
        [("AAA", 10.25), ("AAA", 10.0), ("AAA", 11.0), ("BBB", 7.0), ("BBB", 7.0)], CLOSES_SCHEMA, orient="row"
    )
    assert sparklines(closes) == {
        "AAA": {"decimals": 2, "line": [10, 0, 40]},
        "BBB": {"decimals": 0, "line": [20, 20]},
    }
    assert sparklines(closes.clear()) == {}


def test_the_overview_lists_every_instrument_with_its_line(home: Home) -> None:
    fill(home, stay_heard=True)
    app = opened()
    assert not app.exception
    shown = component(app, "barmill_watchlist")
    assert shown["columns"]["instrument"] == ["AAA/USD", "BBB"]
    assert shown["columns"]["last"] == [19.75, 7.125]
    assert shown["lines"]["BBB"]["decimals"] == 3
    assert shown["status"] == {"stale": False, "sentence": shown["status"]["sentence"]}


def test_an_update_carries_the_lines_only_when_they_have_changed(home: Home) -> None:
    fill(home)
    app = opened()
    assert component(app, "barmill_update")["message"]["lines"].keys() == {"AAA/USD", "BBB"}
    app.run()
    assert component(app, "barmill_update")["message"]["lines"] == {}


def test_favourites_and_the_frame_to_open_are_the_visitors_own(home: Home) -> None:
    fill(home)
    signed_in(home, Role.TRADER, "bob")
    with open_audited_db(home) as db:
        save_preferences(db, Actor("os:root"), "bob", {"favourites": ("AAA/USD",)})
        save_preferences(db, Actor("os:root"), "test-admin", {"favourites": ("BBB",), "frame": "1h"})
    shown = component(opened(), "barmill_watchlist")
    assert (shown["favourites"], shown["frame"]) == (["BBB"], "1h")


def test_the_time_of_a_recording_is_that_of_its_newest_tick(home: Home) -> None:
    stores = Stores(home, "replay", live=False)
    stores.write([(NOON_MS - 3_700_000, "AAA", 8.0, None), (NOON_MS, "AAA", 10.0, None)], closed_to_ms=NOON_MS)
    stores.close()
    columns = component(opened(), "barmill_watchlist")["columns"]
    assert (columns["age_ms"], columns["change_1h"], columns["stale"]) == ([0], [0.25], [False])


def test_five_hundred_instruments_are_read_within_the_second_they_are_shown(home: Home) -> None:
    stores, now_ms = Stores(home), time.time_ns() // 1_000_000
    names = [f"I{number:03}" for number in range(500)]
    stores.write(
        [(now_ms - 1_000 * s, name, 10 + s / 8, 1.0) for s in range(20) for name in names], closed_to_ms=now_ms
    )
    stores.close()
    app = opened()
    assert len(component(app, "barmill_watchlist")["columns"]["instrument"]) == 500
    began_s = time.process_time()  # another process may have the machine
    app.run()
    assert time.process_time() - began_s < 1
    update = component(app, "barmill_update")["message"]
    assert len(json.dumps(update)) < 60_000
