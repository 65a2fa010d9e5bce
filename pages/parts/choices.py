"""Choices on chart pages. The address says them, so that a link reopens the view; a bare address means the last ones.

What is chosen stands in the session under the page's name. An address wins over it, except where it says what there is
not; then a message says so.
"""

from collections.abc import Callable, Mapping

import streamlit as st

from charts.texts import plain


class Choices:
    """The choices of one page. usual: what holds for a visitor who never chose."""

    def __init__(self, page: str, usual: Mapping[str, str]) -> None:
        self._page, self._usual = page, usual
        kept_key = f"{page}_choices"
        self._kept: dict[str, str] = st.session_state.setdefault(kept_key, {})
        self._chosen: dict[str, str] = {}

    @property
    def chosen(self) -> Mapping[str, str]:
        """Return what was asked for so far in this run, by name."""
        return self._chosen

    @property
    def told(self) -> str:
        """Return the key under which callbacks keep what they have to say (pages/parts/told.py)."""
        return self.key("told")

    def refuse(self, sentence: str) -> None:
        """Have the page say, in passing, why a choice was not taken."""
        st.session_state[self.told] = (False, sentence)

    def key(self, name: str) -> str:
        """Return the key of the widget for this choice."""
        return f"{self._page}_{name}"

    def text(
        self,
        name: str,
        fits: Callable[[str], bool],
        usual: str | None = None,
        *,
        shown: bool = False,
        wrong: str = "There is no",
    ) -> str:
        """Return what is chosen under this name.

        shown: the address always says it, not only where it is unusual. wrong: how the message begins that says that
        what the address asks for is not to be had.
        """
        usual = self._usual.get(name, "") if usual is None else usual
        asked, kept = st.query_params.get(name), self._kept.get(name, usual)
        choice = next((one for one in (asked, kept, usual) if one is not None and fits(one)), "")
        if asked is not None and asked != choice:
            st.toast(f"{wrong} {name} {plain(asked)}; this is {plain(choice or 'none')}.")
        self.keep(name, choice, shown=shown or asked is not None)
        return choice

    def moment_ms(self, name: str) -> int | None:
        """Return a moment that the address says, None without one; no page remembers moments."""
        asked = st.query_params.get(name, "")
        if asked and not asked.removeprefix("-").isdecimal():
            st.toast(f"{name} is not a moment: write milliseconds since 1970.")
            del st.query_params[name]
            return None
        return int(asked) if asked else None

    def keep(self, name: str, choice: str, *, shown: bool = True) -> None:
        """Remember a choice, and have the address say it."""
        usual = choice == self._usual.get(name, "")
        self._chosen[name] = choice
        if usual:
            # Not kept, so that what is usual can still become another.
            self._kept.pop(name, None)
        else:
            self._kept[name] = choice
        if shown or not usual:
            if st.query_params.get(name) != choice:
                st.query_params[name] = choice
        elif name in st.query_params:
            del st.query_params[name]

    def follow(self, name: str) -> Callable[[], None]:
        """Return the callback of the widget for this choice."""

        def keep() -> None:
            self.keep(name, str(st.session_state[self.key(name)]))

        return keep
