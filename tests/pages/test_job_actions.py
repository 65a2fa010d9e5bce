"""What the buttons and the menu of a job ask for, and what they say before and after."""

import pytest

from barmill.audit.roles import Role
from control.jobs.model import Kind, StopMode
from control.jobs.service import JobService
from tests.pages.conftest import BARS, LookAs, buttons, choose, job_page, more, texts, toasts, typed, under_way
from tests.support.controller import PlayedController

pytestmark = pytest.mark.usefixtures("use_home")


def test_a_stopped_job_can_be_started(service: JobService, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    service.create(BARS)
    app = job_page()
    assert buttons(app) == ["All jobs", "Start", "Rescale", "Edit"]
    assert more(app) == ["Start from …", "Clone", "Delete"]
    app.button(key="jobs_start").click().run()
    assert toasts(app) == ["bars is being started."]
    operation = under_way(service)
    assert (operation.kind, operation.actor) == (Kind.START, "test-admin")
    assert "Start in progress for" in texts(app)
    assert app.button(key="jobs_stop_with_savepoint").disabled


@pytest.mark.parametrize(
    ("button", "kind", "sentence"),
    [
        ("stop_with_savepoint", Kind.STOP, "bars is being stopped, with a savepoint that it continues from."),
        ("restart", Kind.RESTART, "bars is being stopped with a savepoint, and started again from it."),
        ("take_savepoint", Kind.SAVEPOINT, "A savepoint of bars is being taken."),
    ],
)
def test_a_button_asks_once_and_a_second_click_joins(
    service: JobService, controller: PlayedController, look_as: LookAs, button: str, kind: Kind, sentence: str
) -> None:
    look_as(Role.OPERATOR)
    first, second = job_page(), job_page()
    for tab in (first, second):
        tab.button(key=f"jobs_{button}").click().run()
        assert toasts(tab) == [sentence]
    asked = [operation for operation in service.repository.operations("bars", 9) if operation.kind is kind]
    assert len(asked) == 1
    controller.done()
    first.run()
    assert not first.button(key="jobs_rescale").disabled
    assert toasts(first) == []


def test_what_is_refused_is_a_sentence_on_the_page(
    service: JobService, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.OPERATOR)
    app = job_page()
    service.restart("bars")
    app.button(key="jobs_take_savepoint").click().run()
    assert [error.value for error in app.error] == [
        "The restart of bars is in progress; wait for it, or cancel the job."
    ]
    app.run()
    assert len(app.error) == 1  # until something else is asked for
    controller.done()
    app.run().button(key="jobs_take_savepoint").click().run()
    assert len(app.error) == 0


@pytest.mark.usefixtures("controller")
def test_what_stops_with_a_job_is_said_before_it_does(look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    said = "Only the job bars makes 1s, 1m, 1h. If it stops, these frames stop, and so do 5s, 15s,"
    assert [caption.value for caption in job_page().caption if caption.value.startswith(said)]
    for label in ("Cancel", "Stop without state", "Delete"):
        assert [info.value for info in choose(job_page(), label).info if info.value.startswith(said)]


@pytest.mark.parametrize(
    ("label", "kind", "mode"),
    [("Stop without state", Kind.STOP, StopMode.STATELESS), ("Delete", Kind.DELETE, StopMode.LAST_STATE)],
)
def test_what_could_lose_something_is_typed_out(
    service: JobService, controller: PlayedController, look_as: LookAs, label: str, kind: Kind, mode: StopMode
) -> None:
    look_as(Role.ADMIN)
    app = choose(job_page(), label)
    for wrong in ("", "Bars", "bars-2"):
        typed(app, wrong)
        assert [str(error.value) for error in app.error] == ["Nothing was done; type bars exactly to confirm."]
        assert service.repository.open_operation("bars") is None
    typed(app, "bars")
    assert (under_way(service).kind, under_way(service).parameters.mode) == (kind, mode)
    controller.done()


def test_a_deleted_job_leads_back_to_the_list(controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = typed(choose(job_page(), "Delete"), "bars")
    controller.done()
    app.run()
    assert not app.exception
    assert [info.value for info in app.info] == [
        "There is no job bars; it may have been deleted. All jobs are listed below."
    ]
