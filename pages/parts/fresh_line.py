"""How fresh prices are, said every second beside a figure that is itself not drawn that often."""

from collections.abc import Mapping

import streamlit as st

from bar.frames import Frame
from control.freshness.judge import feed_state, job_state, worst
from control.home import Home
from pages.parts import readings
from pages.parts.head import freshness_line


@st.fragment(run_every=1)
def fresh_line(home: Home, shown: Mapping[str, Frame], greyed: str = "") -> None:
    """Say how fresh the bars of these instruments in these frames are, of the one that is worst off.

    greyed: the key of an element that is gray as long as they are not fresh.
    """
    flow = readings.flow(home)
    fresh = worst(readings.judged(home, flow, name, frame) for name, frame in shown.items())
    feeds = " and ".join(dict.fromkeys(feed_state(flow.of(name)) for name in shown))
    jobs = " and ".join(dict.fromkeys(job_state(flow.of(name), frame) for name, frame in shown.items()))
    states = f":gray[feed] {feeds} &emsp; :gray[job] {jobs}"
    st.markdown(f"{freshness_line(fresh)} &emsp; {states}")
    if greyed:
        look = "filter: grayscale(1); opacity: 0.5;" if fresh.stale else "filter: none;"
        st.html(f"<style>.st-key-{greyed} {{ {look} }}</style>")
