"""`status` on homes that are not running; with everything running it is tested in test_up.py."""

import json

import pytest

from cli import status
from cli.main import main
from control.home import Home
from control.machine.processes import ProcessStatus
from control.machine.system_status import SystemStatus
from control.monitor.alerts import note_changes, open_alert_db
from control.monitor.judge import Finding
from control.monitor.rules import DEFAULTS, Trouble
from tests.stopped_jobs import BY, seconds_stopped

RUNNING = [ProcessStatus("app", "RUNNING", 1, 60, 1_000_000)]


@pytest.fixture(autouse=True)
def _home_with_an_alert(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    db = open_alert_db(home)
    finding = Finding(Trouble.DISK_LOW, "disk", True, "Less than 2 GB are free.")
    note_changes(db, 1_764_072_000_000, DEFAULTS, [finding], [], deliver=False)
    db.conn.close()


def seen(home: Home, processes: list[ProcessStatus]) -> SystemStatus:
    return SystemStatus(home.root, None, processes, [], 0.0, None, "", "")


def test_open_alerts_are_part_of_the_status(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "look", lambda _: seen(home, RUNNING))
    main(["status", "--json"])
    (alert,) = json.loads(capsys.readouterr().out)["alerts"]
    assert (alert["trouble"], alert["subject"], alert["severity"]) == ("disk_low", "disk", "critical")
    main(["status"])
    assert "critical: Less than 2 GB are free." in capsys.readouterr().out


def test_alerts_of_a_home_that_is_down_are_of_no_interest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["alerts"] == []


def test_each_frame_that_can_be_opened_is_judged(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "look", lambda _: seen(home, RUNNING))
    stores = seconds_stopped(home)
    main(["status", "--json"])
    frames = {one["frame"]: one for one in json.loads(capsys.readouterr().out)["frames"]}
    main(["status"])
    stores.close()
    assert [name for name, one in frames.items() if one["color"] == "red"] == ["1s", "5s", "15s", "30s"]
    assert (frames["1s"]["by"], frames["5m"]["state"]) == (BY, "live")
    text = capsys.readouterr().out
    assert "bars of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w: live\n" in text
    assert "bars of 1s: stopped. The job bars, which makes 1s bars, was stopped by os:ada at " in text
