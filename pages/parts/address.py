"""Choices that are kept in the address, so that a link reopens the view."""

from collections.abc import Sequence

import streamlit as st


def picked(name: str, options: Sequence[str], usual: str, *, page: str) -> str:
    """Let the user pick one of the options, kept in the address under this name; what is no option is `usual`."""
    key, asked = f"{page}_{name}", st.query_params.get(name)
    if asked in options:
        st.session_state[key] = asked
    elif st.session_state.get(key) not in options:
        st.session_state[key] = usual

    def keep() -> None:
        st.query_params[name] = st.session_state[key]

    st.segmented_control(
        name.capitalize(),
        options,
        format_func=str.capitalize,
        key=key,
        required=True,
        on_change=keep,
        label_visibility="collapsed",
    )
    choice = str(st.session_state[key])
    if asked != choice:
        st.query_params[name] = choice
    return choice
