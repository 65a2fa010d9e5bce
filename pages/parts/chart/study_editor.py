"""The editor of the studies over a chart: add, remove, and change parameters. It writes the text used in links."""

import streamlit as st

from barmill.charts.studies import MAX_STUDIES, STUDIES, Study, StudyError, parse_studies, studies_text
from barmill.platform.texts import escape_markdown
from pages.parts.shared.choices import Choices


def study_editor(choices: Choices) -> tuple[Study, ...]:
    """Let the user choose studies; return them."""
    text = choices.text("studies", _is_readable, invalid_text="Invalid")
    studies = parse_studies(text)
    label = "Studies" if not studies else f"Studies ({len(studies)})"
    with st.popover(label, icon=":material/show_chart:"):
        for index, study in enumerate(studies):
            _row(choices, studies, index, study)
        if not studies:
            st.caption("Add a study to the chart.")
        key = choices.key("add_study")
        if len(studies) < MAX_STUDIES:
            st.selectbox(
                "Add a study",
                list(STUDIES),
                index=None,
                key=key,
                format_func=lambda name: STUDIES[name].title,
                on_change=lambda: _add(choices, studies, key),
                placeholder="Add a study",
                label_visibility="collapsed",
            )
        with st.form(choices.key("studies_form"), border=False):
            entered = st.text_input("Or enter them as text", studies_text(studies), placeholder="sma:20,rsi:14")
            if st.form_submit_button("Apply"):
                _apply(choices, entered)
    return studies


def _row(choices: Choices, studies: tuple[Study, ...], index: int, study: Study) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(f"**{study.kind.short}**", width=90, help=study.kind.title)
        for parameter, number in zip(study.kind.parameters, study.numbers, strict=True):
            key, is_whole = choices.key(f"{index}_{study.text}_{parameter.name}"), parameter.is_whole
            st.number_input(
                parameter.name.capitalize(),
                int(parameter.minimum) if is_whole else float(parameter.minimum),
                int(parameter.maximum) if is_whole else float(parameter.maximum),
                int(number) if is_whole else float(number),
                1 if is_whole else 0.1,
                key=key,
                width=110,
                on_change=_change_parameter,
                args=(choices, studies, index, parameter.name, key),
            )
        st.button(
            "Remove",
            key=choices.key(f"remove_{index}_{study.text}"),
            icon=":material/close:",
            help=f"Remove {study.label}",
            on_click=lambda: choices.keep("studies", studies_text([*studies[:index], *studies[index + 1 :]])),
        )


def _add(choices: Choices, studies: tuple[Study, ...], key: str) -> None:
    if (name := st.session_state[key]) is not None:
        # Parsed again to remove a duplicate.
        choices.keep("studies", studies_text(parse_studies(f"{studies_text(studies)},{name}")))
        st.session_state[key] = None


def _change_parameter(choices: Choices, studies: tuple[Study, ...], index: int, name: str, key: str) -> None:
    study = studies[index]
    names = [parameter.name for parameter in study.kind.parameters]
    numbers = (
        st.session_state[key] if parameter == name else old_number
        for parameter, old_number in zip(names, study.numbers, strict=True)
    )
    changed = Study(study.name, tuple(numbers))
    text = studies_text([*studies[:index], changed, *studies[index + 1 :]])
    try:
        parse_studies(text)
    except StudyError as error:
        choices.reject(str(error))
    else:
        choices.keep("studies", text)


def _apply(choices: Choices, entered: str) -> None:
    try:
        choices.keep("studies", studies_text(parse_studies(entered)))
    except StudyError as error:
        st.error(escape_markdown(str(error)))
    else:
        st.rerun()


def _is_readable(text: str) -> bool:
    try:
        parse_studies(text)
    except StudyError:
        return False
    return True
