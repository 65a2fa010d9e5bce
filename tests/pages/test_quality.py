"""The data quality page, over stores that a real shard has filled."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from barmill.audit.roles import Role
from barmill.charts.quality import lateness_figure, most_revised, rejects_over_time, revision_delays
from barmill.ingest.connection.provider import CatalogueEntry
from barmill.ingest.feeds.instrument_listing import Listing
from barmill.ingest.instruments.store import Instruments
from barmill.model.tick import as_rejects
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_for_writing
from barmill.platform.texts import duration
from barmill.storage.verification import Verdict
from control.quality import ComparisonState, State, TickCounts, comparison_of
from tests.pages.conftest import LookAs, address, opened, texts
from tests.support.shard import Market
from tests.support.ticks import START_MS
from views.quality_tables import (
    Bar,
    comparison_line,
    lateness_line,
    parse_bar,
    reasons_table,
    stale_line,
    tick_counts_line,
)

NOW_MS = 1_764_072_000_000
TIMEOUT_S = 60


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def market(home: Home) -> Iterator[Market]:
    """A home with a bar of B that was revised twice, a tick of A that came too late, and three rows refused."""
    market = Market(home.root)
    market.arrive((100, "A", 1.0), (200, "B", 2.0), complete_to=90_000)
    market.arrive((80_000, "A", 1.5), (300, "A", 1.25), (400, "B", 2.5), complete_to=91_000)
    market.arrive((350, "B", 2.25), complete_to=92_000)
    refused = as_rejects(
        pl.DataFrame(
            {
                "line": [7, 8, 9],
                "reason": ["bad_time", "bad_time", "duplicate"],
                "instrument": ["A", "*weird*", "B"],
                "time": ["yesterday", "", None],
            }
        )
    )
    market.log.append("market", market.log.newest(1).clear(), refused, read=3, cursor="", complete_to_ms=None)
    yield market
    market.log.close()
    market.store.close()


def table(app: AppTest, column: str) -> Any:
    (found,) = [dataframe.value for dataframe in app.dataframe if column in dataframe.value.columns]
    return found


def figures(app: AppTest) -> list[Any]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


def test_an_empty_home_says_that_nothing_was_read(home: Home) -> None:
    for view in ("Rejects", "Late ticks", "Revisions", "Comparison"):
        app = opened("quality", quality_view=view)
        assert not app.exception
        assert "Nothing has been read yet." in texts(app)
    assert not home.bars_db.exists()


@pytest.mark.usefixtures("market")
def test_every_tick_is_accounted_for(home: Home) -> None:
    app = opened("quality")
    assert not app.exception
    assert ":green[●] **9 read** = 5 in bars + 3 rejected + 1 too late + 0 pending" in texts(app)
    assert home.bars_db.exists()


def test_ids_used_again_and_bars_that_may_lack_ticks_are_shown(market: Market) -> None:
    app = opened("quality")
    assert "reuse an id" not in texts(app)
    assert "may lack ticks" not in texts(app)
    with market.log.db.conn:
        market.log.db.conn.execute("UPDATE sources SET reused_ids = 3")
    # Another job begins after the log has lost ticks.
    behind = replace(market.taken.publications[-1].progress, job="late", begun_sequence=3, missing_to_ms=START_MS)
    market.store.publish(behind)
    st.cache_data.clear()
    app = opened("quality")
    assert not app.exception
    assert "3 ticks reuse an id of another tick of their instrument" in texts(app)
    assert "Bars up to 2023-11-14 22:13:20 UTC may lack ticks, in 2 frames of" in texts(app)


@pytest.mark.usefixtures("market")
def test_rejects_are_counted_by_reason_and_shown_as_they_came() -> None:
    app = opened("quality")
    reasons = table(app, "Meaning")
    assert dict(zip(reasons["Reason"], reasons["Total"], strict=True)) == {"bad time": 2, "duplicate": 1, "too late": 1}
    assert reasons["In this range"].tolist() == reasons["Total"].tolist()
    samples = table(app, "Detail")
    assert sorted(samples["Line"].dropna()) == [7, 8, 9]
    assert set(samples["Reason"]) == {"bad time", "duplicate", "too late"}
    assert samples["Late, s"].dropna().tolist() == [79.7]
    assert "yesterday" in samples["Time"].tolist()
    (figure,) = figures(app)
    assert sorted(trace["name"] for trace in figure["data"]) == ["bad time", "duplicate", "too late"]


@pytest.mark.usefixtures("market")
def test_a_link_narrows_the_rejects() -> None:
    app = opened("quality", quality_reason="bad time", quality_instrument="A")
    assert not app.exception
    assert table(app, "Detail")["Line"].tolist() == [7]
    assert "Late, s" not in table(app, "Detail").columns, "a column without any value is left out"
    app.text_input(key="quality_instrument").set_value("unknown").run()
    assert "No rows match." in texts(app)
    app.text_input(key="quality_instrument").set_value("*weird*").run()
    assert table(app, "Detail")["Line"].tolist() == [8]


def test_what_was_refused_long_ago_is_only_in_the_count_for_ever(market: Market) -> None:
    market.log.db.conn.execute("UPDATE rejects SET rejected_ms = rejected_ms - 7200000")
    market.log.db.conn.commit()
    app = opened("quality", quality_time="1 h")
    reasons = table(app, "Meaning")
    assert dict(zip(reasons["Reason"], reasons["In this range"], strict=True))["bad time"] == 0
    app.button_group(key="quality_time").set_value("24 h").run()
    reasons = table(app, "Meaning")
    assert dict(zip(reasons["Reason"], reasons["In this range"], strict=True))["bad time"] == 2


@pytest.mark.usefixtures("market")
def test_late_ticks_show_how_late_they_were() -> None:
    app = opened("quality", quality_view="Late ticks")
    assert not app.exception
    assert "Of the newest 6 ticks, 2 (33.33%) arrived after a newer tick of their instrument" in texts(app)
    (figure,) = figures(app)
    in_time, too_late = (trace["y"] for trace in figure["data"])
    assert sum(too_late) == 1
    assert sum(in_time) == 1
    assert figure["layout"]["annotations"][0]["text"] == " lateness 1 min"
    assert table(app, "Detail")["Late, s"].tolist() == [79.7]


@pytest.mark.usefixtures("market")
def test_revisions_show_what_changed_after_it_had_closed() -> None:
    app = opened("quality", quality_view="Revisions")
    assert not app.exception
    most, after = figures(app)
    assert most["data"][0]["y"] == ["B"]
    assert [trace["name"] for trace in after["data"]] == ["1s", "1m"]
    revised = table(app, "After its end, s")
    assert set(revised["Instrument"]) == {"B"}
    assert sorted(revised["Revision"].tolist()) == [1, 1, 2, 2]
    app.text_input(key="quality_instrument").set_value("A").run()
    assert table(app, "After its end, s").empty


@pytest.mark.usefixtures("market")
def test_every_version_of_a_bar_can_be_looked_at_and_linked_to() -> None:
    app = opened("quality", quality_view="Revisions")
    bar = Bar("B", "1s", START_MS).text
    assert "B, 1s from 2023-11-14 22:13:20 UTC" in app.selectbox(key="quality_bar").options
    app.selectbox(key="quality_bar").select(bar).run()
    assert not app.exception
    versions = table(app, "Known from, UTC")
    assert versions["Revision"].tolist() == [0, 1, 2]
    assert versions["Close"].tolist() == ["2.0", "2.5", "2.5"]
    assert versions["Ticks"].tolist() == [1, 2, 3]
    assert address(app)["bar"] == bar
    linked = opened("quality", quality_view="Revisions", bar="A 1m 7")
    assert not linked.exception
    assert [warning.value for warning in linked.warning] == ["There is no bar A, 1m from 1970-01-01 00:00:00 UTC."]


@pytest.mark.usefixtures("market")
def test_an_address_of_no_bar_is_not_followed() -> None:
    app = opened("quality", quality_view="Revisions", bar="*B* 1s x")
    assert not app.exception
    assert app.selectbox(key="quality_bar").value is None


@pytest.mark.usefixtures("market")
def test_bars_are_compared_on_request(home: Home) -> None:
    app = opened("quality", quality_view="Comparison")
    assert "Bars have not been compared since the app started." in texts(app)
    app.button(key="quality_compare").click().run()
    assert not app.exception
    assert wait_until(lambda: comparison_of(home).comparison_state.state is State.DONE, TIMEOUT_S)
    app.run()
    assert "equal a recomputation" in texts(app)
    assert "from 6 ticks, of which 1 were too late." in texts(app)


@pytest.mark.usefixtures("market")
def test_a_bar_that_differs_is_named(home: Home) -> None:
    with closing(open_for_writing(home.bars_db).conn) as connection, connection:
        connection.execute("UPDATE bars SET low = 0.5 WHERE frame = '1s' AND instrument = 'B'")
    app = opened("quality", quality_view="Comparison")
    app.button(key="quality_compare").click().run()
    assert wait_until(lambda: comparison_of(home).comparison_state.state is State.DONE, TIMEOUT_S)
    app.run()
    assert "1 of 6 bars differ** from a recomputation" in texts(app)
    assert "low is 0.5, should be 2.0" in table(app, "Different")["Different"][0]


@pytest.mark.usefixtures("market")
def test_a_stale_instrument_is_named(home: Home) -> None:
    with Instruments.open(home) as instruments:
        instruments.save_catalogue("market", [CatalogueEntry("A"), CatalogueEntry("B")], None)
    assert ":orange[●] 2 silent for far longer than usual: B (" in texts(opened("quality"))


@pytest.mark.parametrize(("role", "may"), [(Role.OPERATOR, True), (Role.TRADER, False)])
@pytest.mark.usefixtures("market")
def test_who_may_look(role: Role, may: bool, look_as: LookAs) -> None:
    look_as(role)
    assert ("Data quality" in texts(opened("quality"))) == may


@pytest.mark.parametrize(
    ("account", "line"),
    [
        (TickCounts(0, 0, 0, {}, 0), ":gray[●] Nothing has been read yet."),
        (
            TickCounts(1_010, 1_000, 3, {"bad_time": 5}, 2),
            ":green[●] **1,010 read** = 1,000 in bars + 5 rejected + 3 too late + 2 pending",
        ),
        (
            TickCounts(10, 10, 0, {}, 4),
            ":orange[●] **10 read** = 10 in bars + 0 rejected + 0 too late + 4 pending;"
            " 4 are being read again after a restart of the job",
        ),
        (
            TickCounts(10, 7, 0, {}, 0),
            ":red[●] **10 read** = 7 in bars + 0 rejected + 0 too late + 0 pending;"
            " 3 are unaccounted for; run ./barmill verify to find the bars that differ",
        ),
    ],
)
def test_the_account_in_one_line(account: TickCounts, line: str) -> None:
    assert tick_counts_line(account) == line


def test_stale_instruments_in_one_line() -> None:
    quiet = [Listing("market", f"Q*{n}", "", True, NOW_MS - 1_000 * n, 1.0, 0.0, True) for n in range(100, 110)]
    line = stale_line([*quiet, Listing("market", "OK", "", True, NOW_MS, 1.0, 5.0)], NOW_MS)
    assert line.startswith(r":orange[●] 10 silent for far longer than usual: Q\*109 (109 s), Q\*108 (108 s)")
    assert line.endswith(" and 2 more")
    assert stale_line([], NOW_MS) == ""


@pytest.mark.parametrize("text", ["", "A", "A 1s", "A 1s x", "A 1s 1.5", "A 1s -5", "A 1s " + "9" * 16])
def test_what_names_no_bar(text: str) -> None:
    assert parse_bar(text) is None


def test_a_bar_is_named_and_read_back_whatever_its_instrument_is_called() -> None:
    for name in ("A", "GOLD SPOT 1s", " "):
        assert parse_bar(Bar(name, "1m", NOW_MS).text) == Bar(name, "1m", NOW_MS)
    assert Bar("A", "1m", NOW_MS).label == "A, 1m from 2025-11-25 12:00:00 UTC"


@pytest.mark.parametrize(
    ("ticks", "late_ms", "line"),
    [
        (0, [], "There are no ticks yet."),
        (5, [], "Of the newest 5 ticks, each arrived in the time order of its instrument."),
        (
            2_000,
            [250.0, 300.0, 61_000.0],
            "Of the newest 2,000 ticks, 3 (0.15%) arrived after a newer tick of their instrument: half of these at most"
            " 300 ms late, the latest 61 s late.",
        ),
    ],
)
def test_punctuality_in_one_line(ticks: int, late_ms: list[float], line: str) -> None:
    assert lateness_line(ticks, pl.Series(late_ms, dtype=pl.Float64)) == line


@pytest.mark.parametrize(
    ("comparison_state", "line"),
    [
        (ComparisonState(), "Bars have not been compared since the app started."),
        (ComparisonState(State.RUNNING, NOW_MS - 3_000), "Recomputing for 3.0 s."),
        (ComparisonState(State.STOPPED, NOW_MS - 9_000, NOW_MS - 5_000), "The comparison was stopped 5.0 s ago."),
        (
            ComparisonState(State.FAILED, NOW_MS - 9_000, NOW_MS - 5_000, problem="There is no ticks.sqlite yet."),
            ":red[●] The comparison failed 5.0 s ago: There is no ticks.sqlite yet.",
        ),
        (
            ComparisonState(State.DONE, NOW_MS - 65_400, NOW_MS - 5_000, 1.0, Verdict(9, 8, 1, 4, 2, 0)),
            ":green[●] **All 4 bars equal a recomputation** from 9 ticks, of which 1 were too late. 2 are older than"
            " the tick log or the retention limit and cannot be recomputed. Compared 5.0 s ago, in 1 min.",
        ),
        (
            ComparisonState(State.DONE, NOW_MS - 9_000, NOW_MS - 5_000, 1.0, Verdict(9, 8, 1, 4, 0, 3)),
            ":red[●] **3 of 4 bars differ** from a recomputation. Compared 5.0 s ago, in 4 s.",
        ),
        (
            ComparisonState(
                State.DONE, NOW_MS - 9_000, NOW_MS - 5_000, 1.0, Verdict(9, 8, 1, 4, shown=6, stopped=["5m: so."])
            ),
            ":red[●] **Frames have stopped**, although all 4 bars equal a recomputation from 9 ticks.\n\n"
            ":red[●] 5m\\: so.\n\n Compared 5.0 s ago, in 4 s.",
        ),
        (
            ComparisonState(State.DONE, NOW_MS - 9_000, NOW_MS - 5_000, 1.0, Verdict(9, 8, 1, 4, given_up=["5m: so."])),
            ":green[●] **All 4 bars equal a recomputation** from 9 ticks, of which 1 were too late.\n\n"
            ":gray[●] 5m\\: so.\n\n Compared 5.0 s ago, in 4 s.",
        ),
        (
            ComparisonState(State.DONE, NOW_MS - 9_000, NOW_MS - 5_000, 1.0, Verdict()),
            ":gray[●] No bars could be compared. Compared 5.0 s ago, in 4 s.",
        ),
    ],
)
def test_how_a_comparison_ended(comparison_state: ComparisonState, line: str) -> None:
    assert comparison_line(comparison_state, NOW_MS) == line


def test_reasons_of_late_come_first_and_an_unknown_one_is_shown_too() -> None:
    rows = reasons_table({"future": 9, "bad_time": 2, "novel": 1}, {"bad_time": 2})
    assert rows["Reason"].to_list() == ["bad time", "future", "novel"]
    assert rows["In this range"].to_list() == [2, 0, 0]
    assert rows["Meaning"][2] == ""


@pytest.mark.parametrize(
    ("length_ms", "text"),
    [(0, "0 ms"), (10, "10 ms"), (1_000, "1 s"), (90_000, "90 s"), (300_000, "5 min"), (3_600_000, "1 h")],
)
def test_durations_read_in_the_largest_whole_unit(length_ms: int, text: str) -> None:
    assert duration(length_ms) == text


def test_the_figure_of_rejects_spans_the_time_asked_for_and_keeps_its_colours() -> None:
    counts = pl.DataFrame(
        {"from_ms": [NOW_MS, NOW_MS, NOW_MS + 60_000], "reason": ["future", "bad_time", "future"], "count": [3, 1, 2]}
    )
    figure = rejects_over_time(counts, NOW_MS - 600_000, NOW_MS + 600_000, 60_000)
    assert {trace.name: list(trace.y) for trace in figure.data} == {"bad time": [1], "future": [3, 2]}
    assert figure.layout.barmode == "stack"
    alone = rejects_over_time(counts.filter(reason="future"), NOW_MS, NOW_MS + 1, 60_000)
    assert alone.data[0].marker.color == figure.data[1].marker.color
    assert rejects_over_time(counts.clear(), NOW_MS, NOW_MS + 1, 60_000).data == ()


def test_figures_of_nothing_are_empty_and_of_something_have_a_class_for_each_lateness() -> None:
    spread = pl.DataFrame({"over_ms": [0] * 8, "ticks": range(8)})
    figure = lateness_figure(spread, spread, None)
    assert list(figure.data[0].x)[:2] == ["up to 10 ms", "up to 100 ms"]
    assert list(figure.data[0].x)[-1] == "over 1 h"
    assert len(figure.layout.shapes) == 0
    (shape,) = lateness_figure(spread, spread, 300_000).layout.shapes
    assert shape.x0 == 5.5
    delays = pl.DataFrame({"frame": ["1s", "1s", "1m"], "delay_ms": [5, 5_000, 70_000]})
    assert [trace.name for trace in revision_delays(delays, ["1s", "1m", "1h"]).data] == ["1s", "1m"]
    revised = pl.DataFrame({"instrument": ["A", "B"], "revisions": [5, 2], "bars": [3, 2]})
    assert list(most_revised(revised).data[0].y) == ["A", "B"]
