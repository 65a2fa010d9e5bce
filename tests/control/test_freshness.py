"""Is what is shown up to date? Judged by the job and the feed that make exactly that."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.audit.roles import Actor
from barmill.ingest.feeds.changes import enable
from barmill.ingest.feeds.feed import Feeds
from barmill.model.frames import Frame, parse_frame, parse_frames
from barmill.model.job_spec import BarsJobSpec
from barmill.model.progress import shard_of
from barmill.platform.home import Home
from barmill.storage.bar_store import Progress
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.freshness.flow import SILENT_AFTER_MS, BarJob, Flow, Intent, UserOperation, silent_after_ms
from control.freshness.judge import (
    Freshness,
    Level,
    ShownFrame,
    feed_state,
    freshness,
    job_state,
    stopped_by_feed,
    unfed_reason,
    worst,
)
from control.freshness.reading import bar_freshness, offered_frames, read_flow, unfed_frames
from control.jobs.model import Kind, State
from tests.support.flows import NOW_MS, progress, source
from tests.support.stopped_jobs import AAA, BY, seconds_stopped

SECOND, FIVE, MINUTE, FIVE_MINUTES = map(parse_frame, ("1s", "5s", "1m", "5m"))
STOP = UserOperation(Kind.STOP, "ada", NOW_MS - 60_000)


def maker(name: str, frames: str, intent: Intent = Intent.RUN, **more: object) -> BarJob:
    state = State.RUNNING if intent is Intent.RUN else State.STOPPED
    return replace(BarJob(name, parse_frames(frames), intent, state, "The job is running."), **more)  # type: ignore[arg-type]


def wrote(name: str, frames: str, silent_ms: int = 100, **more: object) -> Progress:
    return replace(progress(silent_ms=silent_ms), job=name, frames=frames, **more)  # type: ignore[arg-type]


def two(first: BarJob, *, silent_ms: int = 60_000, long: BarJob | None = None) -> Flow:
    """Return a flow in which the job of seconds is as said, and one of minutes runs."""
    minutes = long or maker("long", "1m,1h")
    rows = (wrote(first.name, "1s,1m", silent_ms), wrote("long", "1m,1h"))
    return Flow(NOW_MS, (source(),), rows, 1_001, jobs=(first, minutes))


@pytest.mark.parametrize(
    ("sink", "silent_ms", "level"),
    [
        ("sqlite", 1_800, Level.LIVE),
        ("sqlite", 3_000, Level.STOPPED),
        ("both", 3_000, Level.STOPPED),
        ("kafka", 3_000, Level.LIVE),
        ("kafka", 6_800, Level.LIVE),
        ("kafka", 6_801, Level.STOPPED),
    ],
)
def test_progress_from_kafka_may_be_as_old_as_its_commits_are_apart(sink: str, silent_ms: int, level: Level) -> None:
    fields = {
        "ticks_db": "t",
        "bars_db": "b",
        "kafka": {"bootstrap": "localhost:9092"},
        "sink": sink,
        "commit_ms": 1_000,
    }
    spec = BarsJobSpec.model_validate(fields)
    job = maker("bars", "1s", silent_after_ms=silent_after_ms(spec))
    flow = Flow(NOW_MS, (source(),), (wrote("bars", "1s", silent_ms),), 1_001, jobs=(job,))
    assert freshness(flow, ShownFrame(SECOND)).level is level


STOPPED = two(maker("bars", "1s,1m", Intent.STOP, ended_by=STOP))
CASES: dict[str, tuple[Flow, Frame, Level, str]] = {
    "stopped on purpose": (
        STOPPED,
        SECOND,
        Level.STOPPED,
        "The job bars, which makes 1s bars, was stopped by ada at 2025-11-25 11:59:00 UTC.",
    ),
    "a longer frame that another job makes": (STOPPED, MINUTE, Level.LIVE, "Live, newest tick 0.4 s ago."),
    "rolled up from another job's frame": (STOPPED, FIVE_MINUTES, Level.LIVE, "Live, newest tick 0.4 s ago."),
    "rolled up from the stopped job's frame only": (
        STOPPED,
        FIVE,
        Level.STOPPED,
        "The job bars, which makes 5s bars, was stopped by ada at 2025-11-25 11:59:00 UTC.",
    ),
    "stopped a moment ago, so that it seems to write": (
        two(maker("bars", "1s,1m", Intent.STOP, ended_by=STOP), silent_ms=100),
        SECOND,
        Level.STOPPED,
        "The job bars, which makes 1s bars, was stopped by ada at 2025-11-25 11:59:00 UTC.",
    ),
    "deleted": (
        two(maker("bars", "1s,1m", Intent.DELETED, ended_by=replace(STOP, kind=Kind.DELETE))),
        SECOND,
        Level.STOPPED,
        "The job bars, which makes 1s bars, was deleted by ada at 2025-11-25 11:59:00 UTC.",
    ),
    "never started": (
        two(maker("bars", "1s,1m", Intent.STOP)),
        SECOND,
        Level.STOPPED,
        "The job bars, which makes 1s bars, has not been started; an operator can start it.",
    ),
    "nothing makes it": (
        Flow(NOW_MS, (source(),), (wrote("long", "1m,1h"),), 1_001, jobs=(maker("long", "1m,1h"),)),
        SECOND,
        Level.STOPPED,
        "No job makes 1s bars, or shorter bars to derive them from.",
    ),
    "given up on": (
        two(maker("bars", "1s,1m", state=State.FAILED, sentence="The job failed 5 times.")),
        SECOND,
        Level.STOPPED,
        "The job bars, which makes 1s bars, is not running: The job failed 5 times.",
    ),
    "silent though it should run": (
        two(maker("bars", "1s,1m")),
        SECOND,
        Level.STOPPED,
        "The job bars, which makes 1s bars, has been silent for 60 s. It is restarted automatically."
        " See ./barmill status.",
    ),
    "being restarted": (
        two(maker("bars", "1s,1m", state=State.STOPPING, open_operation=replace(STOP, kind=Kind.RESTART))),
        SECOND,
        Level.LATE,
        "The job bars, which makes 1s bars, is being restarted, as requested by ada at 2025-11-25 11:59:00 UTC.",
    ),
    "starting": (
        two(maker("bars", "1s,1m", state=State.INITIALIZING)),
        SECOND,
        Level.LATE,
        "The job bars, which makes 1s bars, is starting.",
    ),
    "in trouble, though it wrote a moment ago": (
        two(maker("bars", "1s,1m", state=State.RESTARTING, sentence="It restarts."), silent_ms=100),
        SECOND,
        Level.LATE,
        "The job bars, which makes 1s bars, has a problem: It restarts.",
    ),
    "one stopped, one that should run": (
        two(maker("bars", "1s,1m"), long=maker("long", "1m,1h", Intent.STOP, ended_by=STOP)),
        MINUTE,
        Level.STOPPED,
        "The job bars, which makes 1m bars, has been silent for 60 s. It is restarted automatically."
        " See ./barmill status.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_frame_is_judged_by_the_jobs_that_make_it(case: str) -> None:
    flow, frame, level, sentence = CASES[case]
    found = freshness(flow, ShownFrame(frame))
    assert (found.level, found.sentence) == (level, sentence)


def test_who_stopped_it_and_when_can_be_read_by_programs() -> None:
    assert freshness(STOPPED, ShownFrame(SECOND)).as_json() == {
        "state": "stopped",
        "color": "red",
        "sentence": "The job bars, which makes 1s bars, was stopped by ada at 2025-11-25 11:59:00 UTC.",
        "since_ms": STOP.at_ms,
        "by": "ada",
    }


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ("stopped on purpose", "stopped"),
        ("deleted", "deleted"),
        ("given up on", "failed"),
        ("being restarted", "being restarted"),
        ("silent though it should run", "silent"),
        ("nothing makes it", "missing"),
        ("a longer frame that another job makes", "running"),
    ],
)
def test_the_job_of_a_frame_has_a_word_of_its_own(case: str, word: str) -> None:
    flow, frame, *_ = CASES[case]
    assert job_state(flow, frame) == word


def test_bars_that_end_before_the_newest_price_are_late() -> None:
    shown = ShownFrame(MINUTE, NOW_MS - 60_000, NOW_MS - 400)
    found = freshness(STOPPED, shown)
    assert (found.level, found.level.color) == (Level.LATE, "amber")
    assert found.sentence == "These 1m bars end 59 s before the newest price."
    assert freshness(STOPPED, replace(shown, tick_ms=NOW_MS - 400)).level is Level.LIVE


def test_an_instrument_is_quiet_while_its_feed_says_that_it_misses_nothing() -> None:
    quiet = ShownFrame(SECOND, NOW_MS - 3_600_000, NOW_MS - 3_600_000)
    complete = Flow(NOW_MS, (replace(source(), complete_to_ms=NOW_MS - 900),), (progress(),), 1_001)
    assert freshness(complete, quiet).level is Level.LIVE
    behind = replace(complete, sources=(replace(source(), complete_to_ms=NOW_MS - 600_000),))
    found = freshness(behind, quiet)
    assert (found.level, found.since_ms) == (Level.LATE, NOW_MS - 600_000)
    assert found.sentence == "The feed market is behind: no prices from the last 10 min have arrived yet."


@pytest.mark.parametrize("text", ["1d", "1w"])
def test_a_long_frame_is_not_live_while_its_feed_has_missed_hours(text: str) -> None:
    since_ms = NOW_MS - 3 * 3_600_000
    flow = Flow(NOW_MS, (replace(source(), complete_to_ms=since_ms),), (progress(),), 1_001)
    found = freshness(flow, ShownFrame(parse_frame(text), since_ms, since_ms))
    assert (found.level, found.since_ms) == (Level.LATE, since_ms)


def test_a_quiet_instrument_is_live_although_ticks_of_others_have_just_come() -> None:
    quiet = ShownFrame(SECOND, NOW_MS - 3_600_000, NOW_MS - 3_600_000)
    busy = Flow(NOW_MS, (source(),), (progress(),), 1_301)
    assert freshness(busy.for_instrument("AAA"), quiet).level is Level.LIVE
    behind = replace(busy, progress=(progress(tick_age_ms=60_000),))
    assert freshness(behind.for_instrument("AAA"), quiet).level is Level.CATCHING_UP


def test_an_instrument_is_judged_by_its_own_shard() -> None:
    names = [f"N{number}" for number in range(40)]
    rows = tuple(wrote("bars", "1s", silent_ms=100 if shard else 9_000, shard=shard, shards=2) for shard in range(2))
    flow = Flow(NOW_MS, (source(),), rows, 1_001, jobs=(maker("bars", "1s"),))
    levels = {name: freshness(flow.for_instrument(name), ShownFrame(SECOND)).level for name in names}
    assert levels == {name: Level.LIVE if shard_of(name, 2) else Level.STOPPED for name in names}
    assert freshness(flow, ShownFrame(SECOND)).level is Level.STOPPED


def test_shards_of_a_deleted_job_of_the_same_name_do_not_count() -> None:
    left = [wrote("bars", "1s", silent_ms=900_000, shard=shard, shards=4, next_sequence=3) for shard in range(4)]
    flow = Flow(NOW_MS, (source(),), (*left, wrote("bars", "1s")), 1_001, jobs=(maker("bars", "1s"),))
    assert freshness(flow, ShownFrame(SECOND)).level is Level.LIVE


def test_each_instrument_of_the_watchlist_is_judged_by_its_own_feed() -> None:
    refused = replace(source("b", problem="The key was refused."), prefix="b:")
    flow = Flow(NOW_MS, (source(), refused), (progress(),), 1_001)
    assert stopped_by_feed(flow, ["AAA", "b:AAA", "CCC"], SECOND) == [False, True, False]
    assert stopped_by_feed(STOPPED, ["AAA", "CCC"], SECOND) == [False, False]  # what is said above the list is enough


JOBS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["1s", "5s", "15s", "1m", "5m", "1h", "7s"]), min_size=1, max_size=3, unique=True),
        st.sampled_from(Intent),
        st.sampled_from(State),
        st.sampled_from([0, 100, SILENT_AFTER_MS, SILENT_AFTER_MS + 1, 3_600_000, None]),
        st.booleans(),
    ),
    max_size=4,
)
SOURCES = st.lists(
    st.builds(
        source,
        st.sampled_from(["market", "b"]),
        silent_ms=st.sampled_from([100, 60_000]),
        ended=st.booleans(),
        problem=st.sampled_from([None, "The key was refused."]),
    ),
    max_size=2,
    unique_by=lambda source: source.name,
)


@settings(max_examples=300, deadline=None)
@given(JOBS, SOURCES, st.sampled_from(["1s", "5s", "30s", "1m", "5m", "7s", "1h", "1d", "1w"]), st.booleans())
def test_a_frame_is_never_green_while_no_job_or_feed_that_makes_it_runs(
    jobs: Sequence[tuple[list[str], Intent, State, int | None, bool]],
    sources: Sequence[object],
    text: str,
    as_instrument: bool,
) -> None:
    frame, makers, rows, running = parse_frame(text), list[BarJob](), list[Progress](), False
    for number, (frames, intent, state, silent_ms, under_way) in enumerate(jobs):
        asked = STOP if under_way else None
        makers.append(BarJob(f"j{number}", parse_frames(",".join(frames)), intent, state, "As it is.", STOP, asked))
        if silent_ms is not None:
            rows.append(wrote(f"j{number}", ",".join(frames), silent_ms))
        divides = any(parse_frame(frame_name).divides(frame) for frame_name in frames)
        should = intent not in (Intent.STOP, Intent.DELETED)
        does = silent_ms is not None and silent_ms <= SILENT_AFTER_MS and state.value in ("RUNNING", "UNKNOWN")
        running = running or (divides and should and does)
    flow = Flow(NOW_MS, tuple(sources), tuple(rows), 1_001, jobs=tuple(makers))  # type: ignore[arg-type]
    shown = ShownFrame(frame, NOW_MS - 400, NOW_MS - 400)
    found = freshness(flow.for_instrument("AAA") if as_instrument else flow, shown)
    fed = running and any(not candidate.ended and not candidate.problem for candidate in flow.sources)
    assert (found.level.color == "green") <= fed
    assert (unfed_reason(flow, frame) is None) <= running
    assert (job_state(flow, frame) == "running") == running
    if found.level is Level.STOPPED and found.actor:
        assert "restarted" not in found.sentence


def test_a_feed_that_a_person_disabled_says_so_and_has_not_just_ended(home: Home) -> None:
    stores = seconds_stopped(home)
    with closing(TickLog.open(home.ticks_db)) as log, Feeds.open(home) as feeds:
        enable(feeds, Actor(BY), "market", enabled=False)
        log.end_source("market")
        off = read_flow(home)
        enable(feeds, Actor(BY), "market", enabled=True)
        on = read_flow(home)
    stores.close()
    found = freshness(off, ShownFrame(MINUTE))
    assert (found.level, found.actor, feed_state(off)) == (Level.STOPPED, BY, "disabled")
    assert found.sentence.startswith("The feed market was disabled by os:ada at ")
    assert (freshness(on, ShownFrame(MINUTE)).level, feed_state(on)) == (Level.ENDED, "ended")


@pytest.fixture
def reader(home: Home) -> Iterator[BarReader]:
    stores = seconds_stopped(home)
    opened = BarReader.open(home.bars_db)
    yield opened
    opened.close()
    stores.close()


def test_a_home_says_of_each_frame_who_stopped_it_and_when(home: Home, reader: BarReader) -> None:
    flow = read_flow(home)
    found = bar_freshness(reader, flow, AAA, SECOND)
    assert (found.level, found.actor) == (Level.STOPPED, BY)
    assert re.fullmatch(
        r"The job bars, which makes 1s bars, was stopped by os:ada at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.",
        found.sentence,
    )
    assert bar_freshness(reader, flow, AAA, MINUTE).level is Level.LIVE
    (gone,) = unfed_frames(flow, offered_frames(reader))
    assert (gone.text, gone.reason.actor) == ("1s, 5s, 15s, 30s", BY)


def test_a_deleted_job_is_still_named(home: Home) -> None:
    seconds_stopped(home, delete=True).close()
    (gone,) = unfed_frames(read_flow(home), [SECOND, MINUTE])
    assert (gone.text, gone.reason.actor) == ("1s", BY)
    assert "was deleted by os:ada" in gone.sentence


def test_the_worst_of_several_is_said() -> None:
    late, stopped = Freshness(Level.LATE, "It is late."), Freshness(Level.STOPPED, "It stopped.")
    assert worst([Freshness(Level.LIVE, "Live."), stopped, late]) == stopped
