"""The facts at the head of the overview: worked out here, shown as one row."""

from collections.abc import Mapping, Sequence

import streamlit as st

from charts.texts import age
from control.freshness.flow import Flow
from control.freshness.frames import Unfed
from control.freshness.judge import Freshness, freshness
from control.jobs.states import Desired
from control.machine.system_status import SystemStatus
from pages.parts.browser_code import browser_code
from pages.parts.flow import rates

Fact = dict[str, object]

_TONES = {"green": "good", "red": "bad"}

_facts = st.components.v2.component(
    "barmill_facts",
    html='<dl class="barmill-facts"></dl>',
    css=browser_code("facts/facts.css"),
    js=browser_code("lasting.js", "facts/facts.js"),
    isolate_styles=False,
)


def facts_row(facts: Sequence[Fact]) -> None:
    """Show the facts."""
    _facts(key="facts", data=list(facts))


def facts(
    readings: Sequence[Flow], refused: Mapping[str, int], status: SystemStatus | None, unfed: Sequence[Unfed] = ()
) -> list[Fact]:
    """Work out the facts from the readings so far, oldest first, one at least, and the frames that nothing feeds."""
    flow, speeds = readings[-1], rates(readings)
    fresh, source, newest_ms = freshness(flow), flow.source, flow.newest_tick_ms
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(refused.items()))
    return [
        {
            "label": "Feed",
            "value": source.name if source else "none",
            "note": fresh.level.value,
            "tone": _TONES.get(fresh.level.color, "busy"),
        },
        {"label": "Ticks per second", "value": f"{speeds[-1]:,.0f}" if speeds else "–", "line": speeds},
        _job(flow, fresh, status, unfed),
        {"label": "Newest tick", "value": "–" if newest_ms is None else f"{age(flow.read_ms - newest_ms)} ago"},
        {"label": "Ticks refused", "value": f"{sum(refused.values()):,}", "note": reasons},
        _processes(status),
    ]


def _job(flow: Flow, fresh: Freshness, status: SystemStatus | None, unfed: Sequence[Unfed]) -> Fact:
    """Say how the jobs are: in the controller's words, or without a controller by what the job writes."""
    note = f"{sum(one.read for one in flow.progress):,} ticks read"
    if unfed:
        note = f"nothing feeds {', '.join(one.text for one in unfed)}"
    if status is not None and status.jobs:
        wanted = [job for job in status.jobs if job.desired == Desired.RUNNING]
        astray = [job for job in wanted if not job.as_desired]
        value = f"{len(wanted) - len(astray)} of {len(wanted)} running" if wanted else "All stopped"
        note = f"{astray[0].name}: {astray[0].sentence}" if astray else note
        tone = "busy" if astray else "good"
    else:
        value = "Writing" if flow.progress and not fresh.stale else "Silent"
        tone = _TONES.get(fresh.level.color, "busy") if flow.progress else "busy"
    return {"label": "Jobs", "value": value, "note": note, "tone": "bad" if unfed and tone == "good" else tone}


def _processes(status: SystemStatus | None) -> Fact:
    if status is None or not status.running:
        return {"label": "Processes", "value": "–", "note": "not started by ./barmill up"}
    if status.unsupervised:
        return {"label": "Processes", "value": "Running", "note": "started one by one, as containers"}
    down = [one.name for one in status.processes if not one.running]
    note = f"down: {', '.join(down)}" if down else f"{status.resident_bytes / 1e9:.1f} GB of memory"
    value = f"{len(status.processes) - len(down)} of {len(status.processes)}"
    return {"label": "Processes", "value": value, "note": note, "tone": "bad" if down else "good"}
