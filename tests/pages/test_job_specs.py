"""Jobs are created, edited, cloned and rescaled in dialogs of the jobs page."""

import pytest

from barmill.audit.roles import Role
from barmill.platform.kafka_settings import KafkaSettings
from control.jobs.model import Kind
from control.jobs.service import JobService
from control.jobs.specs import spec_fields
from tests.pages.conftest import LookAs, address, choose, job_page, opened, texts, under_way
from tests.support.controller import PlayedController
from tests.support.kafka_broker import write_settings

pytestmark = pytest.mark.usefixtures("use_home")


def test_a_job_is_created_field_by_field(service: JobService, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = opened("jobs")
    app.button(key="jobs_create").click().run()
    app.text_input(key="jobs_name").set_value("bars-4h")
    app.text_input(key="jobs_frames").set_value("4h, 1d")
    app.number_input(key="jobs_lateness").set_value(90.5)
    app.number_input(key="jobs_shards").set_value(8)
    app.number_input(key="jobs_parallelism").set_value(2)
    app.button(key="jobs_submit").click().run()
    assert not app.exception
    spec = service.repository.spec("bars-4h", 1)
    assert (spec.frames, spec.lateness_ms, spec.allowance_ms, spec.shards, spec.parallelism) == (
        "4h,1d",
        90_500,
        1_000,
        8,
        2,
    )
    assert address(app) == {"job": "bars-4h"}


def test_where_kafka_is_used_a_job_is_created_with_its_ends(service: JobService, look_as: LookAs) -> None:
    write_settings(service.repository.home.root, KafkaSettings(bootstrap="127.0.0.1:9092", partitions=6))
    look_as(Role.ADMIN)
    app = opened("jobs")
    app.button(key="jobs_create").click().run()
    app.text_input(key="jobs_name").set_value("to-both")
    app.selectbox(key="jobs_sink").set_value("both")
    app.button(key="jobs_submit").click().run()
    assert not app.exception
    spec = service.repository.spec("to-both", 1)
    assert (spec.source, spec.sink, spec.shards) == ("kafka", "both", 6)


def test_a_spec_that_is_wrong_stays_in_the_dialog_with_the_sentence(service: JobService, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = opened("jobs")
    app.button(key="jobs_create").click().run()
    app.text_area(key="jobs_json").set_value('{"name": "bars", "frames": "1x"}')
    app.button(key="jobs_submit_json").click().run()
    assert [str(error.value) for error in app.error] == [
        "The spec's frames is invalid\\: '1x' is not a time frame\\: write a whole number and one of s, m, h, d, w,"
        " such as 15m."
    ]
    assert app.text_area(key="jobs_json").value == '{"name": "bars", "frames": "1x"}'
    app.text_area(key="jobs_json").set_value('{"name": "bars", "frames": "1m", "poll_ms": 20}')
    app.button(key="jobs_submit_json").click().run()
    assert service.repository.spec("bars", 1).poll_ms == 20


def test_an_edit_upgrades_a_running_job_and_says_that_it_may_go_back(
    service: JobService, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.ADMIN)
    app = job_page()
    app.button(key="jobs_edit").click().run()
    assert "the job returns to the old version" in texts(app)
    app.text_input(key="jobs_frames").set_value("5m")
    app.button(key="jobs_submit").click().run()
    assert under_way(service).kind is Kind.UPGRADE
    assert "Start version 2" in texts(app)
    assert spec_fields(service.repository.spec("bars", 2)) == spec_fields(service.repository.spec("bars", 1)) | {
        "frames": "5m"
    }
    controller.done()
    versions = next(dataframe.value for dataframe in job_page().dataframe if "Changes" in dataframe.value)
    assert versions["Changes"].tolist() == ["frames: 1s,1m,1h → 5m", "–"]


def test_a_job_is_cloned_and_rescaled(service: JobService, controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = choose(job_page(), "Clone")
    app.button(key="jobs_submit").click().run()
    assert [job.name for job in service.repository.jobs()] == ["bars", "bars-2"]
    app = job_page()
    app.button(key="jobs_rescale").click().run()
    assert app.number_input(key="jobs_slots").max == 4
    app.number_input(key="jobs_slots").set_value(3)
    app.button(key="jobs_submit").click().run()
    assert under_way(service).parameters.parallelism == 3
    assert not app.button(key="jobs_take_savepoint").disabled  # rescaling may wait for slots, so it gives way
    controller.done()
