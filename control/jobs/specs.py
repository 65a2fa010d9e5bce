"""Job specs: read from what people write, checked, and completed with this home's own places."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from control.errors import ControlError
from control.home import REPO_ROOT, Home
from control.kafka.place import place_of
from control.kafka.settings import KafkaSettings
from flink_jobs.spec import BarsJobSpec

BARS_PROGRAM = REPO_ROOT / "flink_jobs" / "bars.py"
DEFAULT_JOB = "bars"
# Where ticks come from and bars go is the home's business, so that a home can be moved.
_PLACES = {"ticks_db", "bars_db", "kafka"}
_WRITABLE = ", ".join(name for name in BarsJobSpec.model_fields if name not in {*_PLACES, "final_only"})


class JobError(ControlError):
    """A job cannot be made, changed or steered like this; nothing was changed."""


class NoSuchJobError(JobError):
    """There is no job of this name."""


def read_spec(text: str, home: Home, name: str | None = None) -> BarsJobSpec:
    """Read a spec as people write it, under another name if one is given; raise JobError with what is wrong first."""
    try:
        wanted = json.loads(text)
    except json.JSONDecodeError as error:
        raise JobError(f"The spec is not JSON: {error.msg} in line {error.lineno}; mend it and try again.") from error
    if not isinstance(wanted, dict):
        raise JobError('The spec must be a JSON object such as {"name": "bars", "frames": "1s,1m,1h"}.')
    return check_spec(wanted if name is None else {**wanted, "name": name}, home)


def check_spec(wanted: dict[str, Any], home: Home) -> BarsJobSpec:
    """Check a spec's fields; raise JobError with the first thing that is wrong."""
    foreign = sorted(set(wanted) - set(BarsJobSpec.model_fields)) or sorted(_PLACES & set(wanted))
    if foreign:
        raise JobError(f"A spec has no field {foreign[0]}; it may have {_WRITABLE}.")
    if "name" not in wanted:
        raise JobError("The spec names no job; add a name, such as bars-5m.")
    kafka = _kafka(wanted, home)
    # Each shard can be worked on by one slot, so a job that is to use several needs as many.
    shards = kafka.partitions if kafka and wanted.get("source") == "kafka" else wanted.get("parallelism", 1)
    try:
        spec = completed({"shards": shards, **wanted}, home)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ").removesuffix(".")
        raise JobError(f"The spec's {where} is wrong: {what}.") from error
    if kafka is not None and spec.source == "kafka" and spec.shards != kafka.partitions:
        raise JobError(f"A job that reads Kafka has a shard for each partition; set shards to {kafka.partitions}.")
    return spec


def completed(fields: dict[str, Any], home: Home) -> BarsJobSpec:
    """Complete what is kept of a spec with this home's own places."""
    places: dict[str, Any] = {"ticks_db": home.ticks_db, "bars_db": home.bars_db}
    if _wants_kafka(fields):
        places["kafka"] = place_of(KafkaSettings.read(home))
    return BarsJobSpec.model_validate({**fields, **places})


def _kafka(wanted: dict[str, Any], home: Home) -> KafkaSettings | None:
    """Return how Kafka is reached if a job wants it; raise JobError where jobs cannot use it."""
    if not _wants_kafka(wanted):
        return None
    settings = KafkaSettings.read(home)
    if not settings.used:
        raise JobError(f"Kafka is not set up here; start with ./barmill up --kafka, or write {settings.file_name}.")
    if settings.signs_in and settings.job_password_file is None:
        raise JobError(
            "A job signs in to Kafka with a file on Flink's machines; name it as job_password_file in"
            f" {settings.file_name}."
        )
    return settings


def _wants_kafka(fields: dict[str, Any]) -> bool:
    return fields.get("source") == "kafka" or fields.get("sink") in ("kafka", "both")


def stored(spec: BarsJobSpec) -> str:
    """Return a spec as it is kept: without the places."""
    return spec.model_dump_json(exclude=_PLACES)


def written(spec: BarsJobSpec) -> dict[str, Any]:
    """Return a spec as people would write it."""
    fields: dict[str, Any] = json.loads(stored(spec))
    return fields


def write_spec_file(home: Home, spec: BarsJobSpec, version: int) -> Path:
    """Write the file that a run of this version is given; safe to repeat."""
    path = home.flink / "jobs" / f"{spec.name}.v{version}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(spec.model_dump_json(indent=2) + "\n")
    beside.replace(path)
    return path
