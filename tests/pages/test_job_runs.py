"""Runs of a job on its page: what they start from, and why they ended."""

import pytest

from barmill.audit.roles import Role
from barmill.platform.sqlite_file import immediate
from control.jobs.model import StopMode
from control.jobs.service import JobService
from tests.pages.conftest import LookAs, buttons, choose, job_page, toasts, typed, under_way
from tests.support.controller import CAUSE, PlayedController

pytestmark = pytest.mark.usefixtures("use_home")


def test_a_job_goes_on_from_what_is_chosen(service: JobService, controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    service.take_savepoint("bars")
    controller.done()
    (savepoint,) = service.repository.savepoints("bars")
    app = choose(job_page(), "Restart from …")
    assert app.selectbox(key="jobs_from").value == savepoint.id
    app.button(key="jobs_submit").click().run()
    assert under_way(service).parameters.restore == savepoint.path
    controller.done()
    assert service.repository.runs("bars")[0].restored_from == savepoint.path

    app = choose(job_page(), "Restart from …")
    app.selectbox(key="jobs_from").select("last-checkpoint").run()
    app.button(key="jobs_submit").click().run()
    assert [error.value for error in app.error] == [
        "bars has no checkpoint to continue from; start it without specifying one."
    ]
    app.selectbox(key="jobs_from").select("beginning").run()
    typed(app, "bars")
    assert under_way(service).parameters.mode is StopMode.STATELESS


def test_a_savepoint_is_disposed_of(service: JobService, controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    for _ in range(2):
        service.take_savepoint("bars")
        controller.done()
    newest, older = service.repository.savepoints("bars")
    app = job_page()
    app.menu_button(key="jobs_dispose").click_index(1).run()
    typed(app, "bars")
    assert toasts(app) == [f"The savepoint {older.id[:8]} of bars is deleted."]
    assert service.repository.savepoints("bars") == [newest]
    look_as(Role.OPERATOR)
    assert len(job_page().menu_button) == 0


def test_a_run_that_failed_shows_its_traceback(controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.OPERATOR)
    run = controller.fail("bars")
    app = job_page()
    assert f"Why run {run.id[:8]} ended" in app.expander[0].label
    assert CAUSE in [code.value for code in app.code]
    runs = next(dataframe.value for dataframe in app.dataframe if "Reason" in dataframe.value)
    assert runs["Reason"].tolist() == ["ValueError: no such column."]
    assert "Start" in buttons(app)  # it was given up on


def test_a_run_that_was_restarted_says_who_asked_for_it(
    service: JobService, controller: PlayedController, look_as: LookAs
) -> None:
    """An exception that the run had recovered from before is not why it ended."""
    look_as(Role.OPERATOR)
    run = service.repository.runs("bars")[0]
    service.restart("bars")
    controller.done()
    with immediate(service.repository.db):
        service.repository.db.conn.execute("UPDATE job_runs SET cause = ? WHERE id = ?", (CAUSE, run.id))
    app = job_page()
    assert f"Why run {run.id[:8]} ended" in app.expander[0].label
    assert app.expander[0].markdown[0].value.startswith("Restarted by ")
    assert CAUSE not in [code.value for code in app.code]
    runs = next(dataframe.value for dataframe in app.dataframe if "Reason" in dataframe.value)
    because = runs["Reason"].tolist()
    assert because[0] == ""
    assert because[1].startswith("Restarted by ")
