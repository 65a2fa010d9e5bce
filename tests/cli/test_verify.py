"""`barmill verify` beside a job that was stopped, and then deleted."""

import json

import pytest

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from cli.main import main
from control.jobs.service import JobService
from tests.support.controller import PlayedController
from tests.support.histories import opened
from tests.support.verification import beside, silent_for


def test_a_frame_stopped_is_a_failure_until_its_job_is_deleted(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    with opened(home.root) as history:
        beside(history, minutes=4)
        silent_for(history, "fives", 61_000)
    controller = PlayedController(home)
    with JobService.open(home, Actor("os:ada")) as service:
        for name, frames in (("bars", "1s,1m"), ("fives", "5s,5m")):
            service.create(json.dumps({"name": name, "frames": frames}))
        assert main(["verify"]) == 1
        assert "\nstopped  5s: the job fives has made no bars since" in capsys.readouterr().out
        service.delete("fives")
        controller.done()
    controller.close()
    assert main(["verify"]) == 0
    found = capsys.readouterr().out
    assert "stopped" not in found
    assert "\nnote   5s: no job makes these bars now; the job fives made the last ones at" in found
