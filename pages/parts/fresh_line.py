"""How fresh prices are, said every second beside a figure that is itself not drawn that often."""

from collections.abc import Sequence

import streamlit as st

from control.home import Home
from pages.parts import readings
from pages.parts.flow import feed_state, freshness_of, job_state
from pages.parts.head import freshness_line


@st.fragment(run_every=1)
def fresh_line(home: Home, instruments: Sequence[str], greyed: str = "") -> None:
    """Say how fresh the prices of these are, and grey the element with the key `greyed` as long as they are not."""
    flow = readings.flow(home)
    fresh = freshness_of(flow, instruments)
    feeds = " and ".join(dict.fromkeys(feed_state(flow.of(one)) for one in instruments))
    states = f":gray[feed] {feeds} &emsp; :gray[job] {job_state(flow)}"
    st.markdown(f"{freshness_line(fresh)} &emsp; {states}")
    if greyed:
        look = "filter: grayscale(1); opacity: 0.5;" if fresh.stale else "filter: none;"
        st.html(f"<style>.st-key-{greyed} {{ {look} }}</style>")
