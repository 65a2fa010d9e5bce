import time
from collections.abc import Iterator

import pytest
import streamlit as st

from barmill.platform.home import Home
from barmill.storage.tick_log import TickLog
from control.processes.supervisor import ProcessStatus
from control.system.status import SystemStatus
from pages.parts.shared import page_header
from tests.pages.conftest import address, component, opened, texts
from tests.support.page_bars import NOON_MS
from tests.support.stopped_jobs import AAA as ONE_OF_TWO
from tests.support.stopped_jobs import BY, seconds_stopped
from tests.support.stores import Stores, fill


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.mark.parametrize("page", ["overview", "chart", "frames"])
def test_an_empty_home_says_how_to_start(page: str) -> None:
    app = opened(page)
    assert not app.exception
    assert "No bars yet" in texts(app)
    assert "./barmill up" in texts(app)
    assert "No prices have arrived yet." in texts(app)
    assert "Simulated data" not in texts(app)


def test_a_running_home_without_bars_says_whether_it_starts_or_cannot(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_only = [ProcessStatus("app", "RUNNING", 1, 60, 1_000_000)]
    running = SystemStatus(home.root, None, app_only, [], 0.0, None, "", "")
    monkeypatch.setattr(page_header, "read_status", lambda _home: running)
    st.cache_data.clear()
    assert "Barmill is starting" in texts(opened("overview"))
    with TickLog.open(home.ticks_db) as log:
        log.start_source("market", live=True)
        log.report_problem("market", "The key was rejected.")
    st.cache_data.clear()
    stopped = texts(opened("overview"))
    assert "Barmill is running, but no bars are made." in stopped
    assert "The key was rejected." in stopped
    assert "Barmill is starting" not in stopped


@pytest.mark.parametrize("page", ["overview", "chart", "frames"])
def test_a_store_without_tables_reads_as_empty(home: Home, page: str) -> None:
    home.bars_db.touch()
    home.ticks_db.touch()
    app = opened(page)
    assert not app.exception
    assert "No bars yet" in texts(app)


def test_the_overview_shows_every_instrument(home: Home) -> None:
    fill(home)
    app = opened()
    assert not app.exception
    assert component(app, "barmill_watchlist")["columns"]["last"] == [19.75, 7.125]
    facts = {fact["label"]: fact["value"] for fact in component(app, "barmill_facts")}
    assert facts["Feed"] == "market"
    assert facts["Processes"] == "–"
    assert set(app.dataframe[0].value["Instrument"]) == {"AAA/USD", "BBB"}


def test_the_last_changed_bars_are_of_the_picked_frame(home: Home) -> None:
    fill(home, now_ms=NOON_MS + 1_800_000)  # no hour begins between its ticks
    app = opened()
    app.button_group(key="overview_frame").set_value("1h").run()
    assert not app.exception
    assert app.dataframe[0].value["Ticks"].max() == "40"


def test_the_overview_shows_the_progress_of_the_backfill_until_it_is_in_the_bars(home: Home) -> None:
    now_ms = time.time_ns() // 1_000_000
    stores, from_ms = Stores(home), now_ms - 7 * 86_400_000
    stores.write([(from_ms, "AAA/USD", 19.5, 2.0)], closed_to_ms=from_ms)
    assert [element.proto.text for element in opened().get("progress")] == [
        "Demo history of 7 d: 0 % received, 0 % in the bars."
    ]
    later_ms = now_ms + 60_000
    stores.write([(later_ms, "AAA/USD", 19.75, 2.0)], closed_to_ms=later_ms)
    stores.close()
    assert not opened().get("progress")


@pytest.mark.parametrize(("source", "marked"), [("market", True), ("replay", False)])
@pytest.mark.parametrize("page", ["overview", "chart", "frames"])
def test_only_made_up_prices_are_marked(home: Home, page: str, source: str, marked: bool) -> None:
    fill(home, source=source)
    assert ("Simulated data" in texts(opened(page))) == marked


def test_the_chart_opens_with_what_its_address_says(home: Home) -> None:
    fill(home)
    app = opened("chart", instrument="BBB", frame="1s")
    assert not app.exception
    chart = component(app, "barmill_candles")
    assert chart["view"] == "BBB 1s"
    assert (chart["close"], chart["volume"]) == ([7.125], [None])
    assert chart["quote"]["price"] == "7.125"
    assert address(app) == {"instrument": "BBB", "frame": "1s"}


def test_a_bare_chart_address_opens_the_busiest_instrument_by_the_minute(home: Home) -> None:
    fill(home)
    app = opened("chart")
    assert component(app, "barmill_candles")["view"] == "AAA/USD 1m"


def test_what_is_picked_goes_into_the_address(home: Home) -> None:
    fill(home)
    app = opened("chart")
    app.selectbox(key="chart_instrument").select("BBB").run()
    app.button_group(key="chart_frame").set_value("1h").run()
    assert component(app, "barmill_candles")["view"] == "BBB 1h"
    assert address(app) == {"instrument": "BBB", "frame": "1h"}


def test_an_address_of_an_unknown_instrument_says_so(home: Home) -> None:
    fill(home)
    app = opened("chart", instrument="ZZZ")
    assert not app.exception
    assert [toast.value for toast in app.toast] == ["There are no bars for the instrument ZZZ; using AAA/USD."]


def test_the_overview_says_once_why_its_prices_stopped(home: Home) -> None:
    fill(home, now_ms=time.time_ns() // 1_000_000 - 60_000)
    app = opened("overview")
    assert "silent for" in component(app, "barmill_watchlist")["status"]["sentence"]
    assert not [text.value for text in app.main.markdown if "silent for" in text.value]


def test_a_chart_of_a_job_that_stopped_says_so(home: Home) -> None:
    fill(home, now_ms=time.time_ns() // 1_000_000 - 60_000)
    app = opened("chart")
    status = component(app, "barmill_candles")["status"]
    assert status["stale"]
    assert "silent for" in status["sentence"]
    assert ":red[●]" in app.sidebar.caption[0].value


@pytest.fixture
def _seconds_stopped(home: Home) -> Iterator[None]:
    stores = seconds_stopped(home)
    yield
    stores.close()


@pytest.mark.usefixtures("_seconds_stopped")
def test_a_chart_of_a_frame_whose_job_was_stopped_is_red_while_another_job_runs() -> None:
    app = opened("chart", instrument=ONE_OF_TWO, frame="5s")
    status = component(app, "barmill_candles")["status"]
    assert (status["color"], status["job"], status["by"]) == ("red", "stopped", BY)
    longer = component(opened("chart", instrument=ONE_OF_TWO, frame="5m"), "barmill_candles")
    assert (longer["status"]["color"], longer["status"]["sentence"][:5]) == ("green", "Live,")
    (line,) = app.sidebar.caption
    assert line.value.startswith(
        r":orange[●] Nothing feeds 1s, 5s, 15s, 30s. The job bars, which makes 1s bars, was stopped"
    )


@pytest.mark.usefixtures("_seconds_stopped")
def test_the_overview_shows_frames_that_nothing_feeds() -> None:
    app = opened()
    (line,) = [markdown.value for markdown in app.markdown if "[●]" in str(markdown.value)]
    assert line.startswith(r":red[●] 1s, 5s, 15s, 30s\: The job bars, which makes 1s bars, was stopped by os\:ada at ")
    # The watchlist takes its prices from minutes now, which move.
    watchlist = component(app, "barmill_watchlist")
    assert (watchlist["columns"]["last"], watchlist["status"]["stale"]) == ([90.0], False)


@pytest.mark.usefixtures("_seconds_stopped")
@pytest.mark.parametrize(("page", "query"), [("study", {"frame": "5s"}), ("compare", {"range": "15m"})])
def test_pages_with_a_fresh_line_judge_the_frame_they_show(page: str, query: dict[str, str]) -> None:
    app = opened(page, instrument=ONE_OF_TWO, instruments=ONE_OF_TWO, **query)
    assert not app.exception
    assert any(
        str(markdown.value).startswith(":red[●] The job bars, which makes ")
        and ":gray[job] stopped" in str(markdown.value)
        for markdown in app.markdown
    )


def test_an_address_cannot_write_markdown(home: Home) -> None:
    fill(home)
    app = opened("chart", instrument="[click](http://elsewhere)")
    assert app.toast[0].value.startswith(r"There are no bars for the instrument \[click\](http\://elsewhere);")


def test_a_store_that_is_taken_away_brings_the_empty_page_back(home: Home) -> None:
    fill(home)
    app = opened("chart")
    home.bars_db.unlink()
    app.run()
    assert not app.exception
    assert "No bars yet" in texts(app)
