"""Which lines the plots of the Monitoring page have, and what its facts and tables say."""

from collections.abc import Mapping

import polars as pl

from control.monitoring.alerts import Alert
from control.monitoring.delivery import GIVE_UP_AFTER_MS, Delivery
from control.monitoring.metrics import RATES, Kind, Metric, Reading, Subject
from pages.parts.monitoring.facts import Latest, monitor_facts, process_rows, taskmanager_rows
from tests.support.measured import BARS, MARKET, readings
from views.plots import SECTIONS, Plot, delivery_rows, lines_of, past_alert_rows

NOW_MS = 1_764_072_000_000
LINE = pl.DataFrame({"time_ms": [NOW_MS], "value": [1.0]})


def plot(title: str) -> Plot:
    return next(plot for plots in SECTIONS.values() for plot in plots if plot.title == title)


def names(title: str, measured: Mapping[Metric, list[Subject]]) -> list[str]:
    history = {metric: dict.fromkeys(subjects, LINE) for metric, subjects in measured.items()}
    return list(lines_of(plot(title), history))


def test_a_plot_of_one_subject_names_what_is_measured() -> None:
    measured = {Metric.TICKS_ACCEPTED_PER_S: [MARKET], Metric.TICKS_REJECTED_PER_S: [MARKET]}
    assert names("Ticks in", measured) == ["accepted", "rejected"]


def test_a_plot_of_several_subjects_names_both() -> None:
    two = [MARKET, Subject(Kind.SOURCE, "replay")]
    assert names("Ticks in", {Metric.TICKS_ACCEPTED_PER_S: two}) == ["market accepted", "replay accepted"]


def test_operators_are_called_as_in_the_job() -> None:
    fold = Subject(Kind.OPERATOR, "bars/Source: wake_ups -> poll and fold")
    assert names("Busy", {Metric.BUSY_RATIO: [fold]}) == ["poll and fold"]
    other = Subject(Kind.OPERATOR, "other/poll and fold")
    assert names("Busy", {Metric.BUSY_RATIO: [fold, other]}) == ["bars: poll and fold", "other: poll and fold"]


def test_a_subject_without_a_name_is_called_like_its_plot() -> None:
    assert names("Free disk", {Metric.FREE_BYTES: [Subject(Kind.DISK)]}) == ["Free disk"]


def test_what_was_not_measured_has_no_line() -> None:
    assert names("Backlog, ticks", {}) == []


def test_every_rate_and_every_plot_is_shown_once() -> None:
    plots = [plot for plots in SECTIONS.values() for plot in plots]
    assert len({plot.key for plot in plots}) == len({plot.title for plot in plots}) == len(plots)
    shown = [metric for plot in plots for metric in plot.metrics]
    assert len(shown) == len(set(shown))
    assert set(RATES.values()) <= set(shown)


def facts(*found: Reading) -> dict[str, tuple[object, object, object]]:
    return {
        str(fact["label"]): (fact["value"], fact["note"], fact["tone"]) for fact in monitor_facts(Latest.of(found), ())
    }


def test_the_facts_of_a_running_home() -> None:
    found = facts(*readings(NOW_MS))
    assert found["Jobs running"] == ("–", "0 restarts", "")
    assert (found["Last checkpoint"][1], found["Bars written"][1]) == ("0 failed", "20 ticks to read")
    assert found["TaskManagers"] == ("1", "3 of 4 slots free", "")
    assert found["Tick to bar"][2] == "good"


def test_the_worst_job_sets_the_tone() -> None:
    other = Subject(Kind.JOB, "other")
    found = facts(
        Reading(BARS, Metric.WATERMARK_LAG_S, 0.5),
        Reading(other, Metric.WATERMARK_LAG_S, 90),
    )
    assert found["Tick to bar"] == ("–", "lag 90 s", "busy")
    assert found["Jobs running"] == found["Last checkpoint"] == ("–", "", "")


def test_a_cluster_that_does_not_answer_is_said_so() -> None:
    bad = ("–", "the JobManager does not respond", "bad")
    assert facts(Reading(Subject(Kind.CLUSTER), Metric.ANSWERS, 0))["TaskManagers"] == bad
    assert facts()["TaskManagers"] == bad


def test_the_tables_of_processes_and_taskmanagers() -> None:
    app = Subject(Kind.PROCESS, "app")
    latest = Latest.of(
        [
            Reading(app, Metric.UP, 1),
            Reading(app, Metric.STARTED_S, NOW_MS / 1_000 - 600),
            Reading(app, Metric.RESIDENT_BYTES, 2.5e8),
            Reading(Subject(Kind.PROCESS, "ingest"), Metric.UP, 0),
            Reading(Subject(Kind.TASKMANAGER, "tm-1"), Metric.OWN_SLOTS, 4),
        ]
    )
    up, down = process_rows(latest, NOW_MS)
    assert up == {"Process": "app", "State": "up", "Uptime": "10 min", "Memory": "250 MB", "CPU cores": "–"}
    assert (down["Process"], down["State"], down["Uptime"]) == ("ingest", "down", "–")
    assert taskmanager_rows(latest) == [{"TaskManager": "tm-1", "Slots": "4", "Free": "–", "Java heap": "–"}]


def test_the_table_of_alerts_that_are_over() -> None:
    over = Alert(1, "no_data", "source:market", "critical", "No ticks.", NOW_MS, NOW_MS + 90_000, NOW_MS + 5, "otto")
    assert past_alert_rows([over]) == [
        {
            "Raised, UTC": "2025-11-25 12:00:00",
            "Duration": "90 s",
            "Severity": "critical",
            "Alert": "No ticks.",
            "Cleared because": "the condition is normal",
            "Acknowledged by": "otto",
        }
    ]


def test_the_table_of_deliveries() -> None:
    def row(**changes: object) -> str:
        usual: dict[str, object] = {
            "id": "x",
            "alert": 3,
            "event": "raised",
            "created_ms": NOW_MS,
            "attempts": 1,
            "next_ms": NOW_MS + 5_000,
            "delivered_ms": None,
            "problem": "it cannot be reached",
        }
        (found,) = delivery_rows([Delivery(**{**usual, **changes})], NOW_MS + 1_000)  # type: ignore[arg-type]
        assert found["Event"] == "alert 3 raised"
        return found["Result"]

    assert row(attempts=0, problem=None) == "waiting for the controller"
    assert row() == "next attempt in 4.0 s: it cannot be reached"
    assert row(delivered_ms=NOW_MS + 700) == "delivered after 0.7 s"
    assert row(created_ms=NOW_MS - GIVE_UP_AFTER_MS) == "given up: it cannot be reached"
