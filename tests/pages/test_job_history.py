"""What the jobs page says of a job, its operations and its runs: worked out without a page."""

from dataclasses import replace

import pytest

from barmill.platform.home import REPO_ROOT, Home
from control.jobs.model import (
    JobRun,
    JobVersion,
    Kind,
    Operation,
    OperationParameters,
    Outcome,
    Phase,
    Savepoint,
    State,
    StopMode,
)
from control.jobs.specs import check_spec
from control.jobs.views import JobView
from pages.parts.jobs.page import action_buttons, menu_entries
from views.job_tables import (
    changes,
    operation_table,
    operation_text,
    origin,
    run_table,
    savepoint_table,
    state_line,
    steps,
    timeline,
    tone,
    version_table,
)

NOON_MS = 1_700_049_600_000
HOME = Home(REPO_ROOT / "var")
VIEW = JobView("bars", "running", "RUNNING", "The job is running.", 1, "1s", 1, None, NOON_MS)
SAVED_URI = "file:///h/flink/savepoints/5ave5ave5ave/savepoint-a1-b2"
RUNS = [
    JobRun("c" * 32, "bars", NOON_MS, "jm", "file:///h/flink/checkpoints/bbbbbbbbbb/chk-41", 2),
    JobRun("b" * 32, "bars", NOON_MS - 90_000, "jm", SAVED_URI, 2, NOON_MS - 1_000, "FAILED", "Oh\nValueError: no"),
    JobRun("a" * 32, "bars", NOON_MS - 3_600_000, "jm", None, 1, NOON_MS - 100_000, "STOPPED"),
]
SAVEPOINT = Savepoint("5ave" * 8, "bars", "a" * 32, 1, SAVED_URI, NOON_MS - 100_000)


def asked(kind: Kind, phase: Phase = Phase.FIRST, **wanted: object) -> Operation:
    return Operation("f" * 32, "bars", kind, OperationParameters(**wanted), "ada", NOON_MS, phase)  # type: ignore[arg-type]


STOPPED = replace(asked(Kind.STOP), requested_ms=NOON_MS - 101_500, ended_ms=NOON_MS - 99_000, outcome=Outcome.DONE)
STOPPED_BY_ADA = "Stopped by ada, requested at 2023-11-15 11:58:18 UTC."


@pytest.mark.parametrize(
    ("desired", "state", "how"),
    [
        ("running", State.RUNNING, "good"),
        ("stopped", State.STOPPED, "idle"),
        ("running", State.RESTARTING, "busy"),
        ("running", State.UNKNOWN, "busy"),
        ("stopped", State.RUNNING, "busy"),
        ("running", State.FAILED, "bad"),
        ("running", State.REFUSED, "bad"),
    ],
)
def test_a_mark_tells_how_well_a_job_is(desired: str, state: State, how: str) -> None:
    assert tone(replace(VIEW, desired=desired, state=state.value)) == how


def test_a_sentence_from_elsewhere_writes_no_markdown() -> None:
    assert state_line(replace(VIEW, sentence="It failed: [x](y)")) == r":green[●] It failed\: \[x\](y)"


def test_what_is_under_way_says_for_how_long() -> None:
    assert operation_text(None, NOON_MS) == ""
    said = operation_text(asked(Kind.STOP), NOON_MS + 4_200)
    assert said == "Stop in progress for 4.2 s: Waiting for the controller."


STOP = "Stop with a savepoint"


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (asked(Kind.START), [("Start", "now")]),
        (asked(Kind.STOP), [(STOP, "now")]),
        (asked(Kind.STOP, mode=StopMode.LAST_STATE), [("Cancel", "now")]),
        (asked(Kind.RESTART), [(STOP, "now"), ("Start", "later")]),
        (asked(Kind.RESTART, Phase.STARTING, mode=StopMode.STATELESS), [("Cancel", "done"), ("Start", "now")]),
        (
            asked(Kind.UPGRADE, from_version=1, to_version=2),
            [(STOP, "now"), ("Start version 2", "later"), ("Check that it is stable", "later")],
        ),
        (
            asked(Kind.UPGRADE, Phase.SETTLING, from_version=1, to_version=2),
            [(STOP, "done"), ("Start version 2", "done"), ("Check that it is stable", "now")],
        ),
        (
            asked(Kind.UPGRADE, Phase.ROLLING_BACK, from_version=1, to_version=2),
            [(STOP, "done"), ("Start version 2", "done"), ("Return to version 1", "now")],
        ),
        (asked(Kind.RESCALE, parallelism=3), [("Take 3 slots", "now")]),
        (asked(Kind.SAVEPOINT), [("Take a savepoint", "now")]),
        (asked(Kind.DELETE, mode=StopMode.LAST_STATE), [("Cancel and delete", "now")]),
    ],
)
def test_an_operation_has_steps(operation: Operation, expected: list[tuple[str, str]]) -> None:
    assert steps(operation) == expected


def test_nothing_is_offered_to_who_may_nothing() -> None:
    assert action_buttons(VIEW, lambda _: False) == []
    assert menu_entries(VIEW, lambda _: False) == ()


def test_a_stopped_job_on_its_way_somewhere_can_still_be_cancelled() -> None:
    stopped = replace(VIEW, desired="stopped", state="STOPPED")
    assert "Cancel" not in dict(menu_entries(stopped, lambda _: True)).values()
    assert "Cancel" in dict(menu_entries(replace(stopped, operation=asked(Kind.START)), lambda _: True)).values()


def test_where_a_run_went_on_from() -> None:
    assert [origin(run.restored_from) for run in RUNS] == [
        "checkpoint 41 of bbbbbbbb",
        "savepoint 5ave5ave",
        "the beginning",
    ]


def test_runs_as_a_table() -> None:
    table = run_table(RUNS, [STOPPED], NOON_MS + 5_000)
    assert table["Started, UTC"].to_list()[0] == "2023-11-15 12:00:00"
    assert table["Duration"].to_list() == ["5.0 s", "89 s", "58 min"]
    assert table["Ended"].to_list() == ["running", "failed", "stopped"]
    assert table["Reason"].to_list() == ["", "ValueError: no.", STOPPED_BY_ADA]


def test_runs_as_a_time_line() -> None:
    now_ms = NOON_MS + 5_000
    figure = timeline(RUNS, [SAVEPOINT, replace(SAVEPOINT, created_ms=NOON_MS - 9_999_999)], now_ms, [STOPPED])
    bars = {trace.name: trace for trace in figure.data if trace.type == "bar"}
    assert list(bars["runs"].base) == [NOON_MS]
    assert list(bars["runs"].x) == [5_000]  # an open run reaches up to now
    assert list(bars["failed"].y) == ["v2 "]
    assert list(bars["stopped"].y) == ["v1 "]
    assert list(bars["lost"].x) == []
    assert "Run aaaaaaaa, version 1<br>from the beginning" in bars["stopped"].hovertext[0]
    assert bars["stopped"].hovertext[0].endswith(f"<br>{STOPPED_BY_ADA}")
    assert bars["failed"].hovertext[0].endswith("<br>ValueError: no.")
    (marks,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert list(marks.x) == [SAVEPOINT.created_ms]  # what is older than the oldest run would only squeeze the rest
    assert list(figure.layout.yaxis.categoryarray) == ["v1 ", "v2 "]
    assert figure.layout.uirevision


def test_every_end_has_a_colour() -> None:
    for end in (state for state in State if state.is_terminal or state is State.STOPPED):
        figure = timeline([replace(RUNS[1], end=end.value)], [], NOON_MS)
        assert sum(len(trace.x) for trace in figure.data if trace.type == "bar") == 1, end


def test_versions_say_what_changed() -> None:
    first = check_spec({"name": "bars"}, HOME)
    second = check_spec({"name": "bars", "frames": "5m", "lateness_ms": 1}, HOME)
    versions = [JobVersion(2, second, NOON_MS, "eve"), JobVersion(1, first, NOON_MS, "ada")]
    table = version_table(versions)
    assert table["Changes"].to_list() == ["frames: 1s,1m,1h → 5m; lateness_ms: 300000 → 1", "–"]
    assert table["By"].to_list() == ["eve", "ada"]
    assert changes(first, first) == "nothing"


def test_operations_and_savepoints_as_tables() -> None:
    done = replace(asked(Kind.STOP), outcome=Outcome.DONE, ended_ms=NOON_MS + 1_500, sentence="Stopped.")
    row = operation_table([done, asked(Kind.START)]).rows()[0]
    assert row == ("2023-11-15 12:00:00", "ada", "stop", "done", "1.5 s", "Stopped.", f"audit?audit_trace={'f' * 32}")
    assert operation_table([asked(Kind.START)])["Result"].to_list() == ["in progress"]
    assert savepoint_table([SAVEPOINT]).rows() == [("2023-11-15 11:58:20", "5ave5ave", 1, "aaaaaaaa", SAVED_URI)]
