"""The controls of the pages with live charts: which instrument, how it is drawn, which stretch of time."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import streamlit as st

from charts.view import KINDS, SCALES
from charts.zones import on_the_clock, time_ms_of
from pages.parts.choices import Choices
from pages.parts.zone_picker import zone_here, zone_picker

USUAL: Mapping[str, str] = {"kind": "candles", "studies": "", "zone": "UTC", "scale": "linear", "fill": ""}
MOST_FRAMES = 4

_RANGES = {
    "15 minutes": 900_000,
    "1 hour": 3_600_000,
    "6 hours": 21_600_000,
    "1 day": 86_400_000,
    "1 week": 604_800_000,
    "30 days": 2_592_000_000,
}


def instrument_picker(choices: Choices, names: Sequence[str], usual: str) -> str:
    """Let the user pick an instrument."""
    instrument = choices.text("instrument", names.__contains__, usual, shown=True, wrong="There are no bars for the")
    key = choices.key("instrument")
    st.session_state[key] = instrument
    st.selectbox(
        "Instrument", names, key=key, on_change=choices.follow("instrument"), label_visibility="collapsed", width=200
    )
    return instrument


def frame_picker(choices: Choices, frames: Sequence[str], usual: str) -> str:
    """Let the user pick one of these frames."""
    frame = choices.text("frame", frames.__contains__, usual, shown=True, wrong="There are no bars for the")
    key = choices.key("frame")
    st.session_state[key] = frame
    st.segmented_control(
        "Frame", frames, key=key, required=True, on_change=choices.follow("frame"), label_visibility="collapsed"
    )
    return frame


def frames_picker(choices: Choices, frames: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Let the user pick several of these frames, shortest first; an address that asks for others gets the usual."""

    def fits(text: str) -> bool:
        picked = text.split(",")
        return set(picked) <= set(frames) and len(picked) <= MOST_FRAMES

    picked = choices.text("frames", fits, ",".join(usual), shown=True, wrong="There are no bars for these").split(",")
    key = choices.key("frames")
    st.session_state[key] = picked

    def keep() -> None:
        chosen = [frame for frame in frames if frame in st.session_state[key]]
        if len(chosen) > MOST_FRAMES:
            choices.refuse(f"{MOST_FRAMES} frames fit side by side; take one away first.")
        elif chosen:
            choices.keep("frames", ",".join(chosen))

    st.pills("Frames", frames, selection_mode="multi", key=key, on_change=keep, label_visibility="collapsed")
    return picked


def display(choices: Choices) -> dict[str, str]:
    """Let the user choose how charts look; return kind, scale, zone and fill."""
    with st.popover("Display", icon=":material/tune:"):
        kind = _one_of(choices, "kind", KINDS, "Kind of chart")
        scale = _one_of(choices, "scale", SCALES, "Price scale")
        zone = zone_picker(choices)
        fill = choices.text("fill", lambda text: text in ("", "0", "1"))
        st.session_state[choices.key("filled")] = fill == "1"
        st.toggle(
            "Fill gaps with flat, dotted bars",
            key=choices.key("filled"),
            on_change=lambda: choices.keep("fill", "1" if st.session_state[choices.key("filled")] else ""),
            help="Made-up bars at the last price. They are marked as synthetic and are in no stored bar.",
        )
    return {"kind": kind, "scale": scale, "zone": zone, "fill": fill}


def _one_of(choices: Choices, name: str, options: Mapping[str, str], label: str) -> str:
    choice, key = choices.text(name, options.__contains__), choices.key(name)
    st.session_state[key] = choice
    st.segmented_control(
        label, list(options), key=key, format_func=options.__getitem__, required=True, on_change=choices.follow(name)
    )
    return choice


def range_picker(choices: Choices, zone: str, now_ms: int) -> tuple[int | None, int | None]:
    """Let the user choose the stretch of time to show first; None twice for the newest bars."""
    from_ms, to_ms = choices.moment_ms("from"), choices.moment_ms("to")
    where = zone_here(zone)
    label = "Range" if from_ms is None or to_ms is None else f"{_short(from_ms, where)} – {_short(to_ms, where)}"
    with st.popover(label, icon=":material/date_range:"):
        with st.container(horizontal=True):
            for name, length_ms in _RANGES.items():
                st.button(name, key=choices.key(f"last_{name}"), on_click=_show, args=(now_ms - length_ms, now_ms))
        with st.form(choices.key("range_form"), border=False):
            begin = st.datetime_input(
                f"From, {where}", _on_the_clock(from_ms or now_ms - 3_600_000, where), key=choices.key("from"), step=60
            )
            end = st.datetime_input(
                f"To, {where}", _on_the_clock(to_ms or now_ms, where), key=choices.key("to"), step=60
            )
            if st.form_submit_button("Show this range"):
                _show(time_ms_of(begin, where), time_ms_of(end, where))
                st.rerun()
        st.button(
            "Newest bars", key=choices.key("newest"), on_click=_show, args=(None, None), icon=":material/last_page:"
        )
    return from_ms, to_ms


def as_of_picker(choices: Choices, zone: str, now_ms: int) -> int | None:
    """Let the user choose a time as known at which bars are shown; None for as they are now."""
    as_of_ms, where = choices.moment_ms("as_of"), zone_here(zone)
    label = "As of now" if as_of_ms is None else f"As of {_short(as_of_ms, where)}"
    with st.popover(label, icon=":material/history:"), st.form(choices.key("as_of_form"), border=False):
        st.markdown("Shows every bar as it was known then, before later ticks revised it.")
        then = st.datetime_input(
            f"Known at, {where}", _on_the_clock(as_of_ms or now_ms, where), key=choices.key("as_of"), step=60
        )
        with st.container(horizontal=True):
            if st.form_submit_button("Show"):
                st.query_params["as_of"] = str(time_ms_of(then, where))
                st.rerun()
            if st.form_submit_button("Back to now", disabled=as_of_ms is None):
                del st.query_params["as_of"]
                st.rerun()
    return as_of_ms


def _show(from_ms: int | None, to_ms: int | None) -> None:
    for name, ms in (("from", from_ms), ("to", to_ms)):
        if ms is not None:
            st.query_params[name] = str(ms)
        elif name in st.query_params:
            del st.query_params[name]


def _on_the_clock(ms: int, zone: str) -> datetime:
    return on_the_clock(ms, zone).replace(second=0, microsecond=0)


def _short(ms: int, zone: str) -> str:
    return on_the_clock(ms, zone).strftime("%d %b %H:%M")
