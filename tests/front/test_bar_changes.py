"""What an open chart is told each second."""

from collections.abc import Iterator
from typing import Any

import pytest

from bar.clock import now_ms
from control.home import Home
from control.waiting import wait_until
from front import bar_changes
from pages.parts.chart_bars import HISTORY_BARS
from tests.front.test_bars import AAA, NOON_MS, Ask, asking
from tests.pages.stores import Stores
from tests.stopped_jobs import AAA as AAA_USD
from tests.stopped_jobs import BY, seconds_stopped

CHANGES = "/bar-changes.json"
SECONDS = 40


@pytest.fixture
def stores(home: Home) -> Iterator[Stores]:
    """Stores with a price each second, up to now."""
    end_ms, stores = now_ms() // 1_000 * 1_000, Stores(home)
    past = [(end_ms - 1_000 * s + 500, AAA, 100 + s / 4, 2.0) for s in range(SECONDS, 0, -1)]
    stores.write(past, closed_to_ms=end_ms)
    stores.stay_heard()
    yield stores
    stores.close()


@pytest.fixture
def ask(home: Home, request: pytest.FixtureRequest) -> Ask:
    request.getfixturevalue("stores")
    return asking(home)


def by_slot(message: Any, values: list[Any]) -> dict[int, Any]:
    return dict(zip((message["first_slot"] + offset for offset in message["slot"]), values, strict=True))


def test_it_carries_what_changed_and_how_far_it_reaches_back(ask: Ask) -> None:
    asked_ms = now_ms()
    found: Any = ask(CHANGES, instrument=AAA, frame="1m", since=asked_ms).json()
    assert (found["view"], found["close"][-1]) == ("AAA/USD 1m", 100.25)
    assert (found["since_ms"], found["quote"]["price"]) == (asked_ms, "100.25")
    assert found["read_ms"] >= asked_ms
    newest = found["first_slot"] + found["slot"][-1]
    assert found["from_slot"] == newest - HISTORY_BARS
    assert not found["status"]["stale"]
    assert found["status"]["level"] == "live"


def test_it_leaves_out_what_was_told_before(stores: Stores, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_changes, "_TRANSACTION_TAKES_MS", 0)
    whole: Any = ask("/bars.json", instrument=AAA, frame="1s").json()
    heard_ms = now_ms()
    assert wait_until(lambda: now_ms() > heard_ms, 10)
    slot = whole["first_slot"] + 10
    stores.write([(slot * 1_000 + 700, AAA, 120.0, 1.0)], closed_to_ms=heard_ms)
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", since=heard_ms).json()
    assert by_slot(found, found["high"]) == {slot: 120.0}
    assert found["state"] == "r"
    assert ask(CHANGES, instrument=AAA, frame="1s", since=now_ms() + 1).json()["slot"] == []


def test_studies_come_from_the_first_changed_bar_on(ask: Ask) -> None:
    asked = {"instrument": AAA, "frame": "1s", "studies": "sma:3"}
    whole: Any = ask("/bars.json", **asked).json()
    found: Any = ask(CHANGES, **asked, since=now_ms() - 60_000).json()
    assert found["slot"]
    expected = by_slot(whole, whole["studies"][0]["values"])
    assert by_slot(found, found["studies"][0]["values"]) == {
        slot: expected[slot] for slot in by_slot(found, found["slot"])
    }


def test_a_chart_as_of_a_time_is_told_nothing_but_that_all_is_well(ask: Ask) -> None:
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", since=0, as_of=NOON_MS).json()
    assert (found["slot"], found["status"]["stale"]) == ([], False)
    assert found["status"]["level"].startswith("as known at ")


def test_a_chart_of_a_job_that_stopped_says_so(home: Home) -> None:
    long_ago_ms, stores = now_ms() - 60_000, Stores(home)
    stores.write([(long_ago_ms, AAA, 100.0, 2.0)], closed_to_ms=long_ago_ms)
    stores.close()
    status = asking(home)(CHANGES, instrument=AAA, frame="1m", since=now_ms()).json()["status"]
    assert status["stale"]
    assert "silent for" in status["sentence"]


@pytest.mark.parametrize("path", [CHANGES, "/bars.json"])
def test_a_chart_is_judged_by_the_job_that_makes_its_frame(home: Home, path: str) -> None:
    """Another job that runs makes no seconds, so a chart of seconds is not live."""
    stores, ask = seconds_stopped(home), asking(home)
    seconds, minutes = (
        ask(path, instrument=AAA_USD, frame=frame, since=now_ms()).json()["status"] for frame in ("5s", "5m")
    )
    stores.close()
    assert (seconds["stale"], seconds["color"], seconds["job"], seconds["by"]) == (True, "red", "stopped", BY)
    assert "which makes 5s bars, was stopped by os:ada at " in seconds["sentence"]
    assert (minutes["stale"], minutes["color"], minutes["job"], minutes["by"]) == (False, "green", "running", None)


def test_it_wants_to_know_since_when(ask: Ask) -> None:
    answer = ask(CHANGES, instrument=AAA, frame="1m")
    assert (answer.status_code, answer.text) == (400, "Say since when: since= a time in milliseconds since 1970.")


def test_a_frame_of_a_stopped_job_is_told_what_finer_bars_bring(stores: Stores, ask: Ask) -> None:
    heard_ms = now_ms()
    stores.make_once("fives", "5s,5m", closed_to_ms=heard_ms)
    stores.write([(heard_ms, AAA, 120.0, 1.0)], closed_to_ms=heard_ms)
    for frame in ("5s", "15s", "1m", "5m", "15m"):
        found: Any = ask(CHANGES, instrument=AAA, frame=frame, since=heard_ms).json()
        assert (frame, found["close"][-1], found["quote"]["price"]) == (frame, 120.0, "120.00")
