from control.flink.metrics import plain_name
from control.flink.model import JobFailure
from control.monitoring.metrics import COUNTERS, RATES, Kind, Metric, Rates, Reading, Subject
from tests.support.readings import APP, BARS, FOLD, MARKET


def read(value: float, subject: Subject = BARS) -> Reading:
    return Reading(subject, Metric.TICKS_READ, value)


def test_every_metric_is_there_once_and_says_what_it_is() -> None:
    assert len({metric.value for metric in Metric}) == len(Metric.__members__)
    assert len({metric.help_text for metric in Metric}) == len(Metric)
    assert all(counter.kind is rate.kind and rate not in COUNTERS for counter, rate in RATES.items())


def test_a_subject_comes_back_from_its_text() -> None:
    for subject in (MARKET, BARS, FOLD, APP, Subject(Kind.CLUSTER), Subject(Kind.SOURCE, "a:b/c")):
        assert Subject.parse(str(subject)) == subject


def test_rates_are_taken_from_look_to_look() -> None:
    rates = Rates()
    assert rates.of([read(100)], 1_000) == []
    assert rates.of([read(350)], 6_000) == [Reading(BARS, Metric.TICKS_READ_PER_S, 50)]
    assert rates.of([read(350)], 11_000) == [Reading(BARS, Metric.TICKS_READ_PER_S, 0)]


def test_a_counter_that_starts_again_has_no_rate_until_the_next_look() -> None:
    rates = Rates()
    rates.of([read(1_000)], 0)
    assert rates.of([read(10)], 5_000) == []
    assert rates.of([read(60)], 10_000) == [Reading(BARS, Metric.TICKS_READ_PER_S, 10)]


def test_a_counter_that_was_away_has_no_rate_over_its_absence() -> None:
    rates = Rates()
    rates.of([read(0), read(5, FOLD)], 0)
    assert rates.of([read(5)], 5_000) == [Reading(BARS, Metric.TICKS_READ_PER_S, 1)]
    assert [reading.subject for reading in rates.of([read(10), read(500, FOLD)], 10_000)] == [BARS]


def test_the_cause_of_a_failure_is_the_last_line_that_is_no_place_in_a_program() -> None:
    def cause(trace: str) -> str:
        return JobFailure(0, "", trace).cause

    assert cause("a.Lost: the TaskManager is gone\n\tat x.Y(Y.java:1)\n") == "a.Lost: the TaskManager is gone"
    assert (
        cause("a.Outer\n\tat x.Y(Y.java:1)\nCaused by: b.Inner: no\n\tat job.f(job.py:3)\n\t... 3 more\n")
        == "b.Inner: no"
    )
    assert (
        cause('Traceback (most recent call last):\n  File "x", line 1\n    go()\nValueError: no\n') == "ValueError: no"
    )
    assert cause("") == ""


def test_the_cluster_names_operators_as_the_job_did() -> None:
    assert plain_name("KEYED PROCESS, _stream_key_by_map_operator") == "KEYED PROCESS"
    assert plain_name("Source: numbers[12] -> Map[3]") == "Source: numbers -> Map"
