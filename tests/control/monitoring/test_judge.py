"""What is seen, held against the rules: case by case."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from barmill.ingest.connection.state import ConnectionState, Phase
from control.monitoring.judge import Finding, KeyExpiry, Observations, judge
from control.monitoring.metrics import Kind, Metric, Reading, Subject
from control.monitoring.outages import WatchedJob
from control.monitoring.rules import DEFAULTS, AlertKind, Rule
from tests.support.readings import APP, BARS, DISK, MARKET, NOW_MS

DAY_MS = 86_400_000
JOB = WatchedJob("bars", True, "RUNNING", "The job is running.")
KAFKA_PROBLEM = "Kafka does not respond; 70 ticks wait in the local log."
STOPPED = WatchedJob("bars", False, "STOPPED", "The job is stopped.")


def seen(*readings: Reading, jobs: Sequence[WatchedJob] = (), **rest: object) -> Observations:
    return Observations(NOW_MS, readings, jobs=jobs, **rest)  # type: ignore[arg-type]


def idle(seconds: float, **rest: object) -> Observations:
    return seen(Reading(MARKET, Metric.IDLE_S, seconds), **rest)  # type: ignore[arg-type]


def checkpoint_age(seconds: float) -> Observations:
    return seen(Reading(BARS, Metric.CHECKPOINT_AGE_S, seconds), jobs=[JOB])


def recently(metric: Metric, subject: Subject, *values: float, jobs: Sequence[WatchedJob] = ()) -> Observations:
    return seen(recent={metric: {subject: values}}, jobs=jobs)


def free(gigabytes: float) -> Observations:
    return seen(Reading(DISK, Metric.FREE_BYTES, gigabytes * 1e9))


def key(days: float) -> Observations:
    return seen(keys=[KeyExpiry("main", NOW_MS + round(days * DAY_MS))])


def feed(phase: Phase, gap: str = "", **rest: object) -> Observations:
    state = ConnectionState(phase, "The key was refused.", NOW_MS, gap=gap)
    return seen(feeds={"b": state}, **rest)  # type: ignore[arg-type]


# What was seen, what it is about, and whether that is bad: None for neither bad nor well.
CASES: Mapping[AlertKind, Mapping[str, tuple[Observations, str, bool | None]]] = {
    AlertKind.NO_DATA: {
        "ticks flow": (idle(2), "source:market", False),
        "ticks are slow": (idle(25), "source:market", None),
        "no ticks": (idle(31), "source:market", True),
    },
    AlertKind.NO_CHECKPOINT: {
        "lately": (checkpoint_age(60), "job:bars", False),
        "a while ago": (checkpoint_age(290), "job:bars", None),
        "too long ago": (checkpoint_age(301), "job:bars", True),
        "unknown": (seen(jobs=[JOB]), "job:bars", None),
    },
    AlertKind.JOB_STATE: {
        "runs": (seen(jobs=[JOB]), "job:bars", False),
        "waits": (seen(jobs=[replace(JOB, state="CREATED")]), "job:bars", True),
        "unknown": (seen(jobs=[replace(JOB, state="UNKNOWN")]), "job:bars", True),
        "is stopped and should be": (seen(jobs=[STOPPED]), "job:bars", False),
        "runs and should not": (seen(jobs=[replace(STOPPED, state="RUNNING")]), "job:bars", True),
    },
    AlertKind.JOB_RESTARTS: {
        "none": (recently(Metric.RESTARTS, BARS, 4, 4, 4, jobs=[JOB]), "job:bars", False),
        "two": (recently(Metric.RESTARTS, BARS, 0, 1, 2, jobs=[JOB]), "job:bars", False),
        "three": (recently(Metric.RESTARTS, BARS, 0, 1, 3, jobs=[JOB]), "job:bars", True),
        "counted from zero in a new run": (recently(Metric.RESTARTS, BARS, 2, 0, 1, jobs=[JOB]), "job:bars", False),
        "run after run": (recently(Metric.RUN_STARTED_S, BARS, 10, 10, 20, 30, 40, jobs=[JOB]), "job:bars", True),
    },
    AlertKind.REJECTS: {
        "few": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, 0, 1), "source:market", False),
        "a burst": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, 0, 0, 12), "source:market", False),
        "nearly many": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, *[5, 4] * 6), "source:market", None),
        "many": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, *[9, 2] * 6), "source:market", True),
        "many late ticks": (recently(Metric.TICKS_LATE_PER_S, BARS, *[9] * 12), "job:bars", True),
        "many in the first moment": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, 30), "source:market", False),
    },
    AlertKind.DISK_LOW: {
        "plenty": (free(50), "disk", False),
        "little": (free(2.3), "disk", None),
        "too little": (free(1.9), "disk", True),
    },
    AlertKind.PROCESS_DOWN: {
        "up": (seen(Reading(APP, Metric.UP, 1)), "process:app", False),
        "down": (seen(Reading(APP, Metric.UP, 0)), "process:app", True),
    },
    AlertKind.PROCESS_RESTARTS: {
        "started once": (recently(Metric.STARTED_S, APP, 10, 10, 10), "process:app", False),
        "started again and again": (recently(Metric.STARTED_S, APP, 10, 20, 30, 40), "process:app", True),
    },
    AlertKind.KEY_EXPIRES: {
        "far away": (key(20), "key:main", False),
        "near": (key(13), "key:main", True),
        "over": (key(-1), "key:main", True),
    },
    AlertKind.KAFKA_AWAY: {
        "not used, or all well": (seen(kafka_problem=""), "kafka", False),
        "away": (seen(kafka_problem=KAFKA_PROBLEM), "kafka", True),
    },
    AlertKind.FEED_DOWN: {
        "delivers": (feed(Phase.RECEIVING), "feed:b", False),
        "recovers automatically": (feed(Phase.WAITING), "feed:b", False),
        "is tried again": (feed(Phase.CONNECTING), "feed:b", None),
        "is refused": (feed(Phase.REFUSED), "feed:b", True),
        "answers otherwise than described": (feed(Phase.BROKEN), "feed:b", True),
        "failed too often": (feed(Phase.RESTING), "feed:b", True),
    },
    AlertKind.DAMAGE: {
        "all can be read": (seen(damage={"ticks": ""}), "store:ticks", False),
        "a block is damaged": (seen(damage={"ticks": "9 ticks are damaged."}), "store:ticks", True),
    },
    AlertKind.FEED_GAPS: {
        "all joins": (feed(Phase.RECEIVING), "feed:b", False),
        "does not join": (feed(Phase.RECEIVING, gap="Rows of A may be missing."), "feed:b", True),
    },
}


def found(what: Observations, trouble: AlertKind, subject: str) -> Finding:
    (finding,) = [
        judged for judged in judge(what, DEFAULTS) if (judged.alert_kind, judged.subject) == (trouble, subject)
    ]
    return finding


@pytest.mark.parametrize(("trouble", "case"), [(trouble, case) for trouble in CASES for case in CASES[trouble]])
def test_every_rule(trouble: AlertKind, case: str) -> None:
    what, subject, bad = CASES[trouble][case]
    finding = found(what, trouble, subject)
    assert finding.bad is bad
    assert finding.sentence.endswith(".")


def test_every_trouble_has_its_cases_a_rule_and_words() -> None:
    assert set(CASES) == set(AlertKind) == set(DEFAULTS)
    assert all(trouble.label and trouble.unit for trouble in AlertKind)


def test_a_source_that_says_why_is_quoted() -> None:
    problem = "The market rejected the key."
    sentence = found(idle(40, problems={"market": problem}), AlertKind.NO_DATA, "source:market").sentence
    assert sentence == "No new ticks from market for 30 s: The market rejected the key."


def test_a_rule_that_is_switched_off_finds_nothing() -> None:
    rules = {**DEFAULTS, AlertKind.NO_DATA: Rule(enabled=False, threshold=1)}
    assert judge(idle(99), rules) == []


def test_thresholds_are_what_the_rules_say() -> None:
    rules = {AlertKind.NO_DATA: Rule(threshold=600)}
    (finding,) = judge(idle(99), rules)
    assert finding.bad is False
    assert "for 600 s" in finding.sentence


def test_a_job_that_should_not_run_needs_no_checkpoint() -> None:
    assert not [
        finding for finding in judge(seen(jobs=[STOPPED]), DEFAULTS) if finding.alert_kind is AlertKind.NO_CHECKPOINT
    ]


def test_a_home_with_nothing_in_it_has_no_trouble() -> None:
    assert judge(seen(), DEFAULTS) == []


def test_a_feed_that_needs_somebody_is_named_with_its_sentence() -> None:
    sentence = found(feed(Phase.REFUSED), AlertKind.FEED_DOWN, "feed:b").sentence
    assert sentence == "The feed b delivers nothing (refused): The key was refused."


def test_a_feed_of_which_nothing_is_wanted_is_not_missed() -> None:
    idle_s = Reading(Subject(Kind.SOURCE, "b"), Metric.IDLE_S, 90)
    resting = Observations(NOW_MS, [idle_s], feeds={"b": ConnectionState(Phase.IDLE, "Nothing is picked.", NOW_MS)})
    assert [finding for finding in judge(resting, DEFAULTS) if finding.alert_kind is AlertKind.NO_DATA] == []


def test_what_a_job_did_before_it_was_stopped_is_over() -> None:
    recent = {Metric.RESTARTS: {BARS: [0.0, 5.0]}, Metric.TICKS_LATE_PER_S: {BARS: [90.0] * 12}}
    running = seen(recent=recent, jobs=[JOB])
    stopped = seen(recent=recent, jobs=[STOPPED], not_running={"bars": "The job bars was stopped by ada."})
    about = (AlertKind.JOB_RESTARTS, AlertKind.REJECTS)
    assert {finding.alert_kind for finding in judge(running, DEFAULTS) if finding.bad} == {*about}
    assert [finding for finding in judge(stopped, DEFAULTS) if finding.alert_kind in about] == []
