"""`barmill verify` beside a job that was stopped, and then deleted."""

import json

import pytest

from cli.main import main
from control.home import Home
from control.jobs.book import JobBook
from control.people.roles import Actor
from tests.bars.histories import opened
from tests.bars.test_verification import beside, silent_for
from tests.pages.controller import PlayedController


def test_a_frame_stopped_is_a_failure_until_its_job_is_deleted(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    with opened(home.root) as history:
        beside(history, minutes=4)
        silent_for(history, "fives", 61_000)
    controller = PlayedController(home)
    with JobBook.open(home, Actor("os:ada")) as book:
        for name, frames in (("bars", "1s,1m"), ("fives", "5s,5m")):
            book.create(json.dumps({"name": name, "frames": frames}))
        assert main(["verify"]) == 1
        assert "\nstopped  5s: no bars have been made since" in capsys.readouterr().out
        book.delete("fives")
        controller.done()
    controller.close()
    assert main(["verify"]) == 0
    found = capsys.readouterr().out
    assert "stopped" not in found
    assert "\nnote   5s: no job makes these bars any more; the job fives made the last ones at" in found
