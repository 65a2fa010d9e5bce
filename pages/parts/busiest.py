"""What somebody looks at who has not said what they want to see."""

from collections.abc import Sequence

import streamlit as st

from control.home import Home
from pages.parts import readings


@st.cache_data(ttl=60, max_entries=8, show_spinner=False)
def busiest_first(home: Home, names: Sequence[str]) -> list[str]:
    """Return the instruments by the ticks in their newest longest bar, most first: a good first thing to look at."""
    frame = readings.frames(home, names[0])[-1]
    ticks = {bars["instrument"][0]: bars["ticks"][0] for bars in readings.newest(home, names, frame, 1) if bars.height}
    return sorted(names, key=lambda name: -ticks.get(name, 0))
