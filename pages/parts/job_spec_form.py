"""The forms in which a job's spec is written: field by field, or as JSON."""

import json
from collections.abc import Mapping

import streamlit as st

from charts.texts import plain
from control.jobs.book import JobBook
from control.jobs.specs import written
from control.jobs.views import JobDetail
from flink_jobs.spec import MAX_SHARDS
from pages.parts.job_asking import do_in_dialog

_EXAMPLE = {"name": "bars-5m", "frames": "5m,15m", "lateness_ms": 300_000, "allowance_ms": 1_000, "shards": 1}
_UPGRADE = (
    "The job is stopped with a savepoint and goes on from it as a new version. If that does not become stable, which"
    " takes a checkpoint and 20 seconds without a restart, the old version is put back from the same savepoint."
)
_STOPPED = "The job is stopped, so the new version counts from its next start on."
_HELP = {
    "name": "Small letters, digits and dashes. A job keeps its name for life.",
    "frames": "The lengths of the bars, each a whole number and one of s, m, h, d, w.",
    "lateness": "How much older than its instrument's newest tick a tick may be and still get into its bar.",
    "allowance": "How long after its end a bar stays open for ticks out of order.",
    "shards": "Into how many parts the instruments are split: the most slots the job can ever use, fixed for its life.",
    "slots": "How many task slots the job uses; more than it has shards are of no use.",
    "source": "Where the job reads ticks, for life. From Kafka it has as many shards as there are partitions.",
    "sink": "Where the job publishes bars, for life. What goes to Kafka only is brought from there to the pages.",
}
_ENDS = {"sqlite": "SQLite", "kafka": "Kafka", "both": "Both"}


def create_form(*, with_kafka: bool) -> None:
    """Ask for the spec of a new job; with Kafka, also for its ends."""
    by_field, as_json = st.tabs(["Form", "JSON"])
    with by_field, st.form("jobs_create_form", border=False):
        if with_kafka:
            _ends()
        _fields(_EXAMPLE | {"parallelism": 1}, new=True)
        st.form_submit_button("Create", key="jobs_submit", type="primary", on_click=_create_from_fields)
    with as_json, st.form("jobs_json_form", border=False):
        st.text_area("Spec", json.dumps(_EXAMPLE, indent=2), key="jobs_json", height=220)
        st.form_submit_button("Create", key="jobs_submit_json", type="primary", on_click=_create_from_json)


def edit_form(detail: JobDetail) -> None:
    """Ask for a new version of a job."""
    name, spec = detail.view.name, written(detail.spec)
    st.markdown(_STOPPED if detail.view.desired == "stopped" else _UPGRADE)
    by_field, as_json = st.tabs(["Form", "JSON"])
    with by_field, st.form("jobs_edit_form", border=False):
        _fields(spec, new=False)
        st.form_submit_button(
            "Upgrade", key="jobs_submit", type="primary", on_click=lambda: _edit(name, json.dumps(spec | _given()))
        )
    with as_json, st.form("jobs_json_form", border=False):
        st.text_area("Spec", json.dumps(spec, indent=2), key="jobs_json", height=320)
        st.form_submit_button(
            "Upgrade",
            key="jobs_submit_json",
            type="primary",
            on_click=lambda: _edit(name, st.session_state["jobs_json"]),
        )


def _fields(spec: Mapping[str, object], *, new: bool) -> None:
    if new:
        st.text_input("Name", key="jobs_name", placeholder=str(spec["name"]), help=_HELP["name"], autocomplete="off")
    st.text_input("Frames", str(spec["frames"]), key="jobs_frames", help=_HELP["frames"], autocomplete="off")
    left, right = st.columns(2)
    _seconds(left, "Lateness, s", "jobs_lateness", spec["lateness_ms"], _HELP["lateness"])
    _seconds(right, "Allowance, s", "jobs_allowance", spec["allowance_ms"], _HELP["allowance"])
    shards = int(str(spec["shards"]))
    left.number_input("Shards", 1, MAX_SHARDS, shards, key="jobs_shards", help=_HELP["shards"], disabled=not new)
    slots = int(str(spec["parallelism"]))
    right.number_input("Slots", 1, MAX_SHARDS, slots, key="jobs_parallelism", help=_HELP["slots"])


def _ends() -> None:
    left, right = st.columns(2)
    names = _ENDS.__getitem__
    left.selectbox("Ticks from", ["kafka", "sqlite"], format_func=names, key="jobs_source", help=_HELP["source"])
    right.selectbox("Bars to", ["kafka", "sqlite", "both"], format_func=names, key="jobs_sink", help=_HELP["sink"])


def _seconds(place: st.delta_generator.DeltaGenerator, label: str, key: str, value_ms: object, what: str) -> None:
    place.number_input(label, 0.0, None, int(str(value_ms)) / 1_000, step=1.0, format="%g", key=key, help=what)


def _given() -> dict[str, object]:
    """Return what was written into the fields, but for the name."""
    state = st.session_state
    return {
        "frames": state["jobs_frames"],
        "lateness_ms": round(state["jobs_lateness"] * 1_000),
        "allowance_ms": round(state["jobs_allowance"] * 1_000),
        "shards": state["jobs_shards"],
        "parallelism": state["jobs_parallelism"],
    }


def _create_from_fields() -> None:
    state, given = st.session_state, _given()
    if "jobs_source" in state:
        given |= {"source": state["jobs_source"], "sink": state["jobs_sink"]}
        if given["source"] == "kafka":
            del given["shards"]  # the topic decides
    text = json.dumps({"name": state["jobs_name"].strip(), **given})
    do_in_dialog(lambda book: _created(book, text))


def _create_from_json() -> None:
    do_in_dialog(lambda book: _created(book, st.session_state["jobs_json"]))


def _created(book: JobBook, text: str) -> str:
    name = book.create(text).name
    st.query_params["job"] = name
    return f"Created {plain(name)}; it is stopped. Start it when you like."


def _edit(name: str, text: str) -> None:
    def edit(book: JobBook) -> str:
        if book.edit(name, text) is None:
            return f"Edited {name}; the new version counts from its next start on."
        return f"{name} is being upgraded."

    do_in_dialog(edit)
