"""The plan of a whole test run: every test is in one group, and each group is announced with the time left."""

import argparse

import pytest

from cli import test


def test_each_test_is_in_one_group() -> None:
    marks = [group.command[2] for group in test.GROUPS if group.command[:2] == ("pytest", "-m")]
    assert marks == ["browser", "not browser"]


def test_every_group_runs_and_is_announced_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(test, "GROUPS", [test.Group(name, ("compileall", "-h"), 2) for name in ("some", "others")])
    monkeypatch.setattr(test, "_provide_browser", lambda: None)
    parser = argparse.ArgumentParser()
    test.add_arguments(parser)
    assert test.run(parser.parse_args([])) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("── ")]
    assert titles == [
        "── some (1 of 2, about 4 minutes left): compileall -h",
        "── others (2 of 2, about 2 minutes left): compileall -h",
    ]
