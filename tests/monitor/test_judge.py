"""What is seen, held against the rules: case by case."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from control.monitor.jobs import WatchedJob
from control.monitor.judge import Finding, KeyExpiry, Seen, judge
from control.monitor.metrics import Kind, Metric, Reading, Subject
from control.monitor.rules import DEFAULTS, Rule, Trouble
from feed.connection.state import ConnectionState, Phase
from tests.monitor.readings import APP, BARS, DISK, MARKET, NOW_MS

DAY_MS = 86_400_000
JOB = WatchedJob("bars", True, "RUNNING", "The job is running.")
KAFKA_PROBLEM = "Kafka does not answer; 70 ticks wait in the local log."
STOPPED = WatchedJob("bars", False, "STOPPED", "The job is stopped.")


def seen(*readings: Reading, jobs: Sequence[WatchedJob] = (), **rest: object) -> Seen:
    return Seen(NOW_MS, readings, jobs=jobs, **rest)  # type: ignore[arg-type]


def idle(seconds: float, **rest: object) -> Seen:
    return seen(Reading(MARKET, Metric.IDLE_S, seconds), **rest)  # type: ignore[arg-type]


def checkpoint_age(seconds: float) -> Seen:
    return seen(Reading(BARS, Metric.CHECKPOINT_AGE_S, seconds), jobs=[JOB])


def recently(metric: Metric, subject: Subject, *values: float, jobs: Sequence[WatchedJob] = ()) -> Seen:
    return seen(recent={metric: {subject: values}}, jobs=jobs)


def free(gigabytes: float) -> Seen:
    return seen(Reading(DISK, Metric.FREE_BYTES, gigabytes * 1e9))


def key(days: float) -> Seen:
    return seen(keys=[KeyExpiry("main", NOW_MS + round(days * DAY_MS))])


def feed(phase: Phase, gap: str = "", **rest: object) -> Seen:
    state = ConnectionState(phase, "The key was refused.", NOW_MS, gap=gap)
    return seen(feeds={"b": state}, **rest)  # type: ignore[arg-type]


# What was seen, what it is about, and whether that is bad: None for neither bad nor well.
CASES: Mapping[Trouble, Mapping[str, tuple[Seen, str, bool | None]]] = {
    Trouble.NO_DATA: {
        "ticks flow": (idle(2), "source:market", False),
        "ticks are slow": (idle(25), "source:market", None),
        "no ticks": (idle(31), "source:market", True),
    },
    Trouble.NO_CHECKPOINT: {
        "lately": (checkpoint_age(60), "job:bars", False),
        "a while ago": (checkpoint_age(290), "job:bars", None),
        "too long ago": (checkpoint_age(301), "job:bars", True),
        "nobody knows": (seen(jobs=[JOB]), "job:bars", None),
    },
    Trouble.JOB_STATE: {
        "runs": (seen(jobs=[JOB]), "job:bars", False),
        "waits": (seen(jobs=[replace(JOB, state="CREATED")]), "job:bars", True),
        "nobody knows": (seen(jobs=[replace(JOB, state="UNKNOWN")]), "job:bars", True),
        "is stopped and should be": (seen(jobs=[STOPPED]), "job:bars", False),
        "runs and should not": (seen(jobs=[replace(STOPPED, state="RUNNING")]), "job:bars", True),
    },
    Trouble.JOB_RESTARTS: {
        "none": (recently(Metric.RESTARTS, BARS, 4, 4, 4, jobs=[JOB]), "job:bars", False),
        "two": (recently(Metric.RESTARTS, BARS, 0, 1, 2, jobs=[JOB]), "job:bars", False),
        "three": (recently(Metric.RESTARTS, BARS, 0, 1, 3, jobs=[JOB]), "job:bars", True),
        "counted anew in a new run": (recently(Metric.RESTARTS, BARS, 2, 0, 1, jobs=[JOB]), "job:bars", False),
        "run after run": (recently(Metric.RUN_STARTED_S, BARS, 10, 10, 20, 30, 40, jobs=[JOB]), "job:bars", True),
    },
    Trouble.REJECTS: {
        "few": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, 0, 1), "source:market", False),
        "a burst": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, 0, 0, 12), "source:market", False),
        "nearly many": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, *[5, 4] * 6), "source:market", None),
        "many": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, *[9, 2] * 6), "source:market", True),
        "many late ticks": (recently(Metric.TICKS_LATE_PER_S, BARS, *[9] * 12), "job:bars", True),
        "many in the first moment": (recently(Metric.TICKS_REJECTED_PER_S, MARKET, 30), "source:market", False),
    },
    Trouble.DISK_LOW: {
        "plenty": (free(50), "disk", False),
        "little": (free(2.3), "disk", None),
        "too little": (free(1.9), "disk", True),
    },
    Trouble.PROCESS_DOWN: {
        "up": (seen(Reading(APP, Metric.UP, 1)), "process:app", False),
        "down": (seen(Reading(APP, Metric.UP, 0)), "process:app", True),
    },
    Trouble.PROCESS_RESTARTS: {
        "started once": (recently(Metric.STARTED_S, APP, 10, 10, 10), "process:app", False),
        "started again and again": (recently(Metric.STARTED_S, APP, 10, 20, 30, 40), "process:app", True),
    },
    Trouble.KEY_EXPIRES: {
        "far away": (key(20), "key:main", False),
        "near": (key(13), "key:main", True),
        "over": (key(-1), "key:main", True),
    },
    Trouble.KAFKA_AWAY: {
        "not used, or all well": (seen(kafka_problem=""), "kafka", False),
        "away": (seen(kafka_problem=KAFKA_PROBLEM), "kafka", True),
    },
    Trouble.FEED_DOWN: {
        "delivers": (feed(Phase.RECEIVING), "feed:b", False),
        "comes back by itself": (feed(Phase.WAITING), "feed:b", False),
        "is tried again": (feed(Phase.CONNECTING), "feed:b", None),
        "is refused": (feed(Phase.REFUSED), "feed:b", True),
        "answers otherwise than described": (feed(Phase.BROKEN), "feed:b", True),
        "failed too often": (feed(Phase.RESTING), "feed:b", True),
    },
    Trouble.DAMAGE: {
        "all can be read": (seen(damage={"ticks": ""}), "store:ticks", False),
        "a block is damaged": (seen(damage={"ticks": "9 ticks are damaged."}), "store:ticks", True),
    },
    Trouble.FEED_GAPS: {
        "all joins": (feed(Phase.RECEIVING), "feed:b", False),
        "does not join": (feed(Phase.RECEIVING, gap="Rows of A may be missing."), "feed:b", True),
    },
}


def found(what: Seen, trouble: Trouble, subject: str) -> Finding:
    (finding,) = [one for one in judge(what, DEFAULTS) if (one.trouble, one.subject) == (trouble, subject)]
    return finding


@pytest.mark.parametrize(("trouble", "case"), [(trouble, case) for trouble in CASES for case in CASES[trouble]])
def test_every_rule(trouble: Trouble, case: str) -> None:
    what, subject, bad = CASES[trouble][case]
    finding = found(what, trouble, subject)
    assert finding.bad is bad
    assert finding.sentence.endswith(".")


def test_every_trouble_has_its_cases_a_rule_and_words() -> None:
    assert set(CASES) == set(Trouble) == set(DEFAULTS)
    assert all(trouble.words and trouble.unit for trouble in Trouble)


def test_a_source_that_says_why_is_quoted() -> None:
    problem = "The market refused the key."
    sentence = found(idle(40, problems={"market": problem}), Trouble.NO_DATA, "source:market").sentence
    assert sentence == "No new ticks from market for 30 s: The market refused the key."


def test_a_rule_that_is_switched_off_finds_nothing() -> None:
    rules = {**DEFAULTS, Trouble.NO_DATA: Rule(enabled=False, threshold=1)}
    assert judge(idle(99), rules) == []


def test_thresholds_are_what_the_rules_say() -> None:
    rules = {Trouble.NO_DATA: Rule(threshold=600)}
    (finding,) = judge(idle(99), rules)
    assert finding.bad is False
    assert "for 600 s" in finding.sentence


def test_a_job_that_should_not_run_needs_no_checkpoint() -> None:
    assert not [one for one in judge(seen(jobs=[STOPPED]), DEFAULTS) if one.trouble is Trouble.NO_CHECKPOINT]


def test_a_home_with_nothing_in_it_has_no_trouble() -> None:
    assert judge(seen(), DEFAULTS) == []


def test_a_feed_that_needs_somebody_is_named_with_its_sentence() -> None:
    sentence = found(feed(Phase.REFUSED), Trouble.FEED_DOWN, "feed:b").sentence
    assert sentence == "The feed b delivers nothing (refused): The key was refused."


def test_a_feed_of_which_nothing_is_wanted_is_not_missed() -> None:
    idle_s = Reading(Subject(Kind.SOURCE, "b"), Metric.IDLE_S, 90)
    resting = Seen(NOW_MS, [idle_s], feeds={"b": ConnectionState(Phase.IDLE, "Nothing is picked.", NOW_MS)})
    assert [one for one in judge(resting, DEFAULTS) if one.trouble is Trouble.NO_DATA] == []


def test_what_a_job_did_before_it_was_stopped_is_over() -> None:
    recent = {Metric.RESTARTS: {BARS: [0.0, 5.0]}, Metric.TICKS_LATE_PER_S: {BARS: [90.0] * 12}}
    running = seen(recent=recent, jobs=[JOB])
    stopped = seen(recent=recent, jobs=[STOPPED], at_rest={"bars": "The job bars was stopped by ada."})
    about = (Trouble.JOB_RESTARTS, Trouble.REJECTS)
    assert {one.trouble for one in judge(running, DEFAULTS) if one.bad} == {*about}
    assert [one for one in judge(stopped, DEFAULTS) if one.trouble in about] == []
