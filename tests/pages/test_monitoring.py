"""The Monitoring page and the Alerts page, run by Streamlit's own test."""

import json
import time
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from barmill.audit.roles import Role
from barmill.audit.trail import Search, search
from barmill.platform.home import Home
from control.monitoring.alerts import open_alert_db, open_alerts
from control.monitoring.delivery import last_deliveries, webhook_url
from control.monitoring.history import History
from control.monitoring.metrics import Metric, Reading
from control.monitoring.rules import DEFAULTS, AlertKind, Rule, Rules, Severity, rules
from tests.pages.conftest import LookAs, address, component, opened, texts
from tests.support.measured import DISK_FULL, MARKET, NO_TICKS, cleared, measured_past, raised, readings
from tests.support.stopped_jobs import seconds_stopped

URL = "https://hooks.example.com/services/T0K3N"


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    st.cache_data.clear()


def figures(app: AppTest) -> dict[str, Any]:
    """Return the figures by their keys."""
    return {
        element.proto.id.rpartition("monitoring_")[2]: json.loads(element.proto.spec)
        for element in app.get("plotly_chart")
    }


def stored_rules(home: Home) -> Rules:
    db = open_alert_db(home)
    found = rules(db)
    db.conn.close()
    return found


def test_a_home_where_nothing_was_measured_says_how_it_would_be() -> None:
    app = opened("monitoring")
    assert not app.exception
    assert "Nothing measured yet" in texts(app)
    assert "./barmill up" in texts(app)
    assert figures(app) == {}


def test_the_past_is_drawn_though_no_page_was_open(home: Home) -> None:
    seconds_stopped(home).close()
    measured_past(home)
    app = opened("monitoring")
    assert not app.exception
    drawn = figures(app)
    assert len(drawn) == 6
    assert [trace["name"] for trace in drawn["ticks_accepted_per_s"]["data"]] == ["accepted", "rejected"]
    assert 170 < len(drawn["ticks_accepted_per_s"]["data"][0]["x"]) <= 241
    assert "Ticks in" in texts(app)
    facts = {fact["label"]: fact for fact in component(app, "barmill_facts")}
    assert facts["Jobs running"]["value"] == "1 of 1"
    assert not app.warning


def test_a_long_compression_of_old_bars_shows_its_progress(home: Home) -> None:
    move = {"instruments": 71, "instruments_done": 12, "bars_moved": 3_400_000}
    (home.run / "history.json").write_text(json.dumps(move))
    assert "12 of 71 instruments done, 3,400,000 bars so far." in texts(opened("monitoring"))
    (home.run / "history.json").write_text(json.dumps(move | {"instruments_done": 71}))
    assert "instruments done" not in texts(opened("monitoring"))


def test_a_refresh_leaves_the_figures_where_they_are_and_tells_them_what_is_new(home: Home) -> None:
    now_ms = time.time_ns() // 1_000_000
    measured_past(home, 600, up_to_ms=now_ms - 10_000)
    app = opened("monitoring", range="15m")
    before = [element.proto.id for element in app.get("plotly_chart")]
    assert before
    history = History.open(home)
    history.write(now_ms, [Reading(MARKET, Metric.TICKS_ACCEPTED_PER_S, 777), *readings(now_ms)[1:]])
    history.close()
    st.cache_data.clear()
    app.run()
    assert [element.proto.id for element in app.get("plotly_chart")] == before
    figures_data = component(app, "barmill_figures")
    assert figures_data.keys() == {f"monitoring_{key}" for key in figures(app)}
    assert figures_data["monitoring_ticks_accepted_per_s"]["y"][0][-1] == 777
    assert "accepted: now 777/s" in figures_data["monitoring_ticks_accepted_per_s"]["alt_text"]


def test_figures_are_told_in_words(home: Home) -> None:
    measured_past(home)
    alternatives = [element.proto.alt for element in opened("monitoring").get("plotly_chart")]
    assert any(text.startswith("Backlog, ticks. Now ") for text in alternatives)
    assert all(text.endswith(".") for text in alternatives)


def test_section_and_range_are_kept_in_the_address(home: Home) -> None:
    measured_past(home)
    app = opened("monitoring", section="jobs", range="15m")
    assert {"busy_ratio", "checkpoint_size_bytes"} <= figures(app).keys()
    assert address(app) == {"section": "jobs", "range": "15m"}
    app.button_group(key="monitoring_range").set_value("24h").run()
    app.button_group(key="monitoring_section").set_value("machine").run()
    assert not app.exception
    assert address(app) == {"section": "machine", "range": "24h"}
    assert {"resident_bytes", "free_bytes"} <= figures(app).keys()
    assert [frame.value.columns[0] for frame in app.dataframe] == ["Process", "TaskManager"]


def test_an_address_that_makes_no_sense_shows_the_usual(home: Home) -> None:
    measured_past(home, 60)
    app = opened("monitoring", section="moon", range="ever")
    assert not app.exception
    assert address(app) == {"section": "flow", "range": "1h"}


def test_exceptions_come_with_their_lines_of_source(home: Home) -> None:
    measured_past(home, 60)
    app = opened("monitoring", section="jobs")
    (label,) = [expander.label for expander in app.expander]
    assert label.endswith("UTC, job bars: ValueError\\: the block is broken")
    assert "added = self._open.add(mine)" in app.code[0].value
    assert "poll and fold" in texts(app)


def test_a_controller_that_is_silent_is_said_so(home: Home) -> None:
    measured_past(home, 60, up_to_ms=time.time_ns() // 1_000_000 - 120_000)
    app = opened("monitoring")
    assert not app.exception
    assert app.warning[0].value.startswith("No measurements for")
    assert figures(app), "what was measured before is still shown"


def test_open_alerts_stand_on_top_and_are_acknowledged_there(home: Home) -> None:
    measured_past(home, 60)
    raised(home, NO_TICKS, DISK_FULL)
    app = opened("monitoring")
    assert "No new ticks from market for 30 s; see log/ingest.log\\." not in texts(app)
    assert texts(app).index("No new ticks from market") < texts(app).index("More than 5 rows")
    app.button(key=f"monitoring_acknowledge_{open_alerts(home)[0].id}").click().run()
    assert not app.exception
    grave, other = open_alerts(home)
    assert grave.acknowledged_by
    assert other.acknowledged_by is None
    assert "acknowledged by" in texts(app)
    assert [button.key for button in app.button] == [f"monitoring_acknowledge_{other.id}"]


def test_an_alert_that_was_cleared_meanwhile_is_said_so(home: Home) -> None:
    measured_past(home, 60)
    raised(home, NO_TICKS)
    app = opened("monitoring")
    cleared(home, NO_TICKS)
    app.button[0].click().run()
    assert not app.exception
    assert app.error[0].value.startswith("This alert is not open any more")
    assert app.expander[0].label == "Cleared alerts (1)"


@pytest.mark.parametrize("page", ["overview", "chart", "monitoring", "alerts"])
def test_open_alerts_are_shown_beside_every_page(home: Home, page: str) -> None:
    assert "open alert" not in str(opened(page).sidebar)
    raised(home, NO_TICKS, DISK_FULL)
    st.cache_data.clear()
    app = opened(page)
    assert not app.exception
    assert "2 open alerts" in str([element.proto for element in app.sidebar.get("page_link")])
    assert any("No new ticks from market" in caption.value for caption in app.sidebar.caption)


def test_traders_hear_of_alerts_but_see_neither_page(home: Home, look_as: LookAs) -> None:
    raised(home, NO_TICKS)
    look_as(Role.TRADER)
    app = opened("overview")
    assert app.sidebar.get("page_link") == []
    assert any("No new ticks from market" in caption.value for caption in app.sidebar.caption)
    for page in ("monitoring", "alerts"):
        app = opened(page)
        assert not app.exception
        assert not app.main.button
        assert not {"Monitoring", "Alerts"} & {header.value for header in app.header}


def test_operators_acknowledge_but_change_no_rule(home: Home, look_as: LookAs) -> None:
    measured_past(home, 60)
    raised(home, NO_TICKS)
    look_as(Role.OPERATOR)
    app = opened("monitoring")
    assert len(app.button) == 1
    assert "Rules and webhook" not in str([element.proto for element in app.main.get("page_link")])
    app = opened("alerts")
    assert not app.number_input
    assert not app.button


def test_rules_are_changed_in_a_form(home: Home) -> None:
    app = opened("alerts")
    assert not app.exception
    app.number_input(key="alerts_no_data_threshold").set_value(90.0)
    app.checkbox(key="alerts_rejects_on").set_value(False)
    app.selectbox(key="alerts_disk_low_severity").set_value(Severity.WARNING)
    app.button(key="alerts_save").click().run()
    assert not app.exception
    assert [success.value for success in app.success] == [
        "Changed\\: No new ticks, Many rejects, The disk is filling up."
    ]
    assert stored_rules(home) == {
        **DEFAULTS,
        AlertKind.NO_DATA: Rule(threshold=90, severity=Severity.CRITICAL),
        AlertKind.REJECTS: Rule(threshold=5, enabled=False),
        AlertKind.DISK_LOW: Rule(threshold=2),
    }


def test_the_webhook_is_set_tested_and_taken_away_and_never_shown(home: Home) -> None:
    app = opened("alerts")
    app.text_input[0].set_value(f"  {URL} ")
    app.button(key="alerts_submit").click().run()
    assert not app.exception
    assert webhook_url(home) == URL
    assert "hooks.example.com" in texts(app)
    assert "T0K3N" not in str(app)
    app.button(key="alerts_test").click().run()
    assert [delivery.event for delivery in last_deliveries(home, 9)] == ["test"]
    assert app.dataframe[0].value["Result"].to_list() == ["waiting for the controller"]
    app.button(key="alerts_remove").click().run()
    assert not app.exception
    assert webhook_url(home) is None
    assert "shown only on the pages" in texts(app)
    db = open_alert_db(home)
    trail = "".join(map(str, search(db, Search())))
    db.conn.close()
    assert "hooks.example.com" in trail
    assert "T0K3N" not in trail


def test_what_is_no_address_is_refused(home: Home) -> None:
    app = opened("alerts")
    app.text_input[0].set_value("hooks.example.com/T0K3N")
    app.button(key="alerts_submit").click().run()
    assert not app.exception
    assert "write it like https" in app.error[0].value
    assert webhook_url(home) is None
