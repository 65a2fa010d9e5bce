from dataclasses import replace

import pytest

from control.freshness.flow import Flow
from control.freshness.judge import Level, feed_state, freshness, job_state, worst
from tests.support.flows import NOW_MS, flow, progress, source
from views.readings import rates, ticks_per_s, with_reading

CASES = {
    "all well": (flow(), Level.LIVE, "Live, newest tick 0.4 s ago."),
    "a quiet market": (flow(job=progress(tick_age_ms=90_000)), Level.LIVE, "Live, newest tick 90 s ago."),
    "nothing yet": (Flow(NOW_MS), Level.WAITING, "No prices have arrived yet."),
    "ticks but no job": (
        Flow(NOW_MS, (source(),), (), 8),
        Level.WAITING,
        "7 ticks have arrived; the bars job is starting.",
    ),
    "a problem at the source": (
        flow(source(problem="The market rejected the key.")),
        Level.STOPPED,
        "No new prices: The market rejected the key.",
    ),
    "a silent feed": (
        flow(source(silent_ms=4_000)),
        Level.STOPPED,
        "The feed has been silent for 4.0 s. It is restarted automatically. See ./barmill status.",
    ),
    "Kafka is away": (
        replace(flow(), kafka_problem="Kafka does not respond; 70 ticks wait in the local log."),
        Level.STOPPED,
        "Prices arrive but do not reach the jobs: Kafka does not respond; 70 ticks wait in the local log.",
    ),
    "a quiet exchange, well connected": (
        replace(flow(source("b", silent_ms=60_000)), healthy_feeds=frozenset({"b"})),
        Level.LIVE,
        "Live, newest tick 0.4 s ago.",
    ),
    "a silent job": (
        flow(job=progress(silent_ms=2_500)),
        Level.STOPPED,
        "The job bars has been silent for 2.5 s. See ./barmill status.",
    ),
    "a job far behind": (
        flow(job=progress(next_sequence=1, tick_age_ms=60_000), end_sequence=2_001),
        Level.CATCHING_UP,
        "The bars are catching up: 2,000 ticks left.",
    ),
    "a job a moment behind": (flow(end_sequence=1_051), Level.LIVE, "Live, newest tick 0.4 s ago."),
    "an ended source": (
        flow(source("replay", silent_ms=900_000, ended=True)),
        Level.ENDED,
        "The source replay has ended; these are all its bars.",
    ),
    "an ended source, bars to come": (
        flow(source("replay", silent_ms=900_000, ended=True), end_sequence=1_003),
        Level.CATCHING_UP,
        "The bars are catching up: 2 ticks left.",
    ),
    "an earlier source ended": (
        flow(source("replay", silent_ms=0, ended=True), source(silent_ms=100)),
        Level.LIVE,
        "Live, newest tick 0.4 s ago.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_freshness(case: str) -> None:
    seen, level, sentence = CASES[case]
    judged = freshness(seen)
    assert (judged.level, judged.sentence) == (level, sentence)
    assert judged.stale == (level is Level.STOPPED)


BESIDE = replace(source("b"), prefix="b:")


def test_only_demo_markets_are_simulated() -> None:
    assert flow(source("market")).simulated
    assert not flow(source("replay")).simulated
    assert not Flow(NOW_MS).simulated
    both = flow(source("market"), BESIDE)
    assert both.for_instrument("AAA").simulated
    assert not both.for_instrument("b:AAA").simulated
    assert replace(both, markets=frozenset({"market", "b"})).for_instrument("b:AAA").simulated


def test_an_instrument_is_judged_by_its_own_source_alone() -> None:
    refused = replace(BESIDE, problem="The key was refused.")
    seen = flow(source("market"), refused)
    assert freshness(seen.for_instrument("AAA")).level is Level.LIVE
    assert freshness(seen.for_instrument("b:AAA")) == worst(
        freshness(seen.for_instrument(name)) for name in ["AAA", "b:AAA"]
    )
    assert freshness(seen.for_instrument("b:AAA")).sentence == "No new prices: The key was refused."
    lost = replace(seen, sources=(seen.sources[0], replace(BESIDE, updated_ms=NOW_MS - 60_000)))
    lost = replace(lost, connection_problems={"b": "Its exchange cannot be reached."})
    assert freshness(lost.for_instrument("b:AAA")).sentence == "No new prices: Its exchange cannot be reached."
    quiet = replace(BESIDE, updated_ms=NOW_MS - 60_000)
    for connected, level in ((frozenset({"b"}), Level.LIVE), (frozenset({"c"}), Level.STOPPED)):
        assert (
            freshness(replace(flow(source("market"), quiet), healthy_feeds=connected).for_instrument("b:AAA")).level
            is level
        )


def reading(after_ms: int, ticks: int) -> Flow:
    return flow(read_ms=NOW_MS + after_ms, end_sequence=ticks + 1)


def test_the_rate_is_taken_over_the_last_five_seconds() -> None:
    readings = [reading(0, 0), reading(1_000, 900), reading(2_000, 1_000), reading(6_000, 1_400)]
    assert ticks_per_s(readings) == (1_400 - 900) / 5


def test_a_single_reading_has_no_rate() -> None:
    assert ticks_per_s([reading(0, 0)]) is None
    assert rates([reading(0, 0)]) == []


def test_a_rate_after_a_pause_is_taken_over_the_pause() -> None:
    assert ticks_per_s([reading(0, 0), reading(60_000, 600)]) == 10


def test_rates_begin_with_the_second_reading() -> None:
    assert rates([reading(0, 0), reading(1_000, 50), reading(2_000, 150)]) == [50, 75]


def test_old_readings_are_forgotten() -> None:
    old, newer, newest = reading(0, 0), reading(30_000, 5), reading(61_000, 9)
    assert with_reading((old, newer), newest, keep_ms=60_000) == (newer, newest)


def test_a_log_that_starts_again_starts_the_readings_again() -> None:
    assert with_reading((reading(0, 500),), reading(1_000, 3), keep_ms=60_000) == (reading(1_000, 3),)


@pytest.mark.parametrize(
    ("reading", "feed", "job"),
    [
        (flow(), "running", "running"),
        (Flow(NOW_MS), "not yet started", "not yet started"),
        (flow(source(silent_ms=4_000)), "silent", "running"),
        (flow(source(problem="The market rejected the key.")), "failing", "running"),
        (flow(job=progress(silent_ms=2_500)), "running", "silent"),
        (flow(source("replay", silent_ms=900_000, ended=True)), "ended", "running"),
        (flow(source(silent_ms=9_000, ended=True), job=progress(silent_ms=9_000)), "ended", "ended"),
        (flow(source(ended=True), job=progress(silent_ms=9_000, next_sequence=5)), "ended", "silent"),
    ],
)
def test_feed_and_job_each_have_a_word_of_their_own(reading: Flow, feed: str, job: str) -> None:
    assert (feed_state(reading), job_state(reading)) == (feed, job)
