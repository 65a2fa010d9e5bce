"""How long bars are kept: said by people who may, and done by the controller beside everything else."""

from contextlib import closing
from dataclasses import replace

import polars as pl
import pytest

from bar.reader import BarReader
from bar.store import BarStore
from control.audit import Stage
from control.errors import NotAllowedError
from control.home import Home
from control.jobs.book import JobBook
from control.people.roles import FIRST_START, Actor
from control.retention.policy import Policy, RetentionError, keep, keep_for_ever, open_retention_db, policies
from control.retention.removal import kept_from_ms, retaining, sweep
from control.waiting import wait_until
from tests.bars.test_rollup import MINUTE_MS, NAME, progress, seconds

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WHO = Actor("os:tester")


@pytest.fixture
def home(home: Home) -> Home:
    """A home whose only job makes 1s, 1m and 1h."""
    with JobBook.open(home.create(), FIRST_START) as book:
        book.ensure_default_job()
    return home


def audited(home: Home) -> list[tuple[str, str, str, str | None, str | None]]:
    with closing(open_retention_db(home).conn) as connection:
        query = "SELECT actor, subject, stage, before, after FROM audit WHERE action = 'bars.keep' ORDER BY number"
        return connection.execute(query).fetchall()


def test_a_frame_is_kept_as_long_as_somebody_says_and_that_is_on_record(home: Home) -> None:
    assert policies(home) == []
    said = keep(home, WHO, "60s", 30 * DAY_MS)
    assert said == Policy("1m", 30 * DAY_MS, "1h")
    assert keep(home, WHO, "1s", 7 * DAY_MS) == Policy("1s", 7 * DAY_MS, "1m")
    assert policies(home) == [Policy("1s", 7 * DAY_MS, "1m"), said]
    keep_for_ever(home, WHO, "1s")
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
        ("1h", DAY_MS, None, "No job makes 1h bars together with longer ones"),
        ("5s", DAY_MS, None, "No job makes 5s bars together with longer ones"),
        ("1s", DAY_MS, "5m", "5m cannot stand for 1s; say --into one of 1m, 1h"),
        ("1m", DAY_MS, "1s", "1s cannot stand for 1m; say --into one of 1h"),
        ("1s", HOUR_MS - 1, None, "Bars are kept for an hour at least"),
        ("1s", 3 * DAY_MS, "1m", "1m bars, which are to stand for them, go sooner"),
        ("1m", HOUR_MS, None, "1m bars stand for older 1s ones"),
    ],
)
def test_what_would_lose_bars_is_refused(home: Home, frame: str, keep_ms: int, into: str | None, why: str) -> None:
    keep(home, WHO, "1m", 2 * DAY_MS)
    keep(home, WHO, "1s", 2 * HOUR_MS)
    before = policies(home)
    with pytest.raises(RetentionError, match=why):
        keep(home, WHO, frame, keep_ms, into)
    assert policies(home) == before


def test_who_may_not_manage_jobs_may_not_have_bars_removed(home: Home) -> None:
    with pytest.raises(NotAllowedError):
        keep(home, Actor.of_account("nobody"), "1s", DAY_MS)
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
    monkeypatch.setattr("control.retention.removal._BARS_AT_ONCE", 2)
    bars = seconds((0, 1.0), (1, 2.0), (61, 3.0), (62, 3.0), (7_200, 4.0)).with_columns(state=pl.lit("closed"))
    both = pl.concat([bars, bars.with_columns(instrument=pl.lit("B"))])
    with closing(BarStore.open(home.bars_db)) as store:
        store.publish(replace(progress(MINUTE_MS + 7_260_000), frames="1s,1m,1h"), both)
    assert list(sweep(home)) == []  # nobody has said anything
    keep(home, WHO, "1s", 2 * HOUR_MS)
    assert list(sweep(home)) == [2, 2]
    with retaining(home, sweep_every_s=0.01, pause_s=0.01), closing(BarReader.open(home.bars_db)) as reader:
        keep(home, WHO, "1s", HOUR_MS)
        assert wait_until(lambda: sum(one.bars for one in reader.removed()) == 8, 10, every_s=0.02)
        for name in (NAME, "B"):
            assert reader.bars(name, "1s")["start_ms"].to_list() == [MINUTE_MS + 7_200_000]
            assert reader.bars(name, "1m")["ticks"].to_list() == [2, 2]


def test_a_job_goes_on_publishing_while_bars_are_removed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.retention.removal._BARS_AT_ONCE", 20)
    made = replace(progress(), frames="1s,1m,1h")
    keep(home, WHO, "1s", HOUR_MS)
    with closing(BarStore.open(home.bars_db)) as store:
        store.publish(made, seconds(*((at, 1.0) for at in range(600))).with_columns(state=pl.lit("closed")))
        with retaining(home, sweep_every_s=0.001, pause_s=0.001):
            for at in range(3_600, 4_200, 4):
                newest = replace(made, newest_tick_ms=MINUTE_MS + at * 1_000, next_sequence=at)
                store.publish(newest, seconds((at, 1.0)).with_columns(state=pl.lit("closed")))
            reader = BarReader(store.db)
            assert wait_until(lambda: sum(one.bars for one in reader.removed()) == 540, 20, every_s=0.02)
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
