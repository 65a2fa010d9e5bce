"""What an open chart receives each second."""

from collections.abc import Iterator
from typing import Any

import pytest

from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from tests.support.bars import AAA, NOON_MS, Ask, asking
from tests.support.stopped_jobs import AAA as AAA_USD
from tests.support.stopped_jobs import BY, seconds_stopped
from tests.support.stores import Stores
from views.chart_bars import HISTORY_BARS

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


def cursor_of(ask: Ask, frame: str) -> str:
    """Return the cursor of a chart that has read the bars."""
    return str(ask("/bars.json", instrument=AAA, frame=frame).json()["cursor"])


def test_it_carries_what_changed_and_how_far_it_reaches_back(ask: Ask) -> None:
    asked_ms, cursor = now_ms(), cursor_of(ask, "1m")
    found: Any = ask(CHANGES, instrument=AAA, frame="1m", after=cursor).json()
    assert (found["view"], found["close"][-1]) == ("AAA/USD 1m", 100.25)
    assert (found["after"], found["cursor"], found["quote"]["price"]) == (cursor, cursor, "100.25")
    assert found["read_ms"] >= asked_ms
    newest = found["first_slot"] + found["slot"][-1]
    assert found["from_slot"] == newest - HISTORY_BARS
    assert not found["status"]["stale"]
    assert found["status"]["level"] == "live"


def test_bars_of_other_pieces_come_completely(ask: Ask) -> None:
    """A chart that read other frames drops what it holds from there on."""
    whole: Any = ask("/bars.json", instrument=AAA, frame="1s").json()
    position, pieces = whole["cursor"].rsplit(".", 1)
    slots = [whole["first_slot"] + offset for offset in whole["slot"]]
    assert ask(CHANGES, instrument=AAA, frame="1s", after=whole["cursor"]).json()["complete_from_slot"] is None
    other = f"{position}.{pieces}~1m_{slots[-3] * 1_000}"
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", after=other).json()
    assert found["complete_from_slot"] == slots[-3]
    assert [found["first_slot"] + offset for offset in found["slot"]] == slots[-3:]


def test_it_leaves_out_what_was_received_before(stores: Stores, ask: Ask) -> None:
    whole: Any = ask("/bars.json", instrument=AAA, frame="1s").json()
    slot = whole["first_slot"] + 10
    stores.write([(slot * 1_000 + 700, AAA, 120.0, 1.0)], closed_to_ms=now_ms())
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", after=whole["cursor"]).json()
    assert by_slot(found, found["high"]) == {slot: 120.0}
    assert (found["state"], found["after"]) == ("r", whole["cursor"])
    again: Any = ask(CHANGES, instrument=AAA, frame="1s", after=found["cursor"]).json()
    assert (again["slot"], again["after"], again["cursor"]) == ([], found["cursor"], found["cursor"])


def test_it_does_not_depend_on_the_clock(stores: Stores, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor, at_ms = cursor_of(ask, "1s"), now_ms()
    monkeypatch.setattr("time.time_ns", lambda: (at_ms - 3_600_000) * 1_000_000)
    stores.write([(at_ms // 1_000 * 1_000 - 5_300, AAA, 120.0, 1.0)], closed_to_ms=at_ms)
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", after=cursor).json()
    assert found["high"] == [120.0]


@pytest.mark.parametrize("change", ["", "7"])
def test_a_chart_of_another_store_has_to_start_again(ask: Ask, change: str) -> None:
    """Another name is that of another store; a number that does not exist yet comes from before a restored backup."""
    store, number, rest = cursor_of(ask, "1s").split(".", 2)
    foreign = f"{store}.{number}{change}.{rest}" if change else f"{store[::-1]}.{number}.{rest}"
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", after=foreign).json()
    assert (found["after"], found["slot"]) == (None, [])


@pytest.mark.parametrize("text", ["1764072000000", "noon", "", "a.1", "a.1.2.3"])
def test_a_cursor_is_passed_unchanged(ask: Ask, text: str) -> None:
    answer = ask(CHANGES, instrument=AAA, frame="1m", after=text)
    named = text or "An empty text"
    assert (answer.status_code, answer.text) == (400, f"{named} is not a cursor; pass the cursor of the last answer.")


def test_studies_come_from_the_first_changed_bar_on(ask: Ask) -> None:
    asked = {"instrument": AAA, "frame": "1s", "studies": "sma:3"}
    whole: Any = ask("/bars.json", **asked).json()
    store, number, _, pieces = whole["cursor"].split(".")
    fifth_ms = (whole["first_slot"] + 5) * 1_000
    found: Any = ask(CHANGES, **asked, after=f"{store}.{number}.{fifth_ms}.{pieces}").json()
    assert found["slot"]
    expected = by_slot(whole, whole["studies"][0]["values"])
    assert by_slot(found, found["studies"][0]["values"]) == {
        slot: expected[slot] for slot in by_slot(found, found["slot"])
    }


def test_a_chart_as_of_a_time_is_told_nothing_but_that_all_is_well(ask: Ask) -> None:
    found: Any = ask(CHANGES, instrument=AAA, frame="1s", after="a.0.", as_of=NOON_MS).json()
    assert (found["slot"], found["status"]["stale"]) == ([], False)
    assert found["status"]["level"].startswith("as known at ")


def test_a_chart_of_a_job_that_stopped_says_so(home: Home) -> None:
    long_ago_ms, stores = now_ms() - 60_000, Stores(home)
    stores.write([(long_ago_ms, AAA, 100.0, 2.0)], closed_to_ms=long_ago_ms)
    stores.close()
    status = asking(home)(CHANGES, instrument=AAA, frame="1m", after="a.0.").json()["status"]
    assert status["stale"]
    assert "silent for" in status["sentence"]


@pytest.mark.parametrize("path", [CHANGES, "/bars.json"])
def test_a_chart_is_judged_by_the_job_that_makes_its_frame(home: Home, path: str) -> None:
    """Another job that runs makes no seconds, so a chart of seconds is not live."""
    stores, ask = seconds_stopped(home), asking(home)
    seconds, minutes = (
        ask(path, instrument=AAA_USD, frame=frame, after="a.0.").json()["status"] for frame in ("5s", "5m")
    )
    stores.close()
    assert (seconds["stale"], seconds["color"], seconds["job"], seconds["by"]) == (True, "red", "stopped", BY)
    assert "which makes 5s bars, was stopped by os:ada at " in seconds["sentence"]
    assert (minutes["stale"], minutes["color"], minutes["job"], minutes["by"]) == (False, "green", "running", None)


def test_it_wants_to_know_after_which_answer(ask: Ask) -> None:
    answer = ask(CHANGES, instrument=AAA, frame="1m")
    assert (answer.status_code, answer.text) == (
        400,
        "The parameter after is missing; add after= with the cursor of the last answer.",
    )


def test_a_frame_of_a_stopped_job_is_told_what_finer_bars_bring(stores: Stores, ask: Ask) -> None:
    heard_ms = now_ms()
    stores.make_once("fives", "5s,5m", closed_to_ms=heard_ms)
    cursors = {frame: cursor_of(ask, frame) for frame in ("5s", "15s", "1m", "5m", "15m")}
    stores.write([(heard_ms, AAA, 120.0, 1.0)], closed_to_ms=heard_ms)
    for frame in ("5s", "15s", "1m", "5m", "15m"):
        found: Any = ask(CHANGES, instrument=AAA, frame=frame, after=cursors[frame]).json()
        assert (frame, found["close"][-1], found["quote"]["price"]) == (frame, 120.0, "120.00")
