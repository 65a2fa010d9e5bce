"""A job's life on the jobs page, in a real browser; a thread plays the controller, so that no Flink is needed."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from control.jobs.model import Kind
from control.jobs.repository import JobRepository
from control.jobs.service import JobService
from tests.browser.conftest import Serve, Watched
from tests.support.controller import playing


def fact(page: Page, label: str) -> Locator:
    return page.locator(".barmill-facts div").filter(has=page.locator("dt").get_by_text(label, exact=True))


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def state(page: Page, value: str) -> None:
    expect(fact(page, "State").locator("b")).to_have_text(value)


def live_updates(page: Page, count: int) -> None:
    """Wait until the live part has said so many times that the run is older."""
    note = fact(page, "Run").locator("i")
    for _ in range(count):
        expect(note).not_to_have_text(note.inner_text())


def chosen(page: Page, label: str) -> Locator:
    """Pick from the menu and return the dialog that it opens."""
    button(page, "More").click()
    page.get_by_role("menuitem", name=label).or_(page.get_by_text(label, exact=True)).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


@pytest.mark.timeout(300)
def test_a_job_is_created_started_stopped_and_deleted(serve: Serve, home: Home, watched: Watched) -> None:
    page = watched.page
    with serve(home) as app, playing(home) as pause:
        page.goto(f"{app}/jobs")
        expect(page.get_by_text("No jobs yet")).to_be_visible()

        button(page, "Create a job").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("textbox", name="Name").fill("Bars 5m")
        dialog.get_by_role("textbox", name="Frames").fill("5m")
        button(page, "Create").click()
        expect(dialog.get_by_text("The spec's name is invalid")).to_be_visible()
        dialog.get_by_role("textbox", name="Name").fill("bars-5m")
        button(page, "Create").dblclick()
        page.wait_for_url("**/jobs?job=bars-5m")
        expect(page.get_by_text("Created bars-5m; it is stopped.")).to_be_visible()
        expect(dialog).to_have_count(0)
        state(page, "Stopped")

        pause.set()
        button(page, "Start").click()
        expect(page.get_by_text("Start in progress for")).to_be_visible()
        pause.clear()
        state(page, "Running")
        expect(page.locator(".js-plotly-plot")).to_be_visible()

        expect(button(page, "Stop with savepoint")).to_be_enabled()
        button(page, "Stop with savepoint").dblclick()
        state(page, "Stopped")
        with JobRepository.read_only(home) as repository:
            assert [operation.kind for operation in repository.operations("bars-5m", 9)] == [Kind.STOP, Kind.START]
            assert len(repository.savepoints("bars-5m")) == 1

        page.goto(page.url)  # the link opens the job again
        state(page, "Stopped")
        dialog = chosen(page, "Delete")
        dialog.get_by_role("textbox", name="Type bars-5m to confirm").fill("bars")
        button(page, "Delete").click()
        expect(dialog.get_by_text("type bars-5m exactly to confirm")).to_be_visible()
        dialog.get_by_role("textbox", name="Type bars-5m to confirm").fill("bars-5m")
        button(page, "Delete").click()
        expect(page.get_by_text("There is no job bars-5m; it may have been deleted.")).to_be_visible()
        expect(page.get_by_text("No jobs yet")).to_be_visible()
        with JobRepository.read_only(home) as repository:
            assert repository.jobs() == []
    assert watched.complaints == []
    assert watched.elsewhere == []


@pytest.mark.timeout(300)
def test_what_is_half_typed_outlives_every_refresh(serve: Serve, home: Home, watched: Watched) -> None:
    page = watched.page
    with JobService.open(home, Actor("ada")) as service, serve(home) as app, playing(home) as pause:
        service.create('{"name": "bars"}')
        service.start("bars")
        page.goto(f"{app}/jobs?job=bars")
        state(page, "Running")
        expect(button(page, "Edit")).to_be_enabled()
        button(page, "Edit").click()
        frames = page.get_by_role("dialog").get_by_role("textbox", name="Frames")
        frames.press("End")
        frames.type(",5")
        live_updates(page, 3)
        pause.set()
        service.take_savepoint("bars")  # from elsewhere: what the page offers and has on record changes
        expect(page.get_by_text("Savepoint in progress for")).to_be_visible()
        pause.clear()
        expect(page.get_by_text("Savepoint in progress for")).to_have_count(0)
        live_updates(page, 2)
        assert frames.input_value() == "1s,1m,1h,5"
        assert frames.evaluate("field => field === document.activeElement")
        frames.type("m")
        button(page, "Upgrade").click()
        expect(page.get_by_text("bars is being upgraded.")).to_be_visible()
        expect(fact(page, "Frames").locator("b")).to_have_text("1s, 1m, 5m, 1h")
        page.get_by_role("tab", name="Savepoints").click()
        expect(button(page, "Dispose of …")).to_be_visible()  # what the dialog held back has come in
    assert watched.complaints == []


@pytest.mark.timeout(300)
def test_the_list_moves_by_itself_and_a_row_opens_its_job(serve: Serve, home: Home, watched: Watched) -> None:
    page = watched.page
    with JobService.open(home, Actor("ada")) as service, serve(home) as app, playing(home) as pause:
        service.create('{"name": "bars"}')
        page.goto(f"{app}/jobs")
        row = page.locator(".barmill-jobs tr[data-job=bars]")
        expect(row).to_have_attribute("data-tone", "idle")
        row.evaluate("row => { row.marked = true; }")
        pause.set()
        service.start("bars")
        expect(row.locator("small")).to_have_text(re.compile("^Start in progress for "))
        pause.clear()
        expect(row).to_have_attribute("data-tone", "good")
        assert row.evaluate("row => row.marked"), "the row was replaced, not changed"
        service.create('{"name": "a-second-one"}')
        expect(page.locator(".barmill-jobs tbody tr")).to_have_count(2)
        expect(page.locator(".barmill-jobs tbody tr").first).to_have_attribute("data-job", "a-second-one")
        row.click()
        page.wait_for_url("**/jobs?job=bars")
        state(page, "Running")
        button(page, "All jobs").click()
        expect(row).to_be_visible()
        assert page.url == f"{app}/jobs"
    assert watched.complaints == []
