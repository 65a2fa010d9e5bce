"""The top of pages, the freshness of the prices, and what pages show while there are no bars."""

from collections.abc import Mapping, Sequence

import streamlit as st

from barmill.model.frames import Frame
from barmill.platform.home import Home
from barmill.platform.texts import escape_markdown
from control.freshness.flow import Flow, backfill_of
from control.freshness.judge import Freshness, feed_state, freshness, job_state, worst
from control.freshness.reading import overall_freshness
from control.processes.supervisor import SupervisorError
from control.system.status import SystemStatus, read_status
from pages.parts.shared.latest_prices import offered_frames_of_all
from views import readings

# The Markdown colours of the levels of freshness.
_COLORS = {"green": "green", "amber": "orange", "red": "red", "gray": "gray"}
_SIMULATED = "Simulated prices of fictional instruments from the bundled demo market; not real market data."


def page_header(title: str, flow: Flow) -> None:
    """Show the title, with a mark if the prices are simulated."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(title, anchor=False, width="content")
        simulated_mark(simulated=flow.simulated)


def simulated_mark(*, simulated: bool) -> None:
    """Show a mark if the prices are simulated."""
    if simulated:
        st.badge("Simulated data", icon=":material/science:", color="violet", help=_SIMULATED)


def freshness_line(judgement: Freshness) -> str:
    """Return the judgement as one line of Markdown with a coloured mark."""
    return f":{_COLORS[judgement.level.color]}[●] {escape_markdown(judgement.sentence)}"


def backfill_progress(flow: Flow) -> None:
    """Show the progress of the demo market's backfill into the bars, until it is complete."""
    backfill = backfill_of(flow)
    if backfill is not None and not backfill.is_complete:
        st.progress(backfill.bars_share, text=backfill.sentence)


def flow_line() -> None:
    """Show whether data flows."""
    home = Home.find()
    st.caption(freshness_line(overall_freshness(readings.flow(home), offered_frames_of_all(home))))


@st.cache_data(ttl=3, max_entries=4, show_spinner=False)
def system_status(home: Home) -> SystemStatus | None:
    """Return the state of processes and jobs, read at most every three seconds for all visitors; None if unknown."""
    try:
        return read_status(home)
    except SupervisorError:
        return None


def instruments_or_wait(home: Home, title: str) -> list[str]:
    """Return the instruments with bars; without any, show the title and instructions, and return an empty list."""
    names = readings.instruments(home)
    if not names:
        st.header(title, anchor=False)
        wait_for_bars()
    return names


@st.fragment(run_every=1)
def wait_for_bars() -> None:
    """Explain how to get bars until there are some, then rerun the page."""
    home = Home.find()
    if readings.instruments(home):
        st.rerun()
    status = system_status(home)
    with st.container(border=True):
        st.subheader("No bars yet", anchor=False)
        if status is None or not status.running:
            st.markdown(
                "Barmill is not running here. Start it in a terminal, in the project's folder:\n\n"
                "```\n./barmill up\n```\n\n"
                "It starts Flink, the demo market and this app. The first bars form about half a minute later, and this"
                " page then shows them. To make bars from your own files: `./barmill replay FILE`."
            )
            return
        flow = readings.flow(home)
        judgement = freshness(flow)
        if judgement.stale:
            st.markdown("Barmill is running, but no bars are made.")
        else:
            st.markdown("Barmill is starting; the first bars appear here within about half a minute.")
        for process in status.processes:
            st.markdown(f":{'green' if process.running else 'orange'}[●] {process.name}: {process.state.lower()}")
        for job in status.jobs:
            st.markdown(
                f":{'green' if job.state == 'RUNNING' else 'orange'}[●] job {job.name}: {escape_markdown(job.sentence)}"
            )
        st.markdown(freshness_line(judgement))
        backfill_progress(flow)


@st.cache_data(ttl=60, max_entries=8, show_spinner=False)
def busiest_first(home: Home, names: Sequence[str]) -> list[str]:
    """Return the instruments by the ticks in their newest bar of the longest stored frame, most first; for defaults."""
    frame = readings.frames(home, names[0])[-1]
    ticks = {bars["instrument"][0]: bars["ticks"][0] for bars in readings.newest(home, names, frame, 1) if bars.height}
    return sorted(names, key=lambda name: -ticks.get(name, 0))


@st.fragment(run_every=1)
def live_freshness(home: Home, frames: Mapping[str, Frame], grayed_key: str = "") -> None:
    """Show the freshness of the bars of these instruments in these frames; the worst counts.

    grayed_key: the key of an element that is gray while the bars are stale.
    """
    flow = readings.flow(home)
    # A comprehension would be one more call between pages and their data (tests/pages/test_render_depth.py).
    judgements = []
    for name, frame in frames.items():
        judgements.append(readings.bar_freshness(home, flow, name, frame))
    judgement = worst(judgements)
    feeds = " and ".join(dict.fromkeys(feed_state(flow.for_instrument(name)) for name in frames))
    jobs = " and ".join(dict.fromkeys(job_state(flow.for_instrument(name), frame) for name, frame in frames.items()))
    states = f":gray[feed] {feeds} &emsp; :gray[job] {jobs}"
    st.markdown(f"{freshness_line(judgement)} &emsp; {states}")
    if grayed_key:
        style = "filter: grayscale(1); opacity: 0.5;" if judgement.stale else "filter: none;"
        st.html(f"<style>.st-key-{grayed_key} {{ {style} }}</style>")
