"""Why bars are missing, according to the measurements of that time."""

from contextlib import closing

import polars as pl
import pytest

from barmill.model.bar import Gap
from barmill.model.frames import parse_frame
from barmill.platform.clock import MS_PER_HOUR, MS_PER_MINUTE
from barmill.platform.home import Home
from barmill.platform.sqlite_file import immediate
from control.jobs.repository import JobRepository
from control.monitoring.history import History
from control.monitoring.metrics import SAMPLE_MS, Kind, Metric, Reading, Subject
from control.monitoring.outages import Reason, explained_gaps, reasons
from tests.support.chart_bars import bars_of
from tests.support.readings import BARS, NOW_MS
from tests.support.stopped_jobs import seconds_stopped

INGEST, MARKET = (Subject(Kind.PROCESS, name) for name in ("ingest", "market"))
OTHER = Subject(Kind.JOB, "other")


def seen(*, ingest: bool = True, market: bool = True, bars: bool = True) -> list[Reading]:
    return [
        Reading(INGEST, Metric.UP, ingest),
        Reading(MARKET, Metric.UP, market),
        Reading(Subject(Kind.PROCESS, "app"), Metric.UP, 0),
        Reading(BARS, Metric.RUNNING, bars),
        Reading(OTHER, Metric.RUNNING, 0),  # a stopped job does not stop the bars of other jobs
    ]


def gap(from_s: float, to_s: float) -> Gap:
    return Gap(int(NOW_MS + from_s * 1_000), int(NOW_MS + to_s * 1_000))


@pytest.fixture
def home(home: Home) -> Home:
    """Measured for five minutes: all is well, then ingest is down, the market, the job, feed and job, all is well."""
    history = History.open(home)
    phases = [seen(), seen(ingest=False), seen(market=False), seen(bars=False), seen(ingest=False, bars=False), seen()]
    for number, readings in enumerate(phases):
        for look in range(12):
            history.write(NOW_MS + number * MS_PER_MINUTE + look * SAMPLE_MS, readings)
    history.close()
    return home


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (gap(10, 50), Reason.NO_TICKS),
        (gap(60, 120), Reason.FEED_DOWN),
        (gap(130, 170), Reason.FEED_DOWN),
        (gap(180, 240), Reason.JOB_DOWN),
        (gap(240, 300), Reason.FEED_DOWN),
        (gap(301, 302), Reason.NO_TICKS),
        (gap(62, 63), Reason.FEED_DOWN),
        (gap(55, 125), Reason.FEED_DOWN),  # most of it
        (gap(0, 80), Reason.NO_TICKS),
        (gap(-600, -540), Reason.UNKNOWN),
        (gap(-600, 20), Reason.UNKNOWN),  # most of it was not measured
        (gap(361, 362), Reason.NO_TICKS),  # the next look was late
        (gap(366, 400), Reason.UNKNOWN),
    ],
)
def test_a_gap_has_the_reason_that_held_for_most_of_it(home: Home, missing: Gap, reason: Reason) -> None:
    assert reasons(home, [missing]) == [reason]


def test_many_gaps_are_answered_in_their_order(home: Home) -> None:
    missing = [gap(185, 190), gap(65, 70), gap(5, 10)]
    assert reasons(home, missing) == [Reason.JOB_DOWN, Reason.FEED_DOWN, Reason.NO_TICKS]
    assert reasons(home, []) == []


def test_days_later_the_thinned_readings_still_tell(home: Home) -> None:
    history = History.open(home)
    history.write(NOW_MS + 20 * MS_PER_HOUR, seen())
    history.close()
    assert reasons(home, [gap(60, 120), gap(185, 230)]) == [Reason.FEED_DOWN, Reason.JOB_DOWN]
    assert reasons(home, [gap(3_600, 7_200)]) == [Reason.UNKNOWN]


def test_where_nothing_was_ever_measured_nothing_is_known(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert reasons(Home(tmp_path), [gap(0, 10)]) == [Reason.UNKNOWN]


def test_gaps_among_bars_come_with_their_reasons(home: Home) -> None:
    minutes = bars_of([10.0, 10.5, 11.0], from_ms=NOW_MS).with_columns(
        start_ms=pl.Series([NOW_MS, NOW_MS + 2 * MS_PER_MINUTE, NOW_MS + 4 * MS_PER_MINUTE])
    )
    assert explained_gaps(home, minutes, parse_frame("1m")) == [
        (NOW_MS + MS_PER_MINUTE, NOW_MS + 2 * MS_PER_MINUTE, "feed down"),
        (NOW_MS + 3 * MS_PER_MINUTE, NOW_MS + 4 * MS_PER_MINUTE, "job down"),
    ]
    assert explained_gaps(home, minutes[:1], parse_frame("1m")) == []


def test_only_the_job_that_makes_the_frame_explains_its_gaps(home: Home) -> None:
    """Another job ran all the time; the job of seconds was stopped by a person, and started again later."""
    seconds_stopped(home).close()
    with JobRepository.open(home) as repository, immediate(repository.db):
        change = "UPDATE operations SET asked_ms = ?, ended_ms = ? WHERE job = 'bars' AND kind = 'stop'"
        repository.db.conn.execute(change, (NOW_MS + 9_000, NOW_MS + 10_000))
    with closing(History.open(home)) as history:
        for look in range(24):
            history.write(
                NOW_MS + look * SAMPLE_MS, [*seen()[:-2], Reading(Subject(Kind.JOB, "long"), Metric.RUNNING, 1)]
            )
    assert reasons(home, [gap(20, 50)], parse_frame("5s")) == [Reason.JOB_STOPPED]
    assert reasons(home, [gap(20, 50)], parse_frame("5m")) == [Reason.NO_TICKS]
    assert reasons(home, [gap(0, 12)], parse_frame("1s")) == [Reason.NO_TICKS]
