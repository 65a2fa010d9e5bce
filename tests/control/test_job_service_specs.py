"""How jobs come to be, and how what they are to do is changed."""

import json
from pathlib import Path

import pytest

from barmill.platform.home import Home
from control.jobs.model import Desired, Kind, OperationParameters
from control.jobs.service import JobService
from control.jobs.specs import JobError, NoSuchJobError, read_spec, spec_fields
from tests.support.job_services import running, spec_text, trail
from tests.support.job_services import service as service


def test_a_job_is_made_stopped_and_its_record_holds_the_spec(service: JobService) -> None:
    spec = service.create(spec_text("bars-5m", frames=["5m", "15m"], parallelism=2))
    job = service.repository.job("bars-5m")
    assert (job.version, job.desired, job.fresh_after_run) == (1, Desired.STOPPED, 0)
    assert (spec.frames, spec.parallelism, spec.shards) == ("5m,15m", 2, 2)
    assert (spec.ticks_db, spec.bars_db) == (service.repository.home.ticks_db, service.repository.home.bars_db)
    assert service.repository.open_operation("bars-5m") is None
    (made,) = trail(service)
    assert (made.actor, made.action, made.subject, made.stage) == ("ada", "job.create", "bars-5m", "executed")
    assert json.loads(str(made.after)) == spec_fields(spec)


def test_a_name_is_given_once(service: JobService) -> None:
    service.create(spec_text())
    with pytest.raises(JobError, match="A job bars already exists; choose another name, or edit that job"):
        service.create(spec_text(frames="5m"))
    assert [record.stage for record in trail(service)] == ["refused", "executed"]
    assert service.repository.spec("bars", 1).frames == "1s,1m,1h"


def test_a_clone_is_the_same_but_for_its_name_and_stopped(service: JobService) -> None:
    service.create(spec_text(frames="5m", lateness_ms=1_000))
    service.start("bars")
    clone = service.clone("bars", "bars-2")
    assert spec_fields(clone) == spec_fields(service.repository.spec("bars", 1)) | {"name": "bars-2"}
    assert service.repository.job("bars-2").desired is Desired.STOPPED
    with pytest.raises(JobError, match="A job bars-2 already exists"):
        service.clone("bars", "bars-2")
    with pytest.raises(NoSuchJobError, match="There is no job barz; existing jobs: bars, bars-2"):
        service.clone("barz", "bars-3")


BAD_SPECS = {
    "": "The spec is not valid JSON: Expecting value on line 1; correct it and try again.",
    '{"name": "x",}': "The spec is not valid JSON: Expecting property name enclosed in double quotes on line 1;",
    '{\n"name": x}': "The spec is not valid JSON: Expecting value on line 2; correct it and try again.",
    "[]": 'The spec must be a JSON object such as {"name": "bars", "frames": "1s,1m,1h"}.',
    "null": "The spec must be a JSON object such as",
    '"bars"': "The spec must be a JSON object such as",
    "{}": "The spec has no name; add one, such as bars-5m.",
    '{"name": ""}': "The spec's name is invalid: use 1 to 40 lowercase letters",
    '{"name": "Bars"}': "The spec's name is invalid: use 1 to 40 lowercase letters",
    '{"name": "../bars"}': "The spec's name is invalid: use 1 to 40 lowercase letters",
    '{"name": 7}': "The spec's name is invalid: Input should be a valid string.",
    '{"name": "x", "frame": "1s"}': "A spec has no field frame; its fields are name, source, sink, frames, lateness_ms",
    '{"name": "x", "ticks_db": "/etc/passwd"}': "A spec has no field ticks_db; its fields are",
    '{"name": "x", "bars_db": "/tmp/b"}': "A spec has no field bars_db; its fields are",
    '{"name": "x", "frames": ""}': "The spec's frames is invalid: '' is not a time frame: write a whole number and one",
    '{"name": "x", "frames": "1s,1y"}': "The spec's frames is invalid: '1y' is not a time frame: write a whole number",
    '{"name": "x", "frames": [1]}': 'The spec\'s frames is invalid: frames are written like "1s,1m,1h".',
    '{"name": "x", "lateness_ms": -1}': "The spec's lateness_ms is invalid: Input should be greater than or equal to",
    '{"name": "x", "lateness_ms": "soon"}': "The spec's lateness_ms is invalid: Input should be a valid integer",
    '{"name": "x", "allowance_ms": 0.5}': "The spec's allowance_ms is invalid: Input should be a valid integer",
    '{"name": "x", "shards": 0}': "The spec's shards is invalid: Input should be greater than or equal to 1.",
    '{"name": "x", "shards": 129}': "The spec's shards is invalid: Input should be less than or equal to 128.",
    '{"name": "x", "parallelism": null}': "is invalid: Input should be a valid integer.",
    '{"name": "x", "poll_ms": 1}': "The spec's poll_ms is invalid: Input should be greater than or equal to 10.",
    '{"name": "x", "source": "files"}': "The spec's source is invalid: Input should be 'sqlite' or 'kafka'.",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_SPECS.items())
def test_a_spec_that_is_wrong_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(JobError) as refused:
        read_spec(text, Home(tmp_path))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not str(refused.value).endswith("..")
    assert "pydantic" not in str(refused.value)


def test_a_spec_that_is_wrong_makes_no_job(service: JobService) -> None:
    for text in BAD_SPECS:
        with pytest.raises(JobError):
            service.create(text)
    assert service.repository.jobs() == []
    assert trail(service) == []


def test_an_edit_of_a_stopped_job_counts_from_its_next_start_on(service: JobService) -> None:
    service.create(spec_text())
    assert service.edit("bars", spec_text(frames="5m")) is None
    assert service.repository.job("bars").version == 2
    assert [(version.version, version.spec.frames) for version in service.repository.versions("bars", 9)] == [
        (2, "5m"),
        (1, "1s,1m,1h"),
    ]
    edited = trail(service)[0]
    assert (edited.action, edited.stage) == ("job.edit", "executed")
    before, after = json.loads(str(edited.before)), json.loads(str(edited.after))
    assert (before["frames"], after["frames"]) == ("1s,1m,1h", "5m")


def test_an_edit_of_a_job_that_should_run_is_an_upgrade_and_leaves_the_version_to_the_controller(
    service: JobService,
) -> None:
    running(service)
    operation = service.edit("bars", spec_text(frames="5m"))
    assert operation is not None
    assert (operation.kind, operation.parameters) == (Kind.UPGRADE, OperationParameters(from_version=1, to_version=2))
    assert service.repository.job("bars").version == 1
    assert trail(service)[0].trace_id == operation.id
    assert trail(service)[0].stage == "issued"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (spec_text("other"), "The spec is for other, not for bars; a job cannot be renamed, but it can be cloned."),
        (spec_text(shards=2), "The number of shards of bars (1) cannot change; clone the job to use another number."),
        (spec_text(), "bars already has this spec; nothing was changed."),
        ("{", "The spec is not valid JSON: "),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(service: JobService, text: str, sentence: str) -> None:
    service.create(spec_text())
    with pytest.raises(JobError) as refused:
        service.edit("bars", text)
    assert str(refused.value).startswith(sentence)
    assert service.repository.newest_version("bars") == 1
