"""What every page begins with, and what it shows while there is nothing to show."""

import streamlit as st

from charts.texts import plain
from control.freshness.flow import Flow
from control.freshness.frames import overall
from control.freshness.judge import Freshness, freshness
from control.home import Home
from control.machine.processes import SupervisorError
from control.machine.system_status import SystemStatus, look
from pages.parts import readings
from pages.parts.standings import offered_frames_of_all

# What Markdown calls the colors of freshness.
_COLORS = {"green": "green", "amber": "orange", "red": "red", "gray": "gray"}
_SIMULATED = "Made-up prices of made-up instruments, from the bundled demo market. They mean nothing."


def head(title: str, flow: Flow) -> None:
    """Write the title, and beside it that the prices are not real where they are not."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(title, anchor=False, width="content")
        simulated_mark(simulated=flow.simulated)


def simulated_mark(*, simulated: bool) -> None:
    """Mark that prices are not real, where they are not."""
    if simulated:
        st.badge("Simulated data", icon=":material/science:", color="violet", help=_SIMULATED)


def freshness_line(fresh: Freshness) -> str:
    """Return the judgement as one line of Markdown with a coloured mark."""
    return f":{_COLORS[fresh.level.color]}[●] {plain(fresh.sentence)}"


def flow_line() -> None:
    """Say whether data flows."""
    home = Home.find()
    st.caption(freshness_line(overall(readings.flow(home), offered_frames_of_all(home))))


@st.cache_data(ttl=3, max_entries=4, show_spinner=False)
def system_status(home: Home) -> SystemStatus | None:
    """Look at processes and jobs, at most every three seconds for all visitors; None if nobody can tell."""
    try:
        return look(home)
    except SupervisorError:
        return None


def instruments_or_wait(home: Home, title: str) -> list[str]:
    """Return the instruments that have bars; none, under the page's title, while there are no bars yet."""
    names = readings.instruments(home)
    if not names:
        st.header(title, anchor=False)
        wait_for_bars()
    return names


@st.fragment(run_every=1)
def wait_for_bars() -> None:
    """Explain how bars come about until there are some, then run the page again."""
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
                " page shows them by itself. Bars of your own files: `./barmill replay FILE`."
            )
            return
        st.markdown("The parts are being started; the first bars form within about half a minute and show up here.")
        for one in status.processes:
            st.markdown(f":{'green' if one.running else 'orange'}[●] {one.name}: {one.state.lower()}")
        for job in status.jobs:
            st.markdown(f":{'green' if job.state == 'RUNNING' else 'orange'}[●] job {job.name}: {plain(job.sentence)}")
        st.markdown(freshness_line(freshness(readings.flow(home))))
