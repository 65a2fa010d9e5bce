"""The state of a page's dialogs."""

import pytest
import streamlit as st

from barmill.platform.errors import ControlError
from pages.parts.shared.dialogs import Dialogs


@pytest.fixture
def dialogs(monkeypatch: pytest.MonkeyPatch) -> Dialogs[str]:
    """The dialogs of a page, one of them open."""
    monkeypatch.setattr(st, "session_state", {})
    dialogs = Dialogs[str]("page")
    dialogs.open("add")
    return dialogs


def test_a_second_click_finds_the_dialog_closed(dialogs: Dialogs[str]) -> None:
    added: list[str] = []

    def add() -> str:
        added.append("key")
        return "The key is added."

    for _ in range(2):
        dialogs.act_once(add)
    assert (added, dialogs.current()) == (["key"], None)
    assert (dialogs.take_result(), dialogs.take_result()) == ("The key is added.", None)


def test_an_action_that_fails_leaves_the_dialog_open_until_it_succeeds(dialogs: Dialogs[str]) -> None:
    def fail() -> str:
        raise ControlError("The name is taken; choose another.")

    dialogs.act_once(fail)
    assert (dialogs.current(), dialogs.take_result()) == ("add", None)
    assert st.session_state["page_problem"] == "The name is taken; choose another."
    dialogs.act_once(lambda: "Added.")
    assert (dialogs.current(), dialogs.take_result()) == (None, "Added.")
    assert "page_problem" not in st.session_state
