"""`barmill job retention`: what is kept, said and shown."""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from barmill.audit.roles import FIRST_START
from barmill.platform.home import Home
from barmill.storage.bar_store import BarStore
from cli.main import main
from control.jobs.service import JobService
from control.retention import sweep
from tests.support.rollup import MINUTE_MS, progress, seconds

Retention = Callable[..., str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("BARMILL_HOME", str(tmp_path))
    home = Home(tmp_path).create()
    with JobService.open(home, FIRST_START) as service:
        service.ensure_default_job()
    return home


@pytest.fixture
def retention(capsys: pytest.CaptureFixture[str]) -> Retention:
    def run(*arguments: str, code: int = 0) -> str:
        assert main(["job", "retention", *arguments]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def test_all_is_kept_until_somebody_says_otherwise(retention: Retention) -> None:
    assert retention().startswith("All bars are kept forever;")
    said = "1s bars are kept for 7d; older bars are removed once 1m bars replace them.\n"
    assert retention("1s", "168h") == retention() == said
    assert json.loads(retention("1m", "30d", "--into", "1h", "--json")) == {
        **{"frame": "1m", "keep_ms": 2_592_000_000, "into": "1h"},
    }
    assert retention("1s", "for-ever") == "1s bars are kept forever.\n"
    assert retention() == "1m bars are kept for 30d; older bars are removed once 1h bars replace them.\n"


def test_what_was_removed_is_told(home: Home, retention: Retention) -> None:
    bars = seconds((0, 1.0), (1, 2.0), (7_200, 4.0)).with_columns(state=pl.lit("closed"))
    with closing(BarStore.open(home.bars_db)) as store:
        store.publish(replace(progress(MINUTE_MS + 7_200_000), frames="1s,1m,1h"), bars)
    retention("1s", "1h")
    assert sum(sweep(home)) == 2
    assert "2 1s bars from before 2023-11-14 23:13 UTC have been removed.\n" in retention()
    removed = {"frame": "1s", "to_ms": MINUTE_MS + 3_600_000, "bars": 2, "ticks": 2}
    assert json.loads(retention("--json")) == {
        "kept": [{"frame": "1s", "keep_ms": 3_600_000, "into": "1m"}],
        "removed": [removed],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["1s"], "The duration is missing; run ./barmill job retention 1s 7d, or use for-ever.\n"),
        (["1s", "week"], "TIME week is not a duration; write a whole number and ms, s, m, h or d, such as 5m.\n"),
        (["1h", "7d"], "No job makes 1h bars together with longer bars"),
    ],
)
def test_what_cannot_be_said_says_how(retention: Retention, arguments: list[str], said: str) -> None:
    assert retention(*arguments, code=1).startswith(f"barmill: {said}")
