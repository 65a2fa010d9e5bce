"""How charts open for a visitor: as they prefer, which they can set from the chart itself."""

from collections.abc import Mapping

import streamlit as st

from pages.parts.choices import Choices
from pages.parts.my_preferences import keep, mine
from pages.parts.told import attempt
from pages.parts.visitor import Visitor

_KEPT = ("frame", "frames", "kind", "studies", "zone", "scale", "fill")


def chart_defaults(one: Visitor) -> Mapping[str, str]:
    """Return the usual choices of a visitor, as an address would say them."""
    kept = mine(one)
    return {name: str(getattr(kept, name)) for name in _KEPT} | {"fill": "1" if kept.fill else ""}


def save_as_default(one: Visitor, choices: Choices) -> None:
    """Offer to open charts as they are chosen here from now on, for this account, wherever it signs in."""
    st.button(
        "Save as my default",
        key=choices.key("save"),
        icon=":material/bookmark:",
        help="Charts open like this from now on, wherever you sign in. My account shows all preferences.",
        on_click=_save,
        args=(one, choices),
    )


def _save(one: Visitor, choices: Choices) -> None:
    def work() -> str:
        chosen: dict[str, object] = {name: value for name, value in choices.chosen.items() if name in _KEPT}
        keep(one, chosen | {"fill": chosen["fill"] == "1"})
        return "Saved; charts open like this from now on."

    attempt(choices.told, work)
