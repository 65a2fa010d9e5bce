"""The editor of the studies over a chart: add, change the numbers, remove. Writes the text that a link has."""

import streamlit as st

from charts.studies import MOST_STUDIES, STUDIES, Study, StudyError, parse_studies, studies_text
from charts.texts import plain
from pages.parts.choices import Choices


def study_editor(choices: Choices) -> tuple[Study, ...]:
    """Let the user choose studies."""
    text = choices.text("studies", _readable, wrong="Not all of these are")
    studies = parse_studies(text)
    label = "Studies" if not studies else f"Studies ({len(studies)})"
    with st.popover(label, icon=":material/show_chart:"):
        for place, study in enumerate(studies):
            _row(choices, studies, place, study)
        if not studies:
            st.caption("Pick a study to lay over the chart.")
        key = choices.key("add_study")
        if len(studies) < MOST_STUDIES:
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
            typed = st.text_input("Or write them", studies_text(studies), placeholder="sma:20,rsi:14")
            if st.form_submit_button("Apply"):
                _apply(choices, typed)
    return studies


def _row(choices: Choices, studies: tuple[Study, ...], place: int, study: Study) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(f"**{study.kind.short}**", width=90, help=study.kind.title)
        for parameter, number in zip(study.kind.parameters, study.numbers, strict=True):
            key, whole = choices.key(f"{place}_{study.text}_{parameter.name}"), parameter.whole
            st.number_input(
                parameter.name.capitalize(),
                int(parameter.least) if whole else float(parameter.least),
                int(parameter.most) if whole else float(parameter.most),
                int(number) if whole else float(number),
                1 if whole else 0.1,
                key=key,
                width=110,
                on_change=_renumber,
                args=(choices, studies, place, parameter.name, key),
            )
        st.button(
            "Remove",
            key=choices.key(f"remove_{place}_{study.text}"),
            icon=":material/close:",
            help=f"Remove {study.label}",
            on_click=lambda: choices.keep("studies", studies_text([*studies[:place], *studies[place + 1 :]])),
        )


def _add(choices: Choices, studies: tuple[Study, ...], key: str) -> None:
    if (name := st.session_state[key]) is not None:
        # Read again, so that one that is there already is not there twice.
        choices.keep("studies", studies_text(parse_studies(f"{studies_text(studies)},{name}")))
        st.session_state[key] = None


def _renumber(choices: Choices, studies: tuple[Study, ...], place: int, name: str, key: str) -> None:
    study = studies[place]
    names = [parameter.name for parameter in study.kind.parameters]
    numbers = (st.session_state[key] if one == name else old for one, old in zip(names, study.numbers, strict=True))
    changed = Study(study.name, tuple(numbers))
    text = studies_text([*studies[:place], changed, *studies[place + 1 :]])
    try:
        parse_studies(text)
    except StudyError as error:
        choices.refuse(str(error))
    else:
        choices.keep("studies", text)


def _apply(choices: Choices, typed: str) -> None:
    try:
        choices.keep("studies", studies_text(parse_studies(typed)))
    except StudyError as error:
        st.error(plain(str(error)))
    else:
        st.rerun()


def _readable(text: str) -> bool:
    try:
        parse_studies(text)
    except StudyError:
        return False
    return True
