"""`status` on homes that are not running; with everything running it is tested in test_up.py."""

import json
from contextlib import closing
from dataclasses import replace

import pytest

from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from cli import status
from cli.main import main
from control.monitoring.alerts import open_alert_db, store_changes
from control.monitoring.judge import Finding
from control.monitoring.rules import DEFAULTS, AlertKind
from control.processes.supervisor import ProcessStatus
from control.retention import HistoryMove
from control.system.status import SystemStatus
from tests.support.stopped_jobs import BY, seconds_stopped
from tests.support.stores import Stores

RUNNING = [ProcessStatus("app", "RUNNING", 1, 60, 1_000_000)]


@pytest.fixture(autouse=True)
def _home_with_an_alert(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    db = open_alert_db(home)
    finding = Finding(AlertKind.DISK_LOW, "disk", True, "Less than 2 GB is free.")
    store_changes(db, 1_764_072_000_000, DEFAULTS, [finding], [], deliver=False)
    db.conn.close()


def seen(home: Home, processes: list[ProcessStatus]) -> SystemStatus:
    return SystemStatus(home.root, None, processes, [], 0.0, None, "", "")


def test_open_alerts_are_part_of_the_status(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "read_status", lambda _: seen(home, RUNNING))
    main(["status", "--json"])
    (alert,) = json.loads(capsys.readouterr().out)["alerts"]
    assert (alert["trouble"], alert["subject"], alert["severity"]) == ("disk_low", "disk", "critical")
    main(["status"])
    assert "critical: Less than 2 GB is free." in capsys.readouterr().out


def test_a_long_compression_of_old_bars_shows_its_progress(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    move = HistoryMove(instruments=71, instruments_done=12, bars_moved=3_400_000)
    monkeypatch.setattr(status, "read_status", lambda _: replace(seen(home, RUNNING), history=move))
    main(["status", "--json"])
    assert json.loads(capsys.readouterr().out)["history"] == {
        "instruments": 71,
        "instruments_done": 12,
        "bars_moved": 3_400_000,
        "is_complete": False,
    }
    main(["status"])
    assert (
        "history: Old bars are being compressed: 12 of 71 instruments done, 3,400,000 bars" in capsys.readouterr().out
    )


def test_alerts_of_a_home_that_is_down_are_of_no_interest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["alerts"] == []


def test_each_frame_that_can_be_opened_is_judged(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "read_status", lambda _: seen(home, RUNNING))
    stores = seconds_stopped(home)
    main(["status", "--json"])
    frames = {frame["frame"]: frame for frame in json.loads(capsys.readouterr().out)["frames"]}
    main(["status"])
    stores.close()
    assert [name for name, frame in frames.items() if frame["color"] == "red"] == ["1s", "5s", "15s", "30s"]
    assert (frames["1s"]["by"], frames["5m"]["state"]) == (BY, "live")
    text = capsys.readouterr().out
    assert "bars of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w: live\n" in text
    assert "bars of 1s: stopped. The job bars, which makes 1s bars, was stopped by os:ada at " in text


def test_the_backfill_of_the_demo_market_shows_its_progress(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "read_status", lambda _: seen(home, RUNNING))
    from_ms = now_ms() - 7 * 86_400_000
    with closing(Stores(home)) as stores:
        stores.write([(from_ms, "AAA/USD", 19.5, 2.0)], closed_to_ms=from_ms)
    main(["status", "--json"])
    backfill = json.loads(capsys.readouterr().out)["backfill"]
    assert (backfill["from_ms"], backfill["logged"], backfill["in_bars"]) == (from_ms, 0.0, 0.0)
    main(["status"])
    assert "\nDemo history of 7 d: 0 % received, 0 % in the bars.\n" in capsys.readouterr().out
