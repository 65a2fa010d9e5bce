"""Small messages from a fragment to a component that stands outside it, and so is sent to the browser only once."""

from collections.abc import Mapping

import streamlit as st

_update = st.components.v2.component(
    "barmill_update",
    js="export default ({data: {topic, message}}) => {"
    " document.dispatchEvent(new CustomEvent(`barmill:${topic}`, {detail: message})); };",
    isolate_styles=False,
)


def update(topic: str, message: Mapping[str, object]) -> None:
    """Hand a message to whatever in this browser page listens to the topic; call it once a topic and run."""
    _update(key=f"update_{topic}", data={"topic": topic, "message": dict(message)})
