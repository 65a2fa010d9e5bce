"""The row of facts at the top of a page, and the facts of the overview."""

from collections.abc import Mapping, Sequence

import streamlit as st

from barmill.platform.texts import age
from control.freshness.flow import Flow
from control.freshness.judge import Freshness, Level, feed_state, freshness
from control.freshness.reading import UnfedFrames
from control.jobs.model import Desired
from control.jobs.views import JobView
from control.system.status import SystemStatus
from pages.parts.shared.browser_code import browser_code
from views.readings import rates

Fact = dict[str, object]

_TONES = {"green": "good", "red": "bad"}
_FEED_TONES = {"running": "good", "failing": "bad", "silent": "bad"}

_facts = st.components.v2.component(
    "barmill_facts",
    html='<dl class="barmill-facts"></dl>',
    css=browser_code("facts/facts.css"),
    js=browser_code("cleanup.js", "facts/facts.js"),
    isolate_styles=False,
)


def facts_row(facts: Sequence[Fact]) -> None:
    """Show the facts."""
    _facts(key="facts", data=list(facts))


def facts(
    readings: Sequence[Flow],
    rejected: Mapping[str, int],
    status: SystemStatus | None,
    unfed: Sequence[UnfedFrames] = (),
) -> list[Fact]:
    """Return the facts from the readings so far (oldest first, at least one) and the frames that no job feeds.

    rejected: counts of rejected ticks by reason. status: None if unknown.
    """
    flow, tick_rates = readings[-1], rates(readings)
    judgement, source, newest_ms = freshness(flow), flow.source, flow.newest_tick_ms
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(rejected.items()))
    state = feed_state(flow)
    return [
        {
            "label": "Feed",
            "value": source.name if source else "none",
            "note": state,
            "tone": "busy" if judgement.level is Level.LATE else _FEED_TONES.get(state, "busy"),
        },
        {"label": "Ticks per second", "value": f"{tick_rates[-1]:,.0f}" if tick_rates else "–", "line": tick_rates},
        _job(flow, judgement, status, unfed),
        {"label": "Newest tick", "value": "–" if newest_ms is None else f"{age(flow.read_ms - newest_ms)} ago"},
        {"label": "Ticks rejected", "value": f"{sum(rejected.values()):,}", "note": reasons},
        _processes(status),
    ]


def _job(flow: Flow, judgement: Freshness, status: SystemStatus | None, unfed: Sequence[UnfedFrames]) -> Fact:
    """Return the state of the jobs, from the controller, or, without it, from the jobs' progress."""
    note = f"{sum(progress.read for progress in flow.progress):,} ticks read"
    if unfed:
        note = f"nothing feeds {', '.join(gap.text for gap in unfed)}"
    if status is not None and status.jobs:
        fact = jobs_fact(status.jobs, note)
        return {**fact, "tone": "bad"} if unfed and fact["tone"] != "busy" else fact
    value = "Writing" if flow.progress and not judgement.stale else "Silent"
    tone = _TONES.get(judgement.level.color, "busy") if flow.progress else "busy"
    return {"label": "Jobs running", "value": value, "note": note, "tone": "bad" if unfed and tone == "good" else tone}


def jobs_fact(jobs: Sequence[JobView], note: str) -> Fact:
    """Return how many of the jobs that should run do run. note: shown unless a job needs attention."""
    should_run = [job for job in jobs if job.desired == Desired.RUNNING]
    failing = [job for job in should_run if not job.is_as_desired]
    value = "All stopped" if jobs else "–"
    if should_run:
        value = f"{len(should_run) - len(failing)} of {len(should_run)}"
    if failing:
        note = f"{failing[0].name}: {failing[0].sentence}"
    return {
        "label": "Jobs running",
        "value": value,
        "note": note,
        "tone": "busy" if failing else "good" if should_run else "",
    }


def _processes(status: SystemStatus | None) -> Fact:
    if status is None or not status.running:
        return {"label": "Processes", "value": "–", "note": "not started by ./barmill up"}
    if status.unsupervised:
        return {"label": "Processes", "value": "Running", "note": "started separately, as containers"}
    down = [process.name for process in status.processes if not process.running]
    note = f"down: {', '.join(down)}" if down else f"{status.resident_bytes / 1e9:.1f} GB of memory"
    value = f"{len(status.processes) - len(down)} of {len(status.processes)}"
    return {"label": "Processes", "value": value, "note": note, "tone": "bad" if down else "good"}
