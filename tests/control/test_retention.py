"""How long bars are kept: said by people who may, and done by the controller beside everything else."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import polars as pl
import pytest

from barmill.audit.roles import FIRST_START, Actor
from barmill.audit.trail import Stage
from barmill.platform.clock import wait_until
from barmill.platform.errors import NotAllowedError
from barmill.platform.home import Home
from barmill.storage.bar_damage import store_problem
from barmill.storage.bar_store import BarStore
from barmill.storage.bar_upkeep import move_oldest
from barmill.storage.reader import BarReader
from control.jobs.service import JobService
from control.retention import (
    HistoryMove,
    Policy,
    RetentionError,
    background_retention,
    clear_retention,
    kept_from_ms,
    move_history,
    open_retention_db,
    policies,
    read_history_move,
    set_retention,
    sweep,
)
from tests.support.damage import flip_bit_of_bars
from tests.support.rollup import MINUTE_MS, NAME, progress, seconds

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WHO = Actor("os:tester")


@pytest.fixture
def home(home: Home) -> Home:
    """A home whose only job makes 1s, 1m and 1h."""
    with JobService.open(home.create(), FIRST_START) as service:
        service.ensure_default_job()
    return home


def audited(home: Home) -> list[tuple[str, str, str, str | None, str | None]]:
    with closing(open_retention_db(home).conn) as connection:
        query = "SELECT actor, subject, stage, before, after FROM audit WHERE action = 'bars.keep' ORDER BY number"
        return connection.execute(query).fetchall()


def test_a_frame_is_kept_as_long_as_somebody_says_and_that_is_on_record(home: Home) -> None:
    assert policies(home) == []
    said = set_retention(home, WHO, "60s", 30 * DAY_MS)
    assert said == Policy("1m", 30 * DAY_MS, "1h")
    assert set_retention(home, WHO, "1s", 7 * DAY_MS) == Policy("1s", 7 * DAY_MS, "1m")
    assert policies(home) == [Policy("1s", 7 * DAY_MS, "1m"), said]
    clear_retention(home, WHO, "1s")
    assert policies(home) == [said]
    kept = '{"frame": "1s", "into": "1m", "keep_ms": 604800000}'
    for_ever = '{"frame": "1s", "keep_ms": null}'
    assert audited(home)[1:] == [
        ("os:tester", "1s", Stage.EXECUTED, for_ever, kept),
        ("os:tester", "1s", Stage.EXECUTED, kept, for_ever),
    ]


@pytest.mark.parametrize(
    ("frame", "keep_ms", "into", "why"),
    [
        ("1x", DAY_MS, None, "'1x' is not a time frame"),
        ("1h", DAY_MS, None, "No job makes 1h bars together with longer bars"),
        ("5s", DAY_MS, None, "No job makes 5s bars together with longer bars"),
        ("1s", DAY_MS, "5m", "5m bars cannot replace 1s bars; set --into to one of 1m, 1h"),
        ("1m", DAY_MS, "1s", "1s bars cannot replace 1m bars; set --into to one of 1h"),
        ("1s", HOUR_MS - 1, None, "Bars must be kept for at least an hour"),
        ("1s", 3 * DAY_MS, "1m", "1m bars, which replace them, are removed sooner"),
        ("1m", HOUR_MS, None, "1m bars replace older 1s bars"),
    ],
)
def test_what_would_lose_bars_is_refused(home: Home, frame: str, keep_ms: int, into: str | None, why: str) -> None:
    set_retention(home, WHO, "1m", 2 * DAY_MS)
    set_retention(home, WHO, "1s", 2 * HOUR_MS)
    before = policies(home)
    with pytest.raises(RetentionError, match=why):
        set_retention(home, WHO, frame, keep_ms, into)
    assert policies(home) == before


def test_who_may_not_manage_jobs_may_not_have_bars_removed(home: Home) -> None:
    with pytest.raises(NotAllowedError):
        set_retention(home, Actor.of_account("unknown"), "1s", DAY_MS)
    assert policies(home) == []
    assert [stage for _, _, stage, *_ in audited(home)] == [Stage.REFUSED]


def test_what_no_job_has_read_or_late_ticks_may_change_is_kept() -> None:
    policy, shard = Policy("1s", 2 * HOUR_MS, "1m"), replace(progress(10 * HOUR_MS), frames="1s,1m")
    behind = replace(shard, shard=1, newest_tick_ms=9 * HOUR_MS)
    assert kept_from_ms(policy, [shard, behind]) == 7 * HOUR_MS
    assert kept_from_ms(policy, [shard, replace(behind, job="other")]) == 8 * HOUR_MS
    assert kept_from_ms(policy, [shard, replace(behind, lateness_ms=4 * HOUR_MS)]) == 5 * HOUR_MS
    assert kept_from_ms(policy, [shard, replace(behind, newest_tick_ms=None)]) == 8 * HOUR_MS
    assert kept_from_ms(policy, [replace(shard, frames="1m")]) is None
    assert kept_from_ms(policy, []) is None


def test_the_controller_removes_what_is_old_in_small_steps(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.retention._BATCH_BARS", 2)
    bars = seconds((0, 1.0), (1, 2.0), (61, 3.0), (62, 3.0), (7_200, 4.0)).with_columns(state=pl.lit("closed"))
    both = pl.concat([bars, bars.with_columns(instrument=pl.lit("B"))])
    with closing(BarStore.open(home.bars_db)) as store:
        store.publish(replace(progress(MINUTE_MS + 7_260_000), frames="1s,1m,1h"), both)
    assert list(sweep(home)) == []  # there is no policy
    set_retention(home, WHO, "1s", 2 * HOUR_MS)
    assert list(sweep(home)) == [2, 2]
    with background_retention(home, sweep_every_s=0.01, pause_s=0.01), closing(BarReader.open(home.bars_db)) as reader:
        set_retention(home, WHO, "1s", HOUR_MS)
        assert wait_until(lambda: sum(removal.bars for removal in reader.removals()) == 8, 10, every_s=0.02)
        for name in (NAME, "B"):
            assert reader.bars(name, "1s")["start_ms"].to_list() == [MINUTE_MS + 7_200_000]
            assert reader.bars(name, "1m")["ticks"].to_list() == [2, 2]


def test_a_job_goes_on_publishing_while_bars_are_removed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.retention._BATCH_BARS", 20)
    made = replace(progress(), frames="1s,1m,1h")
    set_retention(home, WHO, "1s", HOUR_MS)
    with closing(BarStore.open(home.bars_db)) as store:
        store.publish(made, seconds(*((at, 1.0) for at in range(600))).with_columns(state=pl.lit("closed")))
        with background_retention(home, sweep_every_s=0.001, pause_s=0.001):
            for at in range(3_600, 4_200, 4):
                newest = replace(made, newest_tick_ms=MINUTE_MS + at * 1_000, next_sequence=at)
                store.publish(newest, seconds((at, 1.0)).with_columns(state=pl.lit("closed")))
            reader = BarReader(store.db)
            assert wait_until(lambda: sum(removal.bars for removal in reader.removals()) == 540, 20, every_s=0.02)
        # 4,196 s is the last second published, and what is less than an hour older stays, from a whole minute on.
        assert reader.bars(NAME, "1s")["start_ms"].head(1).to_list() == [MINUTE_MS + 540_000]
        assert reader.bars(NAME, "1s").height == 60 + 150
        assert reader.ticks_in("1s") == 600 + 150
        assert reader.bars(NAME, "1m")["ticks"].to_list() == [60] * 9


def test_bars_of_a_clock_that_runs_ahead_do_not_make_the_others_old() -> None:
    ahead = replace(progress(), frames="1s,1m", newest_tick_ms=100 * DAY_MS)
    policy = Policy("1s", 7 * DAY_MS, "1m")
    assert kept_from_ms(policy, [ahead], trusted_ms=92 * DAY_MS) == 85 * DAY_MS
    assert kept_from_ms(policy, [ahead], trusted_ms=101 * DAY_MS) == 93 * DAY_MS


def test_old_bars_move_into_blocks_while_the_controller_runs(home: Home) -> None:
    with BarStore.open(home.bars_db) as store:
        bars = seconds(*((second, 1.0 + second) for second in range(1_200))).with_columns(state=pl.lit("closed"))
        store.publish(replace(progress(MINUTE_MS + 1_200_000), frames="1s", lateness_ms=1_000), bars)
    with closing(BarReader.open(home.bars_db)) as reader:
        before = reader.bars(NAME, "1s")
        blocks = "SELECT coalesce(sum(bars), 0) FROM bar_blocks"
        with background_retention(home, sweep_every_s=0.01, pause_s=0.01):
            assert wait_until(lambda: reader.db.conn.execute(blocks).fetchone()[0] == 700, 20, every_s=0.02)
        assert reader.db.conn.execute("SELECT count(*) FROM bars").fetchone() == (500,)
        assert reader.bars(NAME, "1s").equals(before)
    assert list(move_history(home)) == []


def publish_seconds(home: Home, first: int, end: int) -> None:
    """Publish one bar a second of two instruments, up to `end` seconds after the first."""
    bars = seconds(*((second, 1.0 + second) for second in range(first, end))).with_columns(state=pl.lit("closed"))
    both = pl.concat([bars, bars.with_columns(instrument=pl.lit("B"))])
    with BarStore.open(home.bars_db) as store:
        store.publish(replace(progress(MINUTE_MS + end * 1_000), frames="1s,1m", lateness_ms=1_000), both)


@pytest.mark.parametrize("held", [1, 5])
def test_a_move_that_finds_the_write_lock_held_is_repeated(
    home: Home, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    publish_seconds(home, 0, 1_200)
    failures = list[int]()
    with closing(sqlite3.connect(home.bars_db, isolation_level=None)) as publisher:
        publisher.execute("BEGIN IMMEDIATE")

        def move_and_release(*arguments: object) -> tuple[int, int | None]:
            try:
                return move_oldest(*arguments)  # type: ignore[arg-type]
            except sqlite3.OperationalError as error:
                failures.append(error.sqlite_errorcode)
                if len(failures) == held:
                    publisher.execute("ROLLBACK")
                raise

        monkeypatch.setattr("control.retention.move_oldest", move_and_release)
        assert list(move_history(home)) == [700, 700]
    assert failures == [sqlite3.SQLITE_BUSY] * held


def test_a_pass_that_ended_early_is_not_shown_as_running(home: Home) -> None:
    publish_seconds(home, 0, 1_200)
    assert next(iter(move_history(home))) == 700
    assert read_history_move(home) == HistoryMove(2, 0, 700)
    long_ago_s = time.time() - 3_600
    os.utime(home.run / "history.json", (long_ago_s, long_ago_s))
    assert read_history_move(home) is None
    assert list(move_history(home)) == [700]
    os.utime(home.run / "history.json", (long_ago_s, long_ago_s))
    assert read_history_move(home) == HistoryMove(2, 2, 700)


def test_bars_move_although_the_progress_cannot_be_written(home: Home) -> None:
    publish_seconds(home, 0, 1_200)
    shutil.rmtree(home.run)
    assert list(move_history(home)) == [700, 700]


def test_the_progress_of_a_long_move_is_shown(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.retention._REPORT_EVERY_S", 0.0)
    assert read_history_move(home) is None
    publish_seconds(home, 0, 1_200)
    seen = list[HistoryMove | None]()
    for _ in move_history(home):
        seen.append(read_history_move(home))
    assert seen == [HistoryMove(2, 0, 700), HistoryMove(2, 1, 1_400)]
    assert read_history_move(home) == HistoryMove(2, 2, 1_400)
    assert [move.sentence for move in seen if move] == ["", ""]  # a move of the usual length
    monkeypatch.setattr("control.retention._BARS_WORTH_A_SENTENCE", 1_000)
    assert [move.sentence for move in seen if move] == [
        "",
        "Old bars are being compressed: 1 of 2 instruments done, 1,400 bars so far.",
    ]
    assert HistoryMove(2, 2, 1_400).sentence == ""


def test_a_damaged_block_does_not_keep_other_bars_from_moving(home: Home) -> None:
    publish_seconds(home, 0, 1_200)
    assert list(move_history(home)) == [700, 700]
    flip_bit_of_bars(home.bars_db)
    publish_seconds(home, 1_200, 1_500)
    assert store_problem(home.bars_db) == ""
    assert list(move_history(home)) == [300]
    assert read_history_move(home) == HistoryMove(2, 2, 300)
    assert "./barmill repair" in store_problem(home.bars_db)
    with closing(BarReader.open(home.bars_db)) as reader:
        assert dict(reader.db.conn.execute("SELECT instrument, sum(bars) FROM bar_blocks GROUP BY 1")) == {
            NAME: 700,
            "B": 1_000,
        }
        assert reader.bars("B", "1s").height == 1_500


def test_a_damaged_block_does_not_keep_other_bars_from_being_removed(home: Home) -> None:
    publish_seconds(home, 0, 1_200)
    assert list(move_history(home)) == [700, 700]
    publish_seconds(home, 5_400, 5_401)
    flip_bit_of_bars(home.bars_db)
    set_retention(home, WHO, "1s", HOUR_MS, "1m")
    assert sum(sweep(home)) == 1_200
    assert "./barmill repair" in store_problem(home.bars_db)
    with closing(BarReader.open(home.bars_db)) as reader:
        assert reader.bars("B", "1s").height == 1
        assert reader.bars("B", "1m")["ticks"].sum() == 1_200
        assert reader.db.conn.execute("SELECT count(*) FROM bars WHERE instrument = ?", (NAME,)).fetchone() == (501,)
