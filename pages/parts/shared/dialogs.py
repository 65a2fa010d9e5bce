"""The dialogs of a page: which one is open, why its action failed, and the result of the last action.

All of it is in the session. Actions run in callbacks, before the page, so a second click finds the dialog closed and
has no effect. Typed values are in the widgets of the dialog and last until it closes.
"""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import streamlit as st

from barmill.platform.errors import ControlError
from barmill.platform.texts import escape_markdown

# The description of an open dialog, such as its kind and its subject.
DialogT = TypeVar("DialogT")


class Dialogs(Generic[DialogT]):
    """The dialogs of a page, whose keys in the session start with `page`."""

    def __init__(self, page: str) -> None:
        self._page = page
        self._open, self._result, self._problem = f"{page}_open", f"{page}_result", f"{page}_problem"

    def open(self, dialog: DialogT) -> None:
        """Open a dialog in the next run."""
        st.session_state[self._open] = dialog
        st.session_state.pop(self._problem, None)

    def current(self) -> DialogT | None:
        """Return the open dialog, or None."""
        dialog: DialogT | None = st.session_state.get(self._open)
        return dialog

    def close(self) -> None:
        """Close the dialog in the next run."""
        st.session_state.pop(self._open, None)
        st.session_state.pop(self._problem, None)

    def act(self, action: Callable[[], str]) -> None:
        """Run an action. On success, keep its sentence and close the dialog; otherwise keep the error's sentence."""
        st.session_state.pop(self._problem, None)
        try:
            st.session_state[self._result] = action()
        except ControlError as error:
            self.set_problem(str(error))
        else:
            self.close()

    def act_once(self, action: Callable[[], str]) -> None:
        """Run the action of the open dialog, unless it has already run."""
        if self.current() is not None:
            self.act(action)

    def set_problem(self, sentence: str) -> None:
        """Store a sentence that explains why nothing was done."""
        st.session_state[self._problem] = sentence

    def take_result(self) -> str | None:
        """Return the result of the last action, once."""
        result: str | None = st.session_state.pop(self._result, None)
        return result

    def show_problem(self) -> None:
        """Show why the last action failed, until the next action."""
        if (problem := st.session_state.get(self._problem)) is not None:
            st.error(escape_markdown(problem), icon=":material/error:")

    def show(self, title: str, content: Callable[[], None], width: Literal["small", "medium", "large"]) -> None:
        """Show the open dialog. It stays open, with its problem, until its action succeeds or the user closes it."""

        def dialog() -> None:
            if self.current() is None:
                st.rerun()  # done: close it, and show the result
            content()
            self.show_problem()

        st.dialog(title, on_dismiss=self.close, width=width)(dialog)()

    def confirm_by_name(self, name: str, verb: str, action: Callable[[], str]) -> None:
        """Show a form that runs the action only after the user has typed the name of what it changes."""
        typed = f"{self._page}_typed"

        def confirm() -> None:
            if st.session_state[typed].strip() == name:
                self.act_once(action)
            else:
                self.set_problem(f"Nothing was done; type {name} exactly to confirm.")

        with st.form(f"{typed}_form", border=False):
            st.text_input(f"Type {escape_markdown(name)} to confirm", key=typed, autocomplete="off")
            st.form_submit_button(verb, key=f"{self._page}_confirm", type="primary", on_click=confirm)
