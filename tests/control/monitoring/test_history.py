"""What was measured: kept, thinned out, bounded, and read back with as many points as a picture needs."""

from collections.abc import Iterator

import pytest

from barmill.platform.clock import MS_PER_HOUR, MS_PER_MINUTE
from barmill.platform.home import Home
from control.flink.model import JobFailure
from control.monitoring.history import KEPT_MS, MAX_FAILURES, MAX_SERIES, Failure, History
from control.monitoring.metrics import SAMPLE_MS, Kind, Metric, Reading, Subject
from tests.support.readings import BARS, DISK, MARKET, NOW_MS, backlog, free, rate

DAY_MS = 24 * MS_PER_HOUR


@pytest.fixture
def history(home: Home) -> Iterator[History]:
    opened = History.open(home)
    yield opened
    opened.close()


def points(
    history: History, metric: Metric, from_ms: int, to_ms: int, max_points: int = 1_000
) -> list[tuple[int, float]]:
    (line,) = history.lines(metric, from_ms, to_ms, max_points).values()
    return line.rows()


def stored(history: History, every_ms: int) -> int:
    query = "SELECT count(*) FROM samples WHERE every_ms = ?"
    return int(history.db.conn.execute(query, (every_ms,)).fetchone()[0])


def test_what_was_measured_reads_back_as_measured(history: History) -> None:
    for step, value in enumerate((5.0, 7.0, 6.0)):
        history.write(NOW_MS + step * SAMPLE_MS, [rate(value), backlog(step)])
    expected = [(NOW_MS, 5.0), (NOW_MS + SAMPLE_MS, 7.0), (NOW_MS + 2 * SAMPLE_MS, 6.0)]
    assert points(history, Metric.TICKS_ACCEPTED_PER_S, NOW_MS, NOW_MS + MS_PER_MINUTE) == expected
    assert list(history.lines(Metric.BACKLOG_TICKS, NOW_MS, NOW_MS + MS_PER_MINUTE, 100)) == [BARS]
    assert history.lines(Metric.BUSY_RATIO, NOW_MS, NOW_MS + MS_PER_MINUTE, 100) == {}


def test_the_latest_are_those_of_now(history: History) -> None:
    history.write(NOW_MS, [rate(5.0), backlog(3)])
    history.write(NOW_MS + 30_000, [rate(6.0)])
    assert history.latest(NOW_MS + 30_000) == [rate(6.0)]
    assert history.latest(NOW_MS + 60_000) == []
    assert history.newest_ms() == NOW_MS + 30_000


def test_recent_values_come_by_subject_and_in_order(history: History) -> None:
    other = Subject(Kind.SOURCE, "replay")
    for step in range(4):
        history.write(NOW_MS + step * SAMPLE_MS, [rate(step), rate(10 * step, other)])
    recent = history.recent(Metric.TICKS_ACCEPTED_PER_S, NOW_MS + 2 * SAMPLE_MS)
    assert recent == {MARKET: [2, 3], other: [20, 30]}


def write_regularly(history: History, from_ms: int, to_ms: int) -> None:
    """Write a rate that is 1 in every second sample, a backlog of 9 once a minute, free space of 3 once a minute."""
    for at_ms in range(from_ms, to_ms, SAMPLE_MS):
        new_minute = at_ms % MS_PER_MINUTE == 0
        history.write(at_ms, [rate(at_ms // SAMPLE_MS % 2), backlog(9 * new_minute), free(3 if new_minute else 8)])


def test_minutes_and_hours_keep_the_worst_of_what_hurts_and_the_mean_of_the_rest(history: History) -> None:
    write_regularly(history, NOW_MS, NOW_MS + MS_PER_HOUR + MS_PER_MINUTE)
    # So far back that only minutes, and only hours, can show it.
    for step_ms, from_ms in ((MS_PER_MINUTE, NOW_MS - DAY_MS), (MS_PER_HOUR, NOW_MS - 30 * DAY_MS)):
        to_ms = NOW_MS + MS_PER_HOUR + step_ms
        found = {
            metric: points(history, metric, from_ms, to_ms, (to_ms - from_ms) // step_ms + 1)
            for metric in (Metric.TICKS_ACCEPTED_PER_S, Metric.BACKLOG_TICKS, Metric.FREE_BYTES)
        }
        times = [at_ms for at_ms, _ in found[Metric.BACKLOG_TICKS]]
        assert times == list(range(NOW_MS, NOW_MS + MS_PER_HOUR + 1, step_ms))
        # The newest is made again each minute until it is complete.
        assert {value for _, value in found[Metric.TICKS_ACCEPTED_PER_S][:-1]} == {0.5}
        assert {value for _, value in found[Metric.BACKLOG_TICKS]} == {9}
        assert {value for _, value in found[Metric.FREE_BYTES]} == {3}


def test_a_picture_gets_no_more_points_than_it_asked_for(history: History) -> None:
    write_regularly(history, NOW_MS, NOW_MS + MS_PER_HOUR)
    for max_points in (2, 7, 50, 333):
        for from_ms in (NOW_MS, NOW_MS + 1_234, NOW_MS - DAY_MS, NOW_MS - 60 * DAY_MS):
            found = points(history, Metric.TICKS_ACCEPTED_PER_S, from_ms, NOW_MS + MS_PER_HOUR, max_points)
            assert 1 <= len(found) <= max_points


def test_a_point_of_many_samples_shows_the_spike_among_them(history: History) -> None:
    for step in range(720):
        history.write(NOW_MS + step * SAMPLE_MS, [backlog(500 if step == 400 else 1)])
    found = points(history, Metric.BACKLOG_TICKS, NOW_MS, NOW_MS + MS_PER_HOUR, 10)
    assert max(value for _, value in found) == 500


def test_each_length_is_kept_for_its_time_and_no_longer(history: History) -> None:
    for at_ms in range(NOW_MS - 100 * DAY_MS, NOW_MS, 6 * MS_PER_HOUR):
        history.write(at_ms, [rate(1)])
    write_regularly(history, NOW_MS, NOW_MS + 2 * MS_PER_MINUTE)
    oldest = {
        every_ms: history.db.conn.execute(
            "SELECT min(time_ms) FROM samples WHERE every_ms = ?", (every_ms,)
        ).fetchone()[0]
        for every_ms in KEPT_MS
    }
    for every_ms, oldest_ms in oldest.items():
        assert 0 <= oldest_ms - (NOW_MS + MS_PER_MINUTE - KEPT_MS[every_ms]) <= 6 * MS_PER_HOUR
    assert stored(history, MS_PER_HOUR) < 90 * 4 + 10


def test_a_controller_that_was_away_thins_out_what_it_left_behind(home: Home) -> None:
    before = History.open(home)
    write_regularly(before, NOW_MS, NOW_MS + MS_PER_MINUTE + 30_000)  # killed in the middle of a minute
    before.close()
    after = History.open(home)
    write_regularly(after, NOW_MS + MS_PER_HOUR, NOW_MS + MS_PER_HOUR + 2 * MS_PER_MINUTE)
    minutes = points(after, Metric.BACKLOG_TICKS, NOW_MS - DAY_MS, NOW_MS + 2 * MS_PER_HOUR, 26 * 60 + 1)
    assert [at_ms - NOW_MS for at_ms, _ in minutes] == [0, MS_PER_MINUTE, MS_PER_HOUR, MS_PER_HOUR + MS_PER_MINUTE]
    assert {value for _, value in minutes} == {9}
    after.close()


def test_what_was_not_measured_for_longest_gives_way(history: History) -> None:
    def process(number: int) -> Reading:
        return Reading(Subject(Kind.TASKMANAGER, f"tm-{number:03}"), Metric.HEAP_USED_BYTES, 1)

    history.write(NOW_MS, [free(1)])
    for number in range(MAX_SERIES + 20):
        history.write(NOW_MS + number, [process(number)])
    history.write(NOW_MS + MS_PER_MINUTE, [free(1)])
    kept = history.lines(Metric.HEAP_USED_BYTES, NOW_MS, NOW_MS + MS_PER_MINUTE, 100)
    assert len(kept) == MAX_SERIES - 1
    assert min(subject.name for subject in kept) == "tm-021"
    assert stored(history, SAMPLE_MS) == MAX_SERIES - 1 + 2
    assert DISK in history.lines(Metric.FREE_BYTES, NOW_MS, NOW_MS + MS_PER_MINUTE, 100)


def test_failures_are_kept_once_and_bounded(history: History) -> None:
    def failure(number: int) -> Failure:
        return Failure("bars", "a" * 32, JobFailure(NOW_MS + number, "fold (1/1)", f"ValueError: {number}"))

    for _ in range(2):  # Flink tells the same ones again and again
        history.write(NOW_MS, [], [failure(1), failure(2)])
    assert history.failures(10) == [failure(2), failure(1)]
    history.write(NOW_MS + MS_PER_MINUTE, [], [failure(number) for number in range(3, MAX_FAILURES + 10)])
    assert len(history.failures(10_000)) == MAX_FAILURES
    assert history.failures(1) == [failure(MAX_FAILURES + 9)]


def test_a_reading_this_version_does_not_know_is_passed_over(history: History) -> None:
    history.write(NOW_MS, [rate(1)])
    history.db.conn.execute("UPDATE series SET metric = 'something_newer'")
    assert history.latest(NOW_MS) == []
