"""The forms for a job's spec: by field, or as JSON."""

import json
from collections.abc import Mapping

import streamlit as st

from barmill.model.job_spec import MAX_SHARDS
from barmill.platform.texts import escape_markdown
from control.jobs.service import JobService
from control.jobs.specs import spec_fields
from control.jobs.views import JobDetail
from pages.parts.jobs.dialog_state import run_dialog_change

_EXAMPLE = {"name": "bars-5m", "frames": "5m,15m", "lateness_ms": 300_000, "allowance_ms": 1_000, "shards": 1}
_UPGRADE = (
    "The job is stopped with a savepoint and continues from it as a new version. If the new version does not become"
    " stable (a checkpoint and 20 seconds without a restart), the job returns to the old version and that savepoint."
)
_STOPPED = "The job is stopped, so the new version applies from its next start."
_HELP = {
    "name": "Lowercase letters, digits and dashes. The name of a job cannot change.",
    "frames": "Lengths of the bars, each a whole number and a unit: s, m, h, d or w.",
    "lateness": "How much older than its instrument's newest tick a tick may be and still enter its bar.",
    "allowance": "How long a bar stays open after its end for out-of-order ticks.",
    "shards": "The number of parts that instruments are divided into. It limits the job's slots and cannot change.",
    "slots": "The number of task slots that the job uses; slots beyond the number of shards have no effect.",
    "source": "The source of ticks; it cannot change. With Kafka, the number of shards is the number of partitions.",
    "sink": "The destination of bars; it cannot change. Pages read bars that go only to Kafka from a copy.",
}
_STORE_NAMES = {"sqlite": "SQLite", "kafka": "Kafka", "both": "Both"}


def create_form(*, with_kafka: bool) -> None:
    """Show the forms for a new job's spec; with Kafka, the form by field includes source and sink."""
    by_field, as_json = st.tabs(["Form", "JSON"])
    with by_field, st.form("jobs_create_form", border=False):
        if with_kafka:
            _source_and_sink()
        _fields(_EXAMPLE | {"parallelism": 1}, is_new=True)
        st.form_submit_button("Create", key="jobs_submit", type="primary", on_click=_create_from_fields)
    with as_json, st.form("jobs_json_form", border=False):
        st.text_area("Spec", json.dumps(_EXAMPLE, indent=2), key="jobs_json", height=220)
        st.form_submit_button("Create", key="jobs_submit_json", type="primary", on_click=_create_from_json)


def edit_form(detail: JobDetail) -> None:
    """Show the forms for a new version of a job."""
    name, spec = detail.view.name, spec_fields(detail.spec)
    st.markdown(_STOPPED if detail.view.desired == "stopped" else _UPGRADE)
    by_field, as_json = st.tabs(["Form", "JSON"])
    with by_field, st.form("jobs_edit_form", border=False):
        _fields(spec, is_new=False)
        st.form_submit_button(
            "Upgrade",
            key="jobs_submit",
            type="primary",
            on_click=lambda: _edit(name, json.dumps(spec | _field_values())),
        )
    with as_json, st.form("jobs_json_form", border=False):
        st.text_area("Spec", json.dumps(spec, indent=2), key="jobs_json", height=320)
        st.form_submit_button(
            "Upgrade",
            key="jobs_submit_json",
            type="primary",
            on_click=lambda: _edit(name, st.session_state["jobs_json"]),
        )


def _fields(spec: Mapping[str, object], *, is_new: bool) -> None:
    if is_new:
        st.text_input("Name", key="jobs_name", placeholder=str(spec["name"]), help=_HELP["name"], autocomplete="off")
    st.text_input("Frames", str(spec["frames"]), key="jobs_frames", help=_HELP["frames"], autocomplete="off")
    left, right = st.columns(2)
    _seconds_input(left, "Lateness, s", "jobs_lateness", spec["lateness_ms"], _HELP["lateness"])
    _seconds_input(right, "Allowance, s", "jobs_allowance", spec["allowance_ms"], _HELP["allowance"])
    shards = int(str(spec["shards"]))
    left.number_input("Shards", 1, MAX_SHARDS, shards, key="jobs_shards", help=_HELP["shards"], disabled=not is_new)
    slots = int(str(spec["parallelism"]))
    right.number_input("Slots", 1, MAX_SHARDS, slots, key="jobs_parallelism", help=_HELP["slots"])


def _source_and_sink() -> None:
    left, right = st.columns(2)
    names = _STORE_NAMES.__getitem__
    left.selectbox("Ticks from", ["kafka", "sqlite"], format_func=names, key="jobs_source", help=_HELP["source"])
    right.selectbox("Bars to", ["kafka", "sqlite", "both"], format_func=names, key="jobs_sink", help=_HELP["sink"])


def _seconds_input(
    column: st.delta_generator.DeltaGenerator, label: str, key: str, value_ms: object, help_text: str
) -> None:
    column.number_input(label, 0.0, None, int(str(value_ms)) / 1_000, step=1.0, format="%g", key=key, help=help_text)


def _field_values() -> dict[str, object]:
    """Return the values of the fields, except the name."""
    state = st.session_state
    return {
        "frames": state["jobs_frames"],
        "lateness_ms": round(state["jobs_lateness"] * 1_000),
        "allowance_ms": round(state["jobs_allowance"] * 1_000),
        "shards": state["jobs_shards"],
        "parallelism": state["jobs_parallelism"],
    }


def _create_from_fields() -> None:
    state, values = st.session_state, _field_values()
    if "jobs_source" in state:
        values |= {"source": state["jobs_source"], "sink": state["jobs_sink"]}
        if values["source"] == "kafka":
            del values["shards"]  # it is the topic's number of partitions
    text = json.dumps({"name": state["jobs_name"].strip(), **values})
    run_dialog_change(lambda service: _create(service, text))


def _create_from_json() -> None:
    run_dialog_change(lambda service: _create(service, st.session_state["jobs_json"]))


def _create(service: JobService, text: str) -> str:
    name = service.create(text).name
    st.query_params["job"] = name
    return f"Created {escape_markdown(name)}; it is stopped."


def _edit(name: str, text: str) -> None:
    def edit(service: JobService) -> str:
        if service.edit(name, text) is None:
            return f"Edited {name}; the new version applies from its next start."
        return f"{name} is being upgraded."

    run_dialog_change(edit)
