"""The chart page and the multi-frame page: what addresses and controls do. What the canvas does: tests/browser."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from barmill.platform.clock import now_ms as clock_ms
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.pages.conftest import address, component, opened, texts
from tests.support.stores import Stores

HISTORY_S, GAP_S = 90, range(20, 25)


@dataclass(frozen=True)
class Written:
    """now_ms: where the history ends, on a full second. known_ms: when one of its bars was not yet revised."""

    now_ms: int
    known_ms: int


@pytest.fixture(autouse=True)
def written(home: Home, monkeypatch: pytest.MonkeyPatch) -> Written:
    """A minute and a half of seconds, with a gap of five, and one bar that was revised."""
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    now_ms = clock_ms() // 1_000 * 1_000
    stores, seconds_ago = Stores(home), [s for s in range(HISTORY_S, 0, -1) if s not in GAP_S]
    stores.write([(now_ms - 1_000 * s + 500, "AAA/USD", 100 + s / 4, 2.0) for s in seconds_ago], closed_to_ms=now_ms)
    known_ms = clock_ms()
    wait_until(lambda: clock_ms() > known_ms, 1)
    stores.write([(now_ms - 30_000 + 600, "AAA/USD", 90.0, 1.0)], closed_to_ms=now_ms)
    stores.close()
    return Written(now_ms, known_ms)


def chart(app: AppTest) -> Any:
    return component(app, "barmill_candles")


def seconds(**query: str) -> AppTest:
    app = opened("chart", instrument="AAA/USD", frame="1s", **query)
    assert not app.exception
    return app


def test_a_link_with_everything_opens_that_view() -> None:
    app = seconds(kind="heikin-ashi", studies="sma:5,rsi:3", zone="Europe/Vienna", scale="log", fill="1")
    message = chart(app)
    assert (message["kind"], message["zone"], message["scale"]) == ("heikin-ashi", "Europe/Vienna", "log")
    assert [(line["study"], line["pane"]) for line in message["studies"]] == [("sma:5", "price"), ("rsi:3", "rsi:3")]
    assert message["state"].count("s") == 5
    assert message["query"] == {"instrument": "AAA/USD", "frame": "1s", "studies": "sma:5,rsi:3", "fill": "1"}
    assert message["title"] == "AAA/USD · 1s · Heikin-Ashi · SMA 5 · RSI 3"


def test_studies_begin_with_the_bars_before_the_first_shown(written: Written) -> None:
    message = chart(
        seconds(studies="sma:5", **{"from": str(written.now_ms - 40_000), "to": str(written.now_ms - 30_000)})
    )
    assert message["studies"][0]["values"][-1] is not None
    assert message["range"] == [written.now_ms - 40_000, written.now_ms - 30_000]
    assert not message["live"]
    last_ms = (message["first_slot"] + message["slot"][-1]) * 1_000
    assert last_ms == written.now_ms - 31_000
    assert message["head_slot"] * 1_000 == written.now_ms - 1_000


def test_gaps_are_told_with_their_reason(written: Written) -> None:
    end = written.now_ms // 1_000
    assert chart(seconds())["gaps"] == [[end - 24, end - 19, "unknown"]]


def test_a_filled_chart_has_no_gaps() -> None:
    assert chart(seconds(fill="1"))["state"].count("s") == 5


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kind", "pie", "There is no kind pie; using candles."),
        ("studies", "magic:3", r"Invalid studies magic\:3; using none."),
        ("zone", "Atlantis", "There is no zone Atlantis; using UTC."),
        ("from", "noon", "from is not a time; write milliseconds since 1970."),
    ],
)
def test_what_an_address_cannot_mean_is_said_and_taken_out_of_it(name: str, value: str, message: str) -> None:
    app = seconds(**{name: value})
    assert [toast.value for toast in app.toast] == [message]
    assert address(app).get(name, "") != value


def test_choices_go_into_the_address_and_usual_ones_out_of_it() -> None:
    app = seconds()
    app.button_group(key="chart_kind").set_value("line").run()
    assert address(app)["kind"] == "line"
    assert chart(app)["kind"] == "line"
    app.selectbox(key="chart_zone").select("Asia/Kolkata").run()
    app.toggle(key="chart_filled").set_value(True).run()
    assert address(app) == {
        "instrument": "AAA/USD",
        "frame": "1s",
        "kind": "line",
        "zone": "Asia/Kolkata",
        "fill": "1",
    }
    app.button_group(key="chart_kind").set_value("candles").run()
    assert chart(app)["kind"] == "candles"


def test_studies_are_added_changed_and_removed() -> None:
    app = seconds()
    app.selectbox(key="chart_add_study").select("sma").run()
    assert address(app)["studies"] == "sma:20"
    app.number_input(key="chart_0_sma:20_length").set_value(5).run()
    assert address(app)["studies"] == "sma:5"
    app.selectbox(key="chart_add_study").select("rsi").run()
    assert [line["study"] for line in chart(app)["studies"]] == ["sma:5", "rsi:14"]
    app.selectbox(key="chart_add_study").select("rsi").run()
    assert address(app)["studies"] == "sma:5,rsi:14"
    app.button(key="chart_remove_0_sma:5").click().run()
    assert address(app)["studies"] == "rsi:14"
    assert not app.exception


def test_a_chart_as_of_an_earlier_time_says_how_much_was_revised_since(written: Written) -> None:
    app = seconds(as_of=str(written.known_ms))
    message = chart(app)
    assert message["status"]["level"].startswith("as known at ")
    assert not message["status"]["stale"]
    assert 90.0 not in message["close"]
    assert f"1 of {len(message['close'])} bars shown was revised since" in texts(app)
    now = chart(seconds())
    assert 90.0 in now["close"]


def test_a_time_before_the_first_bar_says_that_nothing_was_known() -> None:
    app = seconds(as_of="1000")
    assert [info.value for info in app.info] == ["This instrument had no bars at that time; choose a later time."]
    message = chart(app)
    assert (message["slot"], message["status"]["stale"]) == ([], False)


def test_a_range_without_bars_says_so_and_what_to_do_next(written: Written) -> None:
    before_ms = written.now_ms - 7 * 86_400_000
    app = seconds(**{"from": str(before_ms), "to": str(before_ms + 60_000)})
    assert not app.exception
    (said,) = [info.value for info in app.info]
    assert said.startswith("No bars in this range: no trades occurred")
    assert "Newest bar" in said
    assert chart(app)["slot"] == []
    assert not seconds(**{"from": str(written.now_ms - 40_000), "to": str(written.now_ms - 30_000)}).info


def test_a_range_of_the_last_minutes_is_one_click() -> None:
    app = seconds()
    app.button(key="chart_last_15 minutes").click().run()
    asked = address(app)
    assert int(asked["to"]) - int(asked["from"]) == 900_000
    assert chart(app)["range"] == [int(asked["from"]), int(asked["to"])]
    app.button(key="chart_newest").click().run()
    assert "from" not in address(app)
    assert chart(app)["range"] is None


def test_a_chart_is_saved_as_the_default_of_an_account() -> None:
    app = seconds(kind="ohlc", studies="ema:7")
    app.button(key="chart_save").click().run()
    assert [toast.value for toast in app.toast] == ["Saved; charts now open with these choices."]
    again = opened("chart", instrument="AAA/USD")
    message = chart(again)
    assert (message["view"], message["kind"], message["studies"][0]["study"]) == ("AAA/USD 1s", "ohlc", "ema:7")


def test_the_multi_frame_page_shows_the_usual_frames_side_by_side() -> None:
    app = opened("frames")
    assert not app.exception
    assert [message["view"] for message in charts(app)] == ["AAA/USD 1s", "AAA/USD 1m", "AAA/USD 1h"]
    assert address(app) == {"instrument": "AAA/USD", "frames": "1s,1m,1h"}


def test_frames_and_studies_of_the_multi_frame_page_are_in_its_address() -> None:
    app = opened("frames", frames="1s,5m", studies="sma:5", kind="ohlc")
    assert [(chart["view"], chart["kind"]) for chart in charts(app)] == [("AAA/USD 1s", "ohlc"), ("AAA/USD 5m", "ohlc")]
    app.button_group(key="frames_frames").set_value(["1s", "1m"]).run()
    assert address(app)["frames"] == "1s,1m"
    assert [chart["view"] for chart in charts(app)] == ["AAA/USD 1s", "AAA/USD 1m"]


def test_more_frames_than_fit_are_refused() -> None:
    app = opened("frames", frames="1s,1m")
    app.button_group(key="frames_frames").set_value(["1s", "5s", "15s", "1m", "1h"]).run()
    assert [toast.value for toast in app.toast] == ["4 frames fit side by side; remove one first."]
    assert address(app)["frames"] == "1s,1m"


def charts(app: AppTest) -> list[Any]:
    found = [element for element in app.get("bidi_component") if element.proto.component_name == "barmill_candles"]
    return [json.loads(element.proto.json) for element in found]


def test_a_range_of_more_bars_than_a_chart_holds_says_that_it_is_cut(written: Written) -> None:
    def said(hours: int) -> bool:
        app = seconds(**{"from": str(written.now_ms - hours * 3_600_000), "to": str(written.now_ms)})
        return "21,600 bars of 1s, but a chart shows at most 20,000" in texts(app)

    assert (said(5), said(6)) == (False, True)


def test_a_chart_whose_bars_are_made_of_many_asks_for_fewer_at_once() -> None:
    asked = {frame: chart(opened("chart", instrument="AAA/USD", frame=frame))["max_bars"] for frame in ("1s", "30s")}
    assert asked == {"1s": 5_000, "30s": 500}
