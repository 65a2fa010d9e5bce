"""The controls of pages with charts: instrument, frame, display, time range, and the visitor's defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from barmill.charts.view import KINDS, SCALES, local_time, time_ms_of
from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR
from pages.parts.accounts.my_preferences import change_preferences, preferences_of
from pages.parts.shared.choices import Choices, resolve_zone, zone_picker
from pages.parts.shared.messages import run_action
from pages.parts.shared.visitor import Visitor

DEFAULTS: Mapping[str, str] = {"kind": "candles", "studies": "", "zone": "UTC", "scale": "linear", "fill": ""}
MAX_FRAMES = 4

_RANGES = {
    "15 minutes": 900_000,
    "1 hour": MS_PER_HOUR,
    "6 hours": 21_600_000,
    "1 day": MS_PER_DAY,
    "1 week": 604_800_000,
    "30 days": 2_592_000_000,
}


def instrument_picker(choices: Choices, names: Sequence[str], default: str) -> str:
    """Let the user pick an instrument, and return it."""
    instrument = choices.text(
        "instrument", names.__contains__, default, always_shown=True, invalid_text="There are no bars for the"
    )
    key = choices.key("instrument")
    st.session_state[key] = instrument
    st.selectbox(
        "Instrument", names, key=key, on_change=choices.on_change("instrument"), label_visibility="collapsed", width=200
    )
    return instrument


def frame_picker(choices: Choices, frames: Sequence[str], default: str) -> str:
    """Let the user pick one of these frames, and return it."""
    frame = choices.text(
        "frame", frames.__contains__, default, always_shown=True, invalid_text="There are no bars for the"
    )
    key = choices.key("frame")
    st.session_state[key] = frame
    st.segmented_control(
        "Frame", frames, key=key, required=True, on_change=choices.on_change("frame"), label_visibility="collapsed"
    )
    return frame


def frames_picker(choices: Choices, frames: Sequence[str], default: Sequence[str]) -> list[str]:
    """Let the user pick up to MAX_FRAMES of these frames, and return them; an address with others gets the default."""

    def is_valid(text: str) -> bool:
        names = text.split(",")
        return set(names) <= set(frames) and len(names) <= MAX_FRAMES

    selected = choices.text(
        "frames", is_valid, ",".join(default), always_shown=True, invalid_text="There are no bars for these"
    ).split(",")
    key = choices.key("frames")
    st.session_state[key] = selected

    def keep() -> None:
        chosen = [frame for frame in frames if frame in st.session_state[key]]
        if len(chosen) > MAX_FRAMES:
            choices.reject(f"{MAX_FRAMES} frames fit side by side; remove one first.")
        elif chosen:
            choices.keep("frames", ",".join(chosen))

    st.pills("Frames", frames, selection_mode="multi", key=key, on_change=keep, label_visibility="collapsed")
    return selected


def display_options(choices: Choices) -> dict[str, str]:
    """Let the user choose the display of charts; return kind, scale, zone and fill."""
    with st.popover("Display", icon=":material/tune:"):
        kind = _option_control(choices, "kind", KINDS, "Kind of chart")
        scale = _option_control(choices, "scale", SCALES, "Price scale")
        zone = zone_picker(choices)
        fill = choices.text("fill", lambda text: text in ("", "0", "1"))
        st.session_state[choices.key("filled")] = fill == "1"
        st.toggle(
            "Fill gaps with flat, dotted bars",
            key=choices.key("filled"),
            on_change=lambda: choices.keep("fill", "1" if st.session_state[choices.key("filled")] else ""),
            help="Flat bars at the last price. They are marked as synthetic and are not stored.",
        )
    return {"kind": kind, "scale": scale, "zone": zone, "fill": fill}


def _option_control(choices: Choices, name: str, options: Mapping[str, str], label: str) -> str:
    choice, key = choices.text(name, options.__contains__), choices.key(name)
    st.session_state[key] = choice
    st.segmented_control(
        label, list(options), key=key, format_func=options.__getitem__, required=True, on_change=choices.on_change(name)
    )
    return choice


def range_picker(choices: Choices, zone: str, now_ms: int) -> tuple[int | None, int | None]:
    """Let the user choose the initial range; return (from_ms, to_ms), each None if the address lacks it."""
    from_ms, to_ms = choices.time_ms("from"), choices.time_ms("to")
    zone_name = resolve_zone(zone)
    label = (
        "Range"
        if from_ms is None or to_ms is None
        else f"{_short_time(from_ms, zone_name)} – {_short_time(to_ms, zone_name)}"
    )
    with st.popover(label, icon=":material/date_range:"):
        with st.container(horizontal=True):
            for name, length_ms in _RANGES.items():
                st.button(
                    name, key=choices.key(f"last_{name}"), on_click=_show_range, args=(now_ms - length_ms, now_ms)
                )
        with st.form(choices.key("range_form"), border=False):
            begin = st.datetime_input(
                f"From, {zone_name}",
                _local_minute(from_ms or now_ms - MS_PER_HOUR, zone_name),
                key=choices.key("from"),
                step=60,
            )
            end = st.datetime_input(
                f"To, {zone_name}", _local_minute(to_ms or now_ms, zone_name), key=choices.key("to"), step=60
            )
            if st.form_submit_button("Show this range"):
                _show_range(time_ms_of(begin, zone_name), time_ms_of(end, zone_name))
                st.rerun()
        st.button(
            "Newest bars",
            key=choices.key("newest"),
            on_click=_show_range,
            args=(None, None),
            icon=":material/last_page:",
        )
    return from_ms, to_ms


def as_of_picker(choices: Choices, zone: str, now_ms: int) -> int | None:
    """Let the user choose the time (epoch ms) as of which bars are shown; return it, or None for the current bars."""
    as_of_ms, zone_name = choices.time_ms("as_of"), resolve_zone(zone)
    label = "As of now" if as_of_ms is None else f"As of {_short_time(as_of_ms, zone_name)}"
    with st.popover(label, icon=":material/history:"), st.form(choices.key("as_of_form"), border=False):
        st.markdown("Shows every bar as it was known then, before later ticks revised it.")
        known_at = st.datetime_input(
            f"Known at, {zone_name}", _local_minute(as_of_ms or now_ms, zone_name), key=choices.key("as_of"), step=60
        )
        with st.container(horizontal=True):
            if st.form_submit_button("Show"):
                st.query_params["as_of"] = str(time_ms_of(known_at, zone_name))
                st.rerun()
            if st.form_submit_button("Back to now", disabled=as_of_ms is None):
                del st.query_params["as_of"]
                st.rerun()
    return as_of_ms


def _show_range(from_ms: int | None, to_ms: int | None) -> None:
    for name, ms in (("from", from_ms), ("to", to_ms)):
        if ms is not None:
            st.query_params[name] = str(ms)
        elif name in st.query_params:
            del st.query_params[name]


def _local_minute(ms: int, zone: str) -> datetime:
    return local_time(ms, zone).replace(second=0, microsecond=0)


def _short_time(ms: int, zone: str) -> str:
    return local_time(ms, zone).strftime("%d %b %H:%M")


_EARLIEST, _LATEST = datetime(1970, 1, 2), datetime(2199, 12, 31)
_STEP_S = 60


@dataclass(frozen=True)
class Range:
    """A range of time, [from_ms, to_ms)."""

    from_ms: int
    to_ms: int

    @property
    def length_ms(self) -> int:
        """Return the length of the range in ms."""
        return self.to_ms - self.from_ms


def fixed_range_picker(choices: Choices, current: Range, zone: str) -> None:
    """Let the user change the range, which the address keeps."""
    if current != range_in_address():
        _set_range(current)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _edge_input(choices, "from", current.from_ms, zone)
        _edge_input(choices, "to", current.to_ms, zone)
        for label, icon, direction in (("Earlier", "chevron_left", -1), ("Later", "chevron_right", 1)):
            st.button(
                label,
                key=choices.key(label.lower()),
                icon=f":material/{icon}:",
                on_click=_set_range,
                args=[
                    Range(
                        current.from_ms + direction * current.length_ms, current.to_ms + direction * current.length_ms
                    )
                ],
            )
        st.button("Newest", key=choices.key("newest"), icon=":material/last_page:", on_click=clear_range)


def clear_range() -> None:
    """Remove the range from the address, so that the next run uses the default range."""
    for name in ("from", "to"):
        st.query_params.pop(name, None)


def _edge_input(choices: Choices, name: str, time_ms: int, zone: str) -> None:
    # The field has only minutes; the exact time in the address remains until the user picks another minute.
    key, local = choices.key(name), local_time(time_ms, zone).replace(second=0, microsecond=0)
    st.session_state[key] = local

    def keep() -> None:
        if (entered := st.session_state[key]) not in (None, local):
            st.query_params[name] = str(time_ms_of(entered, zone))

    label = f"{name.capitalize()}, {zone}"
    st.datetime_input(label, key=key, step=_STEP_S, min_value=_EARLIEST, max_value=_LATEST, on_change=keep, width=210)


def range_in_address() -> Range | None:
    """Return the range in the address, or None if it contains no valid one."""
    values = [st.query_params.get(name, "") for name in ("from", "to")]
    if not all(value.isascii() and value.isdecimal() for value in values):
        return None
    requested = Range(*map(int, values))
    edges = [time_ms_of(edge, "UTC") for edge in (_EARLIEST, _LATEST)]
    # A margin of a day, because a zone may differ from UTC by nearly that much.
    in_bounds = edges[0] + MS_PER_DAY < requested.from_ms and requested.to_ms < edges[1] - MS_PER_DAY
    return requested if in_bounds and requested.from_ms < requested.to_ms else None


def _set_range(chosen: Range) -> None:
    st.query_params["from"], st.query_params["to"] = str(chosen.from_ms), str(chosen.to_ms)


_SAVED_CHOICES = ("frame", "frames", "kind", "studies", "zone", "scale", "fill")


def chart_defaults(visitor: Visitor) -> Mapping[str, str]:
    """Return the visitor's default choices, in the form that an address contains."""
    preferences = preferences_of(visitor)
    return {name: str(getattr(preferences, name)) for name in _SAVED_CHOICES} | {
        "fill": "1" if preferences.fill else ""
    }


def save_as_default(visitor: Visitor, choices: Choices) -> None:
    """Offer to save the current choices as defaults of this account."""
    st.button(
        "Save as my default",
        key=choices.key("save"),
        icon=":material/bookmark:",
        help="Charts open with these choices wherever you sign in. My account shows all preferences.",
        on_click=_save,
        args=(visitor, choices),
    )


def _save(visitor: Visitor, choices: Choices) -> None:
    def action() -> str:
        chosen: dict[str, object] = {name: value for name, value in choices.chosen.items() if name in _SAVED_CHOICES}
        change_preferences(visitor, chosen | {"fill": chosen["fill"] == "1"})
        return "Saved; charts now open with these choices."

    run_action(choices.outcome, action)
