"""The instruments page: what it shows, what it changes, and what it says about it."""

import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor
from barmill.audit.trail import Search, search
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.feeds.instrument_listing import Listing
from barmill.ingest.instruments.changes import change_selection, request_refresh
from barmill.ingest.instruments.names import evaluate_names, parse_names
from barmill.ingest.instruments.store import CatalogueState, Instrument, Instruments
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate
from tests.pages.conftest import opened, texts
from tests.support.stores import Stores
from views.feed_tables import catalogue_hash, catalogue_line, live_table, report_table

NOW_MS = 1_764_072_000_000
ADA = Actor("ada")
OFFERED = [
    CatalogueEntry("AAA/USD", "Alpha Works", 3, True),
    CatalogueEntry("BBB", "Beta", 4, False),
    CatalogueEntry("CCC", "Gamma Works"),
]


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def offered(home: Home) -> Home:
    """A home whose feed has fetched a catalogue, and whose job has made bars of two instruments."""
    with Instruments.open(home) as instruments:
        instruments.save_catalogue("market", OFFERED, None)
    now_ms = time.time_ns() // 1_000_000
    stores = Stores(home)
    stores.write([(now_ms - 4_000 + 100 * n, "AAA/USD", 10 + n / 4, 2.0) for n in range(40)], closed_to_ms=now_ms)
    stores.write([(now_ms - 200_000, "BBB", 7.125, None)], closed_to_ms=now_ms)
    stores.close()
    return home


def enabled(home: Home) -> list[str]:
    with Instruments.read_only(home) as instruments:
        return [instrument.instrument for instrument in instruments.catalogue("market") if instrument.enabled]


def table(app: AppTest, column: str) -> Any:
    """Return the table that has this column."""
    (found,) = [dataframe.value for dataframe in app.dataframe if column in dataframe.value.columns]
    return found


def select(app: AppTest, *rows: int) -> AppTest:
    """Select rows of the table of picks."""
    (id_,) = [dataframe.proto.id for dataframe in app.dataframe if "instruments_table_" in dataframe.proto.id]
    key = id_[id_.index("instruments_table_") :]
    app.session_state[key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return app.run()


def labels(app: AppTest) -> dict[str, bool]:
    """Return the buttons that there are, and whether they can be pressed."""
    return {button.label: not button.disabled for button in app.button}


def said(app: AppTest) -> list[str]:
    return [str(message.value) for message in (*app.success, *app.error)]


def test_it_lists_the_catalogue_beside_what_moves(offered: Home) -> None:
    app = opened("instruments")
    assert not app.exception
    picks, live = table(app, "Description"), table(app, "Last price")
    assert picks["Instrument"].tolist() == ["AAA/USD", "BBB", "CCC"]
    assert picks["Enabled"].tolist() == [True, True, True]
    assert live["Instrument"].tolist() == ["AAA/USD", "BBB", "CCC"]
    assert live["Last price"].tolist() == ["19.750", "7.1250", "–"]
    assert live["State"].tolist() == ["live", "stale", "no tick yet"]
    assert "3 of 3 enabled, catalogue fetched" in texts(app)
    assert enabled(offered) == ["AAA/USD", "BBB", "CCC"]


def test_selected_rows_are_disabled_and_enabled_again(offered: Home) -> None:
    app = opened("instruments")
    assert labels(app)["Disable selected"] is False
    select(app, 0, 2)
    app.button(key="instruments_disable").click().run()
    assert not app.exception
    assert enabled(offered) == ["BBB"]
    assert said(app) == ["Done\\: 2 disabled. A running feed applies this within two seconds."]
    assert table(app, "Description")["Enabled"].tolist() == [False, True, False]
    assert labels(app)["Enable selected"] is False, "the selection is over with what it was about"
    select(app, 2)
    assert labels(app)["Enable 1 selected"]
    app.button(key="instruments_enable").click().run()
    assert enabled(offered) == ["BBB", "CCC"]
    with Instruments.open(offered) as instruments:
        trail = [(record.action, record.subject, record.actor) for record in search(instruments.db, Search())]
    me = "test-admin"
    assert trail == [("instrument.enable", "CCC", me), ("instrument.disable", "2 names", me)]


def test_searching_narrows_both_tables_and_goes_into_the_address(offered: Home) -> None:
    app = opened("instruments")
    app.text_input(key="instruments_search").set_value("works").run()
    assert table(app, "Description")["Instrument"].tolist() == ["AAA/USD", "CCC"]
    assert table(app, "Last price")["Instrument"].tolist() == ["AAA/USD", "CCC"]
    select(app, 1)
    app.button(key="instruments_disable").click().run()
    assert enabled(offered) == ["AAA/USD", "BBB"]
    app.button_group(key="instruments_state").set_value("Disabled").run()
    assert table(app, "Description")["Instrument"].tolist() == ["CCC"]


def test_a_link_opens_the_same_view(offered: Home) -> None:
    with Instruments.open(offered) as instruments:
        change_selection(instruments, ADA, "market", [(1, "CCC")], enable=False)
    app = opened("instruments", instruments_search="works", instruments_state="Enabled")
    assert not app.exception
    assert table(app, "Description")["Instrument"].tolist() == ["AAA/USD"]


def test_a_pasted_list_is_reported_before_anything_is_done(offered: Home) -> None:
    app = opened("instruments")
    app.text_area(key="instruments_paste").set_value("bbb\nNOPE\nCCC, BBB").run()
    app.button_group(key="instruments_action").set_value("Disable").run()
    report = table(app, "Outcome")
    assert report.to_dict("split")["data"] == [
        [2, "NOPE", "", "unknown"],
        [1, "bbb", "BBB", "disabled"],
        [3, "CCC", "CCC", "disabled"],
        [3, "BBB", "BBB", "duplicate"],
    ]
    assert enabled(offered) == ["AAA/USD", "BBB", "CCC"]
    assert labels(app)["Disable 2"] is False
    app.checkbox(key="instruments_partial").check().run()
    app.button(key="instruments_apply").click().run()
    assert not app.exception
    assert enabled(offered) == ["AAA/USD"]
    assert said(app) == ["Done\\: 2 disabled, 1 duplicate, 1 unknown. A running feed applies this within two seconds."]


def test_a_list_without_mistakes_needs_no_consent(offered: Home) -> None:
    with Instruments.open(offered) as instruments:
        change_selection(instruments, ADA, "market", parse_names("AAA/USD,BBB"), enable=False)
    app = opened("instruments")
    app.text_area(key="instruments_paste").set_value("AAA/USD\nBBB\nCCC").run()
    assert not app.checkbox
    app.button(key="instruments_apply").click().run()
    assert enabled(offered) == ["AAA/USD", "BBB", "CCC"]


def test_asking_for_a_new_catalogue_is_on_its_way_until_the_feed_answers(offered: Home) -> None:
    app = opened("instruments")
    app.button(key="instruments_refresh").click().run()
    assert "new catalogue requested" in texts(app)
    with Instruments.open(offered) as instruments:
        asked = instruments.state("market")
        instruments.save_problem("market", "The market cannot be reached.", asked.trace_id)
    app.run()
    assert "new catalogue requested" not in texts(app)
    assert "The last fetch failed; the previous list is shown: The market cannot be reached." in texts(app)


def test_without_a_catalogue_it_says_how_one_comes_about(home: Home) -> None:
    app = opened("instruments")
    assert not app.exception
    assert "No catalogue yet" in texts(app)
    assert "./barmill up" in texts(app)
    with Instruments.open(home) as instruments:
        instruments.save_problem("market", "The key was refused.", None)
    app.run()
    assert said(app) == ["The catalogue could not be fetched: The key was refused."]
    with Instruments.open(home) as instruments:
        instruments.save_catalogue("market", OFFERED, None)
    app.run()
    assert table(app, "Description")["Instrument"].tolist() == ["AAA/USD", "BBB", "CCC"]


def test_of_files_it_shows_what_came_and_offers_nothing_to_pick(home: Home) -> None:
    (home.root / FeedSettings.file_name).write_text('{"provider": "replay", "files": ["prices.csv"]}')
    stores = Stores(home, "replay")
    stores.write([(NOW_MS, "FROM FILE", 5.25, None)], closed_to_ms=NOW_MS + 1_000)
    stores.close()
    app = opened("instruments")
    assert not app.exception
    assert "no selection is needed" in app.info[0].value
    assert table(app, "Last price")["Last price"].tolist() == ["5.25"]
    assert not app.button


def test_settings_that_cannot_be_read_are_one_sentence(home: Home) -> None:
    (home.root / FeedSettings.file_name).write_text('{"provider": "unknown"}')
    app = opened("instruments")
    assert not app.exception
    assert "correct it or delete the file" in said(app)[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "UPDATE accounts SET role = 'trader'",
            "As trader, test-admin may not enable and disable instruments; ask an admin.",
        ),
        ("UPDATE accounts SET disabled = 1", "The account test-admin is disabled; ask an admin."),
    ],
)
def test_rights_taken_away_while_the_page_is_open_count_at_once(offered: Home, change: str, why: str) -> None:
    app = select(opened("instruments"), 0)
    with open_audited_db(offered) as db, immediate(db):
        db.conn.execute(change)
    app.button(key="instruments_disable").click().run()
    assert enabled(offered) == ["AAA/USD", "BBB", "CCC"]
    with open_audited_db(offered) as db:
        assert search(db, Search(stage="refused"))[0].result == why


def test_the_live_table_is_exactly_this() -> None:
    slow = Listing("market", "SLOW & CO", "", True, NOW_MS - 90_000, 5.0, 0.0, stale=True)
    quick = Listing("market", "QUICK", "", True, NOW_MS + 30, 1.5, 2.5)
    off = Listing("market", "OFF", "", False, NOW_MS - 1_000, 0.00001, 0.1)
    rows = live_table([slow, quick, off], {"QUICK": 3, "OFF": None}, NOW_MS, 2)
    assert rows.to_dicts() == [
        {
            "Instrument": "QUICK",
            "Last price": "1.500",
            "Ticks/s": 2.5,
            "Silent for": 0.0,
            "State": "live",
            "Chart": "chart?instrument=QUICK",
        },
        {
            "Instrument": "OFF",
            "Last price": "0.00001",
            "Ticks/s": 0.1,
            "Silent for": 1.0,
            "State": "disabled",
            "Chart": "chart?instrument=OFF",
        },
    ]
    assert live_table([slow], {}, NOW_MS, 9)["Chart"].to_list() == ["chart?instrument=SLOW%20%26%20CO"]


def test_another_list_or_another_pick_is_another_version() -> None:
    instrument, two = (Instrument("market", name, "", None, None, True) for name in ("A", "B"))
    off = Instrument("market", "B", "", None, None, False)
    versions = {
        catalogue_hash([]),
        catalogue_hash([instrument]),
        catalogue_hash([instrument, two]),
        catalogue_hash([instrument, off]),
        catalogue_hash([two, instrument]),
    }
    assert len(versions) == 5
    assert catalogue_hash([instrument, two]) == catalogue_hash([instrument, two])


def test_a_very_long_name_is_cut_in_the_report() -> None:
    report = evaluate_names([(1, "x" * 500)], {}, enable=True)
    assert report_table(report)["Name"].to_list() == ["x" * 64]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (CatalogueState(NOW_MS - 240_000), "1 of 2 enabled, catalogue fetched 4 min ago."),
        (
            CatalogueState(NOW_MS - 240_000, requested_ms=NOW_MS - 2_000),
            "1 of 2 enabled, catalogue fetched 4 min ago, new catalogue requested 2.0 s ago.",
        ),
        (
            CatalogueState(None, requested_ms=NOW_MS - 60_000),
            "1 of 2 enabled, new catalogue requested 60 s ago; the feed has not responded, see Overview.",
        ),
    ],
)
def test_the_line_above_says_how_old_the_catalogue_is(state: CatalogueState, line: str) -> None:
    catalogue = [Instrument("market", name, "", None, None, name == "A") for name in ("A", "B")]
    assert catalogue_line(catalogue, state, NOW_MS) == line


def test_a_request_that_was_made_elsewhere_shows_too(offered: Home) -> None:
    with Instruments.open(offered) as instruments:
        request_refresh(instruments, ADA, "market")
    assert "new catalogue requested" in texts(opened("instruments"))
