from pathlib import Path

from barmill.model.frames import parse_frame
from control.freshness.judge import Freshness, Level
from control.freshness.reading import UnfedFrames
from control.jobs.views import JobView
from control.processes.supervisor import ProcessStatus
from control.system.status import SystemStatus
from pages.parts.shared.facts import facts, jobs_fact
from tests.support.flows import NOW_MS, flow, progress
from tests.support.page_bars import NO_BARS, THREE_BARS
from views.chart_bars import quote


def status(*, job: str, ingest: str) -> SystemStatus:
    processes = [
        ProcessStatus("ingest", ingest, 12 if ingest == "RUNNING" else None, 60, 150_000_000),
        ProcessStatus("app", "RUNNING", 13, 60, 250_000_000),
    ]
    jobs = [JobView("bars", "running", job, f"The job is {job.lower()}.", 1, "1s", 1, None, NOW_MS)]
    return SystemStatus(Path("/home"), None, processes, jobs, 0.0, None, "", "")


def test_facts_when_all_is_well() -> None:
    readings = [flow(read_ms=NOW_MS - 1_000, end_sequence=881), flow()]
    assert facts(readings, {"too_late": 2, "duplicate": 3}, status(job="RUNNING", ingest="RUNNING")) == [
        {"label": "Feed", "value": "market", "note": "running", "tone": "good"},
        {"label": "Ticks per second", "value": "120", "line": [120.0]},
        {"label": "Jobs running", "value": "1 of 1", "note": "1,000 ticks read", "tone": "good"},
        {"label": "Newest tick", "value": "0.4 s ago"},
        {"label": "Ticks rejected", "value": "5", "note": "3 duplicate, 2 too late"},
        {"label": "Processes", "value": "2 of 2", "note": "0.4 GB of memory", "tone": "good"},
    ]


def test_facts_name_what_is_down() -> None:
    found = facts([flow()], {}, status(job="RESTARTING", ingest="BACKOFF"))
    assert found[1] == {"label": "Ticks per second", "value": "–", "line": []}
    assert found[2] == {
        "label": "Jobs running",
        "value": "0 of 1",
        "note": "bars: The job is restarting.",
        "tone": "busy",
    }
    assert found[5] == {"label": "Processes", "value": "1 of 2", "note": "down: ingest", "tone": "bad"}


def test_jobs_that_were_stopped_on_purpose_do_not_count() -> None:
    running, stopped = (
        JobView(name, desired, state, "", 1, "1s", 1, None, NOW_MS)
        for name, desired, state in (("bars", "running", "RUNNING"), ("other", "stopped", "STOPPED"))
    )
    for jobs, value, tone in (([running, stopped], "1 of 1", "good"), ([stopped], "All stopped", ""), ([], "–", "")):
        assert jobs_fact(jobs, "a note") == {"label": "Jobs running", "value": value, "note": "a note", "tone": tone}


def test_the_feed_is_not_said_to_be_stopped_when_only_its_job_is() -> None:
    assert facts([flow(job=progress(silent_ms=9_000))], {}, None)[0]["note"] == "running"


def test_a_frame_that_nothing_feeds_is_not_all_well() -> None:
    why = Freshness(Level.STOPPED, "The job bars was stopped.")
    not_fed = [UnfedFrames((parse_frame("1s"), parse_frame("5s")), why)]
    for system in (None, status(job="RUNNING", ingest="RUNNING")):
        found = facts([flow()], {}, system, not_fed)[2]
        assert (found["note"], found["tone"]) == ("nothing feeds 1s, 5s", "bad")


def test_without_a_controller_the_job_is_judged_by_what_it_writes() -> None:
    assert facts([flow()], {}, None)[2]["value"] == "Writing"
    assert facts([flow(job=progress(silent_ms=9_000))], {}, None)[2]["value"] == "Silent"


def test_the_quote_above_a_chart() -> None:
    frame = parse_frame("1m")
    assert quote(THREE_BARS[:2], frame) == {
        "price": "10.250",
        "change": "▼ −2.38 %",
        "direction": "down",
        "over": "over 2 bars",
        "bar": "bar 12:02 UTC revised 2×",
    }
    assert quote(NO_BARS, frame) == {}
