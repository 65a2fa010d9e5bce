"""The account of all ticks, and the comparison of all bars on request."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from bar.clock import now_ms
from bar.sqlite_file import open_for_writing
from control.home import REPO_ROOT, Home
from control.quality.accounting import Account, take_account
from control.quality.comparison import Comparison, Standing, State, comparison_of
from control.waiting import wait_until
from feed.tick import REJECT_SCHEMA, as_rejects
from tests.bars.test_shard import Market
from tests.stopped_jobs import seconds_stopped

TIMEOUT_S = 60


@pytest.fixture
def market(home: Home) -> Iterator[Market]:
    """A home with ten ticks in bars, of which one came late and one too late, and two rows refused at the door."""
    market = Market(home.root)
    market.arrive(*((1_000 * n, "A", 1.0 + n) for n in range(9)), complete_to=90_000)
    market.arrive((80_000, "A", 1.5), (40_000, "A", 1.25), (300, "A", 9.0), complete_to=91_000)
    refused = as_rejects(pl.DataFrame({"line": [1, 2], "reason": ["bad_time", "duplicate"]}))
    market.log.append("market", market.log.newest(1).clear(), refused, read=2, cursor="", complete_to_ms=None)
    yield market
    market.log.close()
    market.store.close()


def ended(comparison: Comparison) -> Standing:
    assert wait_until(lambda: comparison.standing.state is not State.RUNNING, TIMEOUT_S)
    return comparison.standing


def tamper(home: Home, statement: str) -> None:
    with closing(open_for_writing(home.bars_db).conn) as connection, connection:
        connection.execute(statement)


def test_every_row_read_is_somewhere(home: Home, market: Market) -> None:
    account = take_account(home)
    assert account == Account(read=14, in_bars=11, too_late=1, refused={"bad_time": 1, "duplicate": 1}, waiting=0)
    assert account.off_by == 0
    batch = market.log.newest(1).tail(1)
    market.log.append("market", batch, pl.DataFrame(schema=REJECT_SCHEMA), read=1, cursor="", complete_to_ms=None)
    assert (take_account(home).waiting, take_account(home).off_by) == (1, 0)
    market.poll()
    assert take_account(home).waiting == 0


def test_what_is_missing_or_counted_twice_shows(home: Home, market: Market) -> None:
    tamper(home, "UPDATE bars SET ticks = ticks - 2 WHERE start_ms = (SELECT min(start_ms) FROM bars)")
    assert take_account(home).off_by == 2
    tamper(home, "UPDATE progress SET read = read - 5")  # a job that went back to a checkpoint
    assert take_account(home).off_by == 2 - 5
    assert market.spec.frames == "1s,1m"


def test_a_home_without_stores_has_read_nothing(home: Home) -> None:
    assert take_account(home) == Account(0, 0, 0, {}, 0)
    home.bars_db.touch()
    home.ticks_db.touch()
    assert take_account(home).off_by == 0


@pytest.mark.usefixtures("market")
def test_a_comparison_finds_equal_bars_equal(home: Home) -> None:
    comparison = Comparison(home)
    assert comparison.standing == Standing()
    comparison.start()
    standing = ended(comparison)
    assert (standing.state, standing.share, standing.problem) == (State.DONE, 1.0, "")
    assert standing.verdict is not None
    assert (standing.verdict.different, standing.verdict.late) == (0, 1)
    assert standing.verdict.bars > 10
    assert standing.started_ms <= standing.ended_ms


@pytest.mark.usefixtures("market")
def test_a_comparison_names_the_bar_that_differs(home: Home) -> None:
    tamper(
        home,
        "UPDATE bars SET high = high + 1 WHERE frame = '1s'"
        " AND start_ms = (SELECT min(start_ms) FROM bars WHERE frame = '1s')",
    )
    comparison = Comparison(home)
    comparison.start()
    verdict = ended(comparison).verdict
    assert verdict is not None
    assert verdict.different == 1
    assert "high is 2.0, should be 1.0" in verdict.examples[0]


def test_a_comparison_without_anything_to_compare_says_what_to_do(home: Home) -> None:
    comparison = Comparison(home)
    comparison.start()
    standing = ended(comparison)
    assert (standing.state, standing.verdict) == (State.FAILED, None)
    assert "start Barmill with ./barmill up" in standing.problem


@pytest.mark.usefixtures("market")
def test_a_comparison_that_dies_or_takes_too_long_has_failed(home: Home) -> None:
    comparison = Comparison(home, longest_s=0.0)
    comparison.start()
    standing = ended(comparison)
    assert standing.state is State.FAILED
    assert "ended without a result" in standing.problem
    assert "comparison.log" in standing.problem
    comparison.start()
    assert comparison.standing.state is State.RUNNING
    ended(comparison)


@pytest.mark.usefixtures("market")
def test_a_comparison_can_be_stopped_and_started_again(home: Home) -> None:
    comparison = Comparison(home)
    comparison.start()
    started_ms = comparison.standing.started_ms
    comparison.start()
    assert comparison.standing.started_ms == started_ms, "there is one at a time"
    comparison.stop()
    assert comparison.standing.state is State.STOPPED
    comparison.stop()
    comparison.start()
    assert ended(comparison).state is State.DONE


def test_all_visitors_of_a_home_share_one_comparison(home: Home, tmp_path: Path) -> None:
    assert comparison_of(home) is comparison_of(Home(home.root))
    assert comparison_of(home) is not comparison_of(Home(tmp_path / "other"))


@pytest.mark.usefixtures("market")
def test_the_process_yields_to_everybody_and_prints_json(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control.quality.comparison", "--home", str(home.root)],
        env=os.environ | {"PYTHONPATH": str(REPO_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    *shares, verdict = done.stdout.splitlines()
    done_so_far = [json.loads(one)["share"] for one in shares]
    assert done_so_far == sorted(done_so_far)
    assert (done_so_far[0], done_so_far[-1]) == (0.0, 1.0)
    assert verdict.startswith('{"verdict": {"ticks": 12,')


def test_a_job_that_was_stopped_has_nothing_waiting_while_another_one_reads(home: Home) -> None:
    """The one that was stopped has read more, and would count for ever else."""
    stores = seconds_stopped(home)
    now = now_ms()
    for later in range(40):
        stores.write([(now + later, "AAA/USD", 5.0, 1.0)], closed_to_ms=now)
    stores.close()
    assert take_account(home).waiting == 0
