"""The list of jobs and the page of one, as people of each role see them."""

import pytest

from barmill.audit.roles import Role
from barmill.audit.trail import Search, search
from control.jobs.service import JobService
from tests.pages.conftest import LookAs, buttons, choose, component, job_page, more, opened, texts
from tests.support.controller import PlayedController

pytestmark = pytest.mark.usefixtures("use_home")


def test_without_jobs_the_page_says_what_a_job_is(look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = opened("jobs")
    assert not app.exception
    assert "No jobs yet" in texts(app)
    assert "Or create one here." in texts(app)
    assert buttons(app) == ["Create a job"]
    look_as(Role.OPERATOR)
    app = opened("jobs")
    assert "An admin can also create one here." in texts(app)
    assert buttons(app) == []


def test_the_list_shows_how_every_job_is(service: JobService, controller: PlayedController) -> None:
    service.create('{"name": "bars-5m", "frames": "5m,15m"}')
    service.create('{"name": "broken"}')
    service.start("broken")
    controller.done()
    controller.fail("broken")
    service.stop("bars")
    app = opened("jobs")
    assert not app.exception
    bars, stopped, broken = component(app, "barmill_jobs")["rows"]
    assert bars.pop("operation").startswith("Stop in progress for ")
    assert bars == {
        "name": "bars",
        "tone": "good",
        "state": "running",
        "desired": "running",
        "sentence": "The job is running.",
        "frames": "1s, 1m, 1h",
        "version": "1",
        "slots": "1",
    }
    assert (stopped["tone"], stopped["state"], stopped["operation"]) == ("idle", "stopped", "")
    assert (broken["tone"], broken["state"]) == ("bad", "failed")
    assert component(app, "barmill_update")["message"]["rows"][1] == stopped


@pytest.mark.usefixtures("controller")
def test_a_trader_sees_nothing_of_jobs(look_as: LookAs) -> None:
    look_as(Role.TRADER)
    for query in ({}, {"job": "bars"}):
        app = opened("jobs", **query)
        assert not app.exception
        assert buttons(app) == []
        assert len(app.dataframe) == 0


RUNNING = ["All jobs", "Stop with savepoint", "Restart", "Take savepoint", "Rescale"]


@pytest.mark.usefixtures("controller")
def test_buttons_are_those_the_role_allows(look_as: LookAs) -> None:
    look_as(Role.OPERATOR)
    app = job_page()
    assert buttons(app) == RUNNING
    assert len(app.menu_button) == 0
    look_as(Role.ADMIN)
    app = job_page()
    assert buttons(app) == [*RUNNING, "Edit"]
    assert more(app) == ["Restart from …", "Clone", "Cancel", "Stop without state", "Delete"]


def test_an_open_page_loses_its_powers_with_the_role(
    service: JobService, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.OPERATOR)
    app = job_page()
    with controller.repository.db.atomic():
        controller.repository.db.conn.execute("UPDATE accounts SET role = 'trader' WHERE name = 'test-operator'")
    app.button(key="jobs_stop_with_savepoint").click().run()
    assert not app.exception
    assert len(app.error) == 1
    assert service.repository.open_operation("bars") is None


def test_an_operator_cannot_manage_in_an_old_dialog(
    service: JobService, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.ADMIN)
    app = choose(job_page(), "Cancel")
    look_as(Role.OPERATOR)
    app.button(key="jobs_submit").click().run()
    assert [error.value for error in app.error] == [
        "As operator, test-operator may not create, edit, cancel and delete jobs; ask an admin."
    ]
    assert service.repository.open_operation("bars") is None
    assert search(controller.repository.db, Search())[0].stage == "refused"


@pytest.mark.usefixtures("controller")
def test_operations_lead_to_the_trail_for_those_who_may_read_it(look_as: LookAs) -> None:
    for role, offered in ((Role.ADMIN, True), (Role.OPERATOR, False)):
        look_as(role)
        table = next(dataframe.value for dataframe in job_page().dataframe if "Result" in dataframe.value)
        assert ("Trace" in table) == offered
        assert table["Result"].tolist() == ["done"]


def test_a_name_in_the_address_cannot_write_markdown() -> None:
    app = opened("jobs", job="[click](http://elsewhere)")
    assert r"\[click\](http\://elsewhere)" in app.info[0].value
