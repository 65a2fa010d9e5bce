"""A fixed range of time, kept in the address as `from` and `to` in milliseconds, picked on the clock of a zone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from charts.zones import on_the_clock, time_ms_of
from pages.parts.choices import Choices

_EARLIEST, _LATEST = datetime(1970, 1, 2), datetime(2199, 12, 31)
_STEP_S = 60


@dataclass(frozen=True)
class Range:
    """A range of time, [from_ms, to_ms)."""

    from_ms: int
    to_ms: int

    @property
    def length_ms(self) -> int:
        """Return how long it is."""
        return self.to_ms - self.from_ms


def fixed_range(choices: Choices, usual: Callable[[], Range], zone: str) -> Range:
    """Let the user pick a range; where the address says none that makes sense, it becomes the usual one."""
    picked = _asked()
    if picked is None:
        picked = usual()
        _keep(picked)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _side(choices, "from", picked.from_ms, zone)
        _side(choices, "to", picked.to_ms, zone)
        for label, icon, by in (("Earlier", "chevron_left", -1), ("Later", "chevron_right", 1)):
            st.button(
                label,
                key=choices.key(label.lower()),
                icon=f":material/{icon}:",
                on_click=_keep,
                args=[Range(picked.from_ms + by * picked.length_ms, picked.to_ms + by * picked.length_ms)],
            )
        st.button("Newest", key=choices.key("newest"), icon=":material/last_page:", on_click=forget_range)
    return picked


def forget_range() -> None:
    """Let the address say no range, so that the next run takes the usual one."""
    for name in ("from", "to"):
        st.query_params.pop(name, None)


def _side(choices: Choices, name: str, time_ms: int, zone: str) -> None:
    # The field knows minutes only; what the address says stays exact as long as nobody picks another minute.
    key, shown = choices.key(name), on_the_clock(time_ms, zone).replace(second=0, microsecond=0)
    st.session_state[key] = shown

    def keep() -> None:
        if (picked := st.session_state[key]) not in (None, shown):
            st.query_params[name] = str(time_ms_of(picked, zone))

    label = f"{name.capitalize()}, {zone}"
    st.datetime_input(label, key=key, step=_STEP_S, min_value=_EARLIEST, max_value=_LATEST, on_change=keep, width=210)


def _asked() -> Range | None:
    sides = [st.query_params.get(name, "") for name in ("from", "to")]
    if not all(side.isascii() and side.isdecimal() for side in sides):
        return None
    asked = Range(*map(int, sides))
    edges = [time_ms_of(edge, "UTC") for edge in (_EARLIEST, _LATEST)]
    # A day within, because the clocks of a zone may be that far from UTC's.
    within = edges[0] + 86_400_000 < asked.from_ms and asked.to_ms < edges[1] - 86_400_000
    return asked if within and asked.from_ms < asked.to_ms else None


def _keep(picked: Range) -> None:
    st.query_params["from"], st.query_params["to"] = str(picked.from_ms), str(picked.to_ms)
