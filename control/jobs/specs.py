"""Job specs: read from user input, checked, and completed with the paths and Kafka settings of this home.

For a spec that uses Kafka, the functions raise SettingsError if the Kafka settings are invalid.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from barmill.model.job_spec import BarsJobSpec, KafkaJobSettings
from barmill.platform.errors import ControlError
from barmill.platform.file_replacement import replace_file
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.kafka_settings import KafkaSettings

BARS_PROGRAM = REPO_ROOT / "flink_jobs" / "bars.py"
DEFAULT_JOB = "bars"
# The home supplies the locations of ticks and bars, so that it can be moved.
_LOCATIONS = {"ticks_db", "bars_db", "kafka"}
_WRITABLE = ", ".join(name for name in BarsJobSpec.model_fields if name not in {*_LOCATIONS, "final_only"})


class JobError(ControlError):
    """A request for a job is invalid; nothing was changed."""


class NoSuchJobError(JobError):
    """There is no job of this name, or it has no such version."""


def read_spec(text: str, home: Home, name: str | None = None) -> BarsJobSpec:
    """Read a spec in JSON, under another name if given; raise JobError with the first error."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise JobError(
            f"The spec is not valid JSON: {error.msg} on line {error.lineno}; correct it and try again."
        ) from error
    if not isinstance(values, dict):
        raise JobError('The spec must be a JSON object such as {"name": "bars", "frames": "1s,1m,1h"}.')
    return check_spec(values if name is None else {**values, "name": name}, home)


def check_spec(values: dict[str, Any], home: Home) -> BarsJobSpec:
    """Check a spec's fields and return the complete spec; raise JobError with the first error."""
    unknown = sorted(set(values) - set(BarsJobSpec.model_fields)) or sorted(_LOCATIONS & set(values))
    if unknown:
        raise JobError(f"A spec has no field {unknown[0]}; its fields are {_WRITABLE}.")
    if "name" not in values:
        raise JobError("The spec has no name; add one, such as bars-5m.")
    kafka = _kafka(values, home)
    # One slot at a time processes a shard, so the job needs at least as many shards as slots.
    shards = kafka.partitions if kafka and values.get("source") == "kafka" else values.get("parallelism", 1)
    try:
        spec = complete_spec({"shards": shards, **values}, home)
    except ValidationError as error:
        first_error = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first_error["loc"])
        problem = first_error["msg"].removeprefix("Value error, ").removesuffix(".")
        if first_error["type"] == "string_pattern_mismatch":  # only the name has a pattern
            problem = "use 1 to 40 lowercase letters, digits and dashes, and start with a letter"
        raise JobError(f"The spec's {field} is invalid: {problem}.") from error
    if kafka is not None and spec.source == "kafka" and spec.shards != kafka.partitions:
        raise JobError(f"A job that reads from Kafka needs one shard per partition; set shards to {kafka.partitions}.")
    return spec


def complete_spec(fields: dict[str, Any], home: Home) -> BarsJobSpec:
    """Return a spec with these fields and the locations of this home; raise ValidationError if a field is invalid."""
    locations: dict[str, Any] = {"ticks_db": home.ticks_db, "bars_db": home.bars_db}
    if _uses_kafka(fields):
        locations["kafka"] = KafkaJobSettings.of(KafkaSettings.read(home))
    return BarsJobSpec.model_validate({**fields, **locations})


def _kafka(values: dict[str, Any], home: Home) -> KafkaSettings | None:
    """Return the Kafka settings if a job uses Kafka, else None; raise JobError if jobs cannot use it."""
    if not _uses_kafka(values):
        return None
    settings = KafkaSettings.read(home)
    if not settings.is_used:
        raise JobError(f"Kafka is not configured; start with ./barmill up --kafka, or create {settings.file_name}.")
    if settings.signs_in and settings.job_password_file is None:
        raise JobError(
            "A job reads its Kafka password from a file on Flink's machines; set job_password_file in"
            f" {settings.file_name}."
        )
    return settings


def _uses_kafka(fields: dict[str, Any]) -> bool:
    return fields.get("source") == "kafka" or fields.get("sink") in ("kafka", "both")


def stored_text(spec: BarsJobSpec) -> str:
    """Return the stored form of a spec: JSON without locations."""
    return spec.model_dump_json(exclude=_LOCATIONS)


def spec_fields(spec: BarsJobSpec) -> dict[str, Any]:
    """Return the fields of a spec as a user writes them."""
    fields: dict[str, Any] = json.loads(stored_text(spec))
    return fields


def write_spec_file(home: Home, spec: BarsJobSpec, version: int) -> Path:
    """Write the spec file that runs of this version read, and return its path; safe to repeat."""
    path = home.flink / "jobs" / f"{spec.name}.v{version}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, spec.model_dump_json(indent=2) + "\n")
    return path
