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

from barmill.model.tick import REJECT_SCHEMA, as_rejects
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import PYTHON_PATH, Home
from barmill.platform.sqlite_file import open_for_writing
from control.quality import Comparison, ComparisonState, State, TickCounts, comparison_of, count_ticks
from tests.support.shard import Market
from tests.support.stopped_jobs import seconds_stopped

TIMEOUT_S = 60


@pytest.fixture
def market(home: Home) -> Iterator[Market]:
    """A home with ten ticks in bars, of which one came late and one too late, and two rows rejected at intake."""
    market = Market(home.root)
    market.arrive(*((1_000 * n, "A", 1.0 + n) for n in range(9)), complete_to=90_000)
    market.arrive((80_000, "A", 1.5), (40_000, "A", 1.25), (300, "A", 9.0), complete_to=91_000)
    refused = as_rejects(pl.DataFrame({"line": [1, 2], "reason": ["bad_time", "duplicate"]}))
    market.log.append("market", market.log.newest(1).clear(), refused, read=2, cursor="", complete_to_ms=None)
    yield market
    market.log.close()
    market.store.close()


def ended(comparison: Comparison) -> ComparisonState:
    assert wait_until(lambda: comparison.comparison_state.state is not State.RUNNING, TIMEOUT_S)
    return comparison.comparison_state


def tamper(home: Home, statement: str) -> None:
    with closing(open_for_writing(home.bars_db).conn) as connection, connection:
        connection.execute(statement)


def test_every_row_read_is_somewhere(home: Home, market: Market) -> None:
    account = count_ticks(home)
    assert account == TickCounts(read=14, in_bars=11, too_late=1, rejected={"bad_time": 1, "duplicate": 1}, waiting=0)
    assert account.unaccounted == 0
    batch = market.log.newest(1).tail(1)
    market.log.append("market", batch, pl.DataFrame(schema=REJECT_SCHEMA), read=1, cursor="", complete_to_ms=None)
    assert (count_ticks(home).waiting, count_ticks(home).unaccounted) == (1, 0)
    market.poll()
    assert count_ticks(home).waiting == 0


def test_what_is_missing_or_counted_twice_shows(home: Home, market: Market) -> None:
    tamper(home, "UPDATE bars SET ticks = ticks - 2 WHERE start_ms = (SELECT min(start_ms) FROM bars)")
    assert count_ticks(home).unaccounted == 2
    tamper(home, "UPDATE progress SET read = read - 5")  # a job that went back to a checkpoint
    assert count_ticks(home).unaccounted == 2 - 5
    assert market.spec.frames == "1s,1m"


def test_a_home_without_stores_has_read_nothing(home: Home) -> None:
    assert count_ticks(home) == TickCounts(0, 0, 0, {}, 0)
    home.bars_db.touch()
    home.ticks_db.touch()
    assert count_ticks(home).unaccounted == 0


@pytest.mark.usefixtures("market")
def test_a_comparison_finds_equal_bars_equal(home: Home) -> None:
    comparison = Comparison(home)
    assert comparison.comparison_state == ComparisonState()
    comparison.start()
    comparison_state = ended(comparison)
    assert (comparison_state.state, comparison_state.share, comparison_state.problem) == (State.DONE, 1.0, "")
    assert comparison_state.verdict is not None
    assert (comparison_state.verdict.different, comparison_state.verdict.late) == (0, 1)
    assert comparison_state.verdict.bars > 10
    assert comparison_state.started_ms <= comparison_state.ended_ms


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
    comparison_state = ended(comparison)
    assert (comparison_state.state, comparison_state.verdict) == (State.FAILED, None)
    assert "start Barmill with ./barmill up" in comparison_state.problem


@pytest.mark.usefixtures("market")
def test_a_comparison_that_dies_or_takes_too_long_has_failed(home: Home) -> None:
    comparison = Comparison(home, timeout_s=0.0)
    comparison.start()
    comparison_state = ended(comparison)
    assert comparison_state.state is State.FAILED
    assert "ended without a result" in comparison_state.problem
    assert "comparison.log" in comparison_state.problem
    comparison.start()
    assert comparison.comparison_state.state is State.RUNNING
    ended(comparison)


@pytest.mark.usefixtures("market")
def test_a_comparison_can_be_stopped_and_started_again(home: Home) -> None:
    comparison = Comparison(home)
    comparison.start()
    started_ms = comparison.comparison_state.started_ms
    comparison.start()
    assert comparison.comparison_state.started_ms == started_ms, "there is one at a time"
    comparison.stop()
    assert comparison.comparison_state.state is State.STOPPED
    comparison.stop()
    comparison.start()
    assert ended(comparison).state is State.DONE


def test_all_visitors_of_a_home_share_one_comparison(home: Home, tmp_path: Path) -> None:
    assert comparison_of(home) is comparison_of(Home(home.root))
    assert comparison_of(home) is not comparison_of(Home(tmp_path / "other"))


@pytest.mark.usefixtures("market")
def test_the_process_yields_to_everybody_and_prints_json(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control.quality", "--home", str(home.root)],
        env=os.environ | {"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=True,
    )
    *shares, verdict = done.stdout.splitlines()
    done_so_far = [json.loads(share)["share"] for share in shares]
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
    assert count_ticks(home).waiting == 0
