"""The feeds page: what it shows of each feed, and what it changes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from barmill.audit.roles import Actor, Role
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.feeds.changes import add
from barmill.ingest.feeds.feed import Feeds, feeds_of
from barmill.ingest.instruments.store import Instruments
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from barmill.storage.tick_log import TickLog
from tests.pages.conftest import LookAs, opened, texts
from tests.support.feed_states import reported
from tests.support.measured import measured_past

ADA = Actor("ada")
TOPIC = '{"bootstrap": "localhost:9092", "topic": "prices"}'


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    st.cache_data.clear()


@pytest.fixture
def two(home: Home) -> Iterator[Home]:
    """A home with a feed `b` beside the demo market."""
    with Feeds.open(home) as feeds:
        add(feeds, ADA, "b", "kafka", TOPIC)
    refused = ConnectionState(Phase.REFUSED, "The brokers refused us.", now_ms() - 7_000, skew_ms=12.4, gaps=2)
    receiving = ConnectionState(Phase.RECEIVING, "Prices arrive.", now_ms(), heard_ms=now_ms())
    with TickLog.open(home.ticks_db) as log:
        log.start_source("b", live=True, prefix="b:")
        with log.db.conn:
            log.db.conn.execute("UPDATE sources SET reused_ids = 7")
    with reported(home, {"b": refused, "market": receiving}):
        yield home


def table(app: AppTest) -> Any:
    (found,) = [dataframe.value for dataframe in app.dataframe if "Details" in dataframe.value.columns]
    return found


def buttons(app: AppTest) -> set[str]:
    return {button.key for button in app.button if button.key and button.key.startswith("feeds_")}


def test_a_home_without_feeds_of_its_own_teaches_how_to_add_one() -> None:
    app = opened("feeds")
    assert not app.exception
    assert "No feeds added yet" in texts(app)
    assert table(app)["Feed"].tolist() == ["market"]
    assert table(app)["State"].tolist() == ["not running"]
    assert buttons(app) == {"feeds_add", "feeds_switch_market"}


def test_every_state_is_shown_here_and_on_monitoring(two: Home) -> None:
    measured_past(two)
    for page in ("feeds", "monitoring"):
        app = opened(page)
        assert not app.exception
        rows = table(app).to_dict("records")
        assert [(row["Feed"], row["State"], row["Details"]) for row in rows] == [
            ("market", "receiving", "Prices arrive."),
            ("b", "refused", "The brokers refused us."),
        ]
        assert [re.fullmatch(r"[\d.]+ (s|min)", row["In state for"]) is not None for row in rows] == [True, True]
        assert (rows[1]["Clock, ms"], rows[1]["Gaps"]) == (12, 2)
        assert "**b** refused" in texts(app)
        assert [row["Reused ids"] for row in rows] == [0, 7]


@pytest.mark.usefixtures("two")
def test_an_operator_looks_and_changes_nothing(look_as: LookAs) -> None:
    look_as(Role.OPERATOR)
    app = opened("feeds")
    assert table(app)["Feed"].tolist() == ["market", "b"]
    assert buttons(app) == set()


def test_the_simulated_prices_are_disabled_and_enabled_again(two: Home) -> None:
    app = opened("feeds")
    app.button(key="feeds_switch_market").click().run()
    assert [feed.enabled for feed in feeds_of(two)] == [False, True]
    assert "The feed market is disabled." in [success.value for success in app.success]
    assert table(app)["State"].tolist()[0] == "disabled"
    app.button(key="feeds_switch_market").click().run()
    assert [feed.enabled for feed in feeds_of(two)] == [True, True]


def test_a_feed_is_added_from_what_is_ready_made_with_a_key_of_the_store(home: Home) -> None:
    with KeyStore.open(home, ADA) as keys:
        keys.add("theirs", "market", "a secret of theirs")
    app = opened("feeds")
    app.button(key="feeds_add").click().run()
    app.selectbox(key="feeds_ready").select("demo-market").run()
    app.text_input(key="feeds_name").set_value("sim").run()
    app.button(key="feeds_submit").click().run()
    assert any("requires a key" in error.value for error in app.error)
    app.selectbox(key="feeds_key_").select("theirs").run()
    app.button(key="feeds_submit").click().run()
    assert not app.exception
    assert [(feed.name, feed.kind, feed.key) for feed in feeds_of(home)][1:] == [("sim", "market", "theirs")]
    assert "The feed sim is added" in app.success[0].value


def test_settings_of_my_own_say_what_is_wrong_while_they_are_typed(home: Home) -> None:
    app = opened("feeds")
    app.button(key="feeds_add").click().run()
    app.selectbox(key="feeds_ready").select("custom").run()
    app.selectbox(key="feeds_kind").select("kafka").run()
    app.text_area(key="feeds_settings_custom").set_value('{"topic": "prices"}').run()
    assert "bootstrap is missing" in texts(app)
    app.text_input(key="feeds_name").set_value("b").run()
    app.button(key="feeds_submit").click().run()
    assert len(feeds_of(home)) == 1
    app.text_area(key="feeds_settings_custom").set_value(TOPIC).run()
    app.button(key="feeds_submit").click().run()
    assert [feed.name for feed in feeds_of(home)] == ["market", "b"]


def test_a_feed_is_edited_and_deleted(two: Home) -> None:
    app = opened("feeds")
    app.button(key="feeds_edit_b").click().run()
    app.text_area(key="feeds_edited_b").set_value(TOPIC.replace("prices", "others")).run()
    app.button(key="feeds_submit").click().run()
    assert '"others"' in feeds_of(two)[1].settings
    app.button(key="feeds_delete_b").click().run()
    app.button(key="feeds_submit").click().run()
    assert [feed.name for feed in feeds_of(two)] == ["market"]
    assert not app.exception


def test_the_instruments_of_each_feed_are_picked_by_themselves_and_many_are_searched(two: Home) -> None:
    with Instruments.open(two) as instruments:
        instruments.save_catalogue("market", [CatalogueEntry("AAA/USD")], None)
        instruments.save_catalogue("b", [CatalogueEntry(f"b:COIN{n}/USDT") for n in range(3_000)], None)
    app = opened("instruments")
    assert not app.exception
    assert app.selectbox(key="instruments_feed").value == "b"
    app.text_input(key="instruments_search").set_value("coin2999").run()
    (picks,) = [dataframe.value for dataframe in app.dataframe if "Description" in dataframe.value.columns]
    assert picks["Instrument"].tolist() == ["b:COIN2999/USDT"]
    assert picks["Enabled"].tolist() == [False]
    app.text_input(key="instruments_search").set_value("").run()
    app.selectbox(key="instruments_feed").select("market").run()
    (picks,) = [dataframe.value for dataframe in app.dataframe if "Description" in dataframe.value.columns]
    assert picks["Instrument"].tolist() == ["AAA/USD"]
