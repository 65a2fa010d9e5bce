"""The jobs page as people of each role see it, with a controller that plays its part without Flink."""

import json
from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from bar.sqlite_file import immediate
from control.audit import Search, search
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.operations import Kind, Operation, StopMode
from control.jobs.specs import written
from control.kafka.settings import KafkaSettings
from control.people.roles import Actor, Role
from tests.kafka_broker import write_settings
from tests.pages.conftest import LookAs
from tests.pages.controller import CAUSE, PlayedController
from tests.pages.test_pages import address, component, opened, texts

ADA = Actor("ada")
BARS = json.dumps({"name": "bars", "shards": 4})


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def book(home: Home) -> Iterator[JobBook]:
    with JobBook.open(home, ADA) as opened:
        yield opened


@pytest.fixture
def controller(home: Home, book: JobBook) -> Iterator[PlayedController]:
    """A controller, and the job `bars`, which runs."""
    book.create(BARS)
    book.start("bars")
    one = PlayedController(home)
    one.done()
    yield one
    one.close()


def job_page(name: str = "bars") -> AppTest:
    app = opened("jobs", job=name)
    assert not app.exception
    return app


def buttons(app: AppTest) -> list[str]:
    return [one.label for one in app.button]


def more(app: AppTest) -> list[str]:
    return [label for menu in app.menu_button if menu.label == "More" for label in menu.options]


def choose(app: AppTest, label: str) -> AppTest:
    """Pick from the menu beside the buttons, which opens a dialog."""
    menu = app.menu_button(key="jobs_more")
    return menu.click_index(menu.options.index(label)).run()


def typed(app: AppTest, name: str) -> AppTest:
    app.text_input(key="jobs_typed").set_value(name)
    return app.button(key="jobs_confirm").click().run()


def toasts(app: AppTest) -> list[str]:
    return [str(one.value) for one in app.toast]


def under_way(book: JobBook, name: str = "bars") -> Operation:
    operation = book.ledger.open_operation(name)
    assert operation is not None
    return operation


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


def test_the_list_shows_how_every_job_is(book: JobBook, controller: PlayedController) -> None:
    book.create('{"name": "bars-5m", "frames": "5m,15m"}')
    book.create('{"name": "broken"}')
    book.start("broken")
    controller.done()
    controller.fail("broken")
    book.stop("bars")
    app = opened("jobs")
    assert not app.exception
    bars, stopped, broken = component(app, "barmill_jobs")["rows"]
    assert bars.pop("operation").startswith("Stop under way for ")
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


def test_a_stopped_job_can_be_started(book: JobBook, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    book.create(BARS)
    app = job_page()
    assert buttons(app) == ["All jobs", "Start", "Rescale", "Edit"]
    assert more(app) == ["Start from …", "Clone", "Delete"]
    app.button(key="jobs_start").click().run()
    assert toasts(app) == ["bars is being started."]
    operation = under_way(book)
    assert (operation.kind, operation.actor) == (Kind.START, "test-admin")
    assert "Start under way for" in texts(app)
    assert app.button(key="jobs_stop_with_savepoint").disabled


@pytest.mark.parametrize(
    ("button", "kind", "sentence"),
    [
        ("stop_with_savepoint", Kind.STOP, "bars is being stopped, with a savepoint that it goes on from."),
        ("restart", Kind.RESTART, "bars is being stopped with a savepoint, and started again from it."),
        ("take_savepoint", Kind.SAVEPOINT, "A savepoint of bars is being taken."),
    ],
)
def test_a_button_asks_once_and_a_second_click_joins(
    book: JobBook, controller: PlayedController, look_as: LookAs, button: str, kind: Kind, sentence: str
) -> None:
    look_as(Role.OPERATOR)
    first, second = job_page(), job_page()
    for tab in (first, second):
        tab.button(key=f"jobs_{button}").click().run()
        assert toasts(tab) == [sentence]
    asked = [one for one in book.ledger.operations("bars", 9) if one.kind is kind]
    assert len(asked) == 1
    controller.done()
    first.run()
    assert not first.button(key="jobs_rescale").disabled
    assert toasts(first) == []


def test_what_is_refused_is_a_sentence_on_the_page(
    book: JobBook, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.OPERATOR)
    app = job_page()
    book.restart("bars")
    app.button(key="jobs_take_savepoint").click().run()
    assert [one.value for one in app.error] == ["A restart of bars is under way; wait for it, or cancel the job."]
    app.run()
    assert len(app.error) == 1  # until something else is asked for
    controller.done()
    app.run().button(key="jobs_take_savepoint").click().run()
    assert len(app.error) == 0


@pytest.mark.usefixtures("controller")
def test_what_stops_with_a_job_is_said_before_it_does(look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    said = "No other running job makes 1s, 1m, 1h; without bars they stop, and so do 5s, 15s,"
    assert [one.value for one in job_page().caption if one.value.startswith(said)]
    for label in ("Cancel", "Stop without state", "Delete"):
        assert [one.value for one in choose(job_page(), label).info if one.value.startswith(said)]


def test_an_open_page_loses_its_powers_with_the_role(
    book: JobBook, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.OPERATOR)
    app = job_page()
    with controller.ledger.db.atomic():
        controller.ledger.db.conn.execute("UPDATE accounts SET role = 'trader' WHERE name = 'test-operator'")
    app.button(key="jobs_stop_with_savepoint").click().run()
    assert not app.exception
    assert len(app.error) == 1
    assert book.ledger.open_operation("bars") is None


def test_an_operator_cannot_manage_in_an_old_dialog(
    book: JobBook, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.ADMIN)
    app = choose(job_page(), "Cancel")
    look_as(Role.OPERATOR)
    app.button(key="jobs_submit").click().run()
    assert [one.value for one in app.error] == [
        "As operator, test-operator may not create, edit, cancel and delete jobs; ask an admin."
    ]
    assert book.ledger.open_operation("bars") is None
    assert search(controller.ledger.db, Search())[0].stage == "refused"


def test_a_job_is_created_field_by_field(book: JobBook, look_as: LookAs) -> None:
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
    spec = book.ledger.spec("bars-4h", 1)
    assert (spec.frames, spec.lateness_ms, spec.allowance_ms, spec.shards, spec.parallelism) == (
        "4h,1d",
        90_500,
        1_000,
        8,
        2,
    )
    assert address(app) == {"job": "bars-4h"}


def test_where_kafka_is_used_a_job_is_created_with_its_ends(book: JobBook, look_as: LookAs) -> None:
    write_settings(book.ledger.home.root, KafkaSettings(bootstrap="127.0.0.1:9092", partitions=6))
    look_as(Role.ADMIN)
    app = opened("jobs")
    app.button(key="jobs_create").click().run()
    app.text_input(key="jobs_name").set_value("to-both")
    app.selectbox(key="jobs_sink").set_value("both")
    app.button(key="jobs_submit").click().run()
    assert not app.exception
    spec = book.ledger.spec("to-both", 1)
    assert (spec.source, spec.sink, spec.shards) == ("kafka", "both", 6)


def test_a_spec_that_is_wrong_stays_in_the_dialog_with_the_sentence(book: JobBook, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = opened("jobs")
    app.button(key="jobs_create").click().run()
    app.text_area(key="jobs_json").set_value('{"name": "bars", "frames": "1x"}')
    app.button(key="jobs_submit_json").click().run()
    assert [str(one.value) for one in app.error] == [
        "The spec's frames is wrong\\: '1x' is not a time frame\\: write a whole number and one of s, m, h, d, w, such"
        " as 15m."
    ]
    assert app.text_area(key="jobs_json").value == '{"name": "bars", "frames": "1x"}'
    app.text_area(key="jobs_json").set_value('{"name": "bars", "frames": "1m", "poll_ms": 20}')
    app.button(key="jobs_submit_json").click().run()
    assert book.ledger.spec("bars", 1).poll_ms == 20


def test_an_edit_upgrades_a_running_job_and_says_that_it_may_go_back(
    book: JobBook, controller: PlayedController, look_as: LookAs
) -> None:
    look_as(Role.ADMIN)
    app = job_page()
    app.button(key="jobs_edit").click().run()
    assert "the old version is put back" in texts(app)
    app.text_input(key="jobs_frames").set_value("5m")
    app.button(key="jobs_submit").click().run()
    assert under_way(book).kind is Kind.UPGRADE
    assert "Start version 2" in texts(app)
    assert written(book.ledger.spec("bars", 2)) == written(book.ledger.spec("bars", 1)) | {"frames": "5m"}
    controller.done()
    versions = next(one.value for one in job_page().dataframe if "What changed" in one.value)
    assert versions["What changed"].tolist() == ["frames: 1s,1m,1h → 5m", "–"]


def test_a_job_is_cloned_and_rescaled(book: JobBook, controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = choose(job_page(), "Clone")
    app.button(key="jobs_submit").click().run()
    assert [job.name for job in book.ledger.jobs()] == ["bars", "bars-2"]
    app = job_page()
    app.button(key="jobs_rescale").click().run()
    assert app.number_input(key="jobs_slots").max == 4
    app.number_input(key="jobs_slots").set_value(3)
    app.button(key="jobs_submit").click().run()
    assert under_way(book).wanted.parallelism == 3
    assert not app.button(key="jobs_take_savepoint").disabled  # rescaling may wait for slots, so it gives way
    controller.done()


@pytest.mark.parametrize(
    ("label", "kind", "mode"),
    [("Stop without state", Kind.STOP, StopMode.STATELESS), ("Delete", Kind.DELETE, StopMode.LAST_STATE)],
)
def test_what_could_lose_something_is_typed_out(
    book: JobBook, controller: PlayedController, look_as: LookAs, label: str, kind: Kind, mode: StopMode
) -> None:
    look_as(Role.ADMIN)
    app = choose(job_page(), label)
    for wrong in ("", "Bars", "bars-2"):
        typed(app, wrong)
        assert [str(one.value) for one in app.error] == ["Nothing was done; type bars, exactly, to confirm."]
        assert book.ledger.open_operation("bars") is None
    typed(app, "bars")
    assert (under_way(book).kind, under_way(book).wanted.mode) == (kind, mode)
    controller.done()


def test_a_deleted_job_leads_back_to_the_list(controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = typed(choose(job_page(), "Delete"), "bars")
    controller.done()
    app.run()
    assert not app.exception
    assert [one.value for one in app.info] == [
        "There is no job bars; it may have been deleted. These are the jobs there are."
    ]


def test_a_job_goes_on_from_what_is_chosen(book: JobBook, controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    book.take_savepoint("bars")
    controller.done()
    (savepoint,) = book.ledger.savepoints("bars")
    app = choose(job_page(), "Restart from …")
    assert app.selectbox(key="jobs_from").value == savepoint.id
    app.button(key="jobs_submit").click().run()
    assert under_way(book).wanted.restore == savepoint.path
    controller.done()
    assert book.ledger.runs("bars")[0].restored_from == savepoint.path

    app = choose(job_page(), "Restart from …")
    app.selectbox(key="jobs_from").select("last-checkpoint").run()
    app.button(key="jobs_submit").click().run()
    assert [one.value for one in app.error] == ["bars has no checkpoint to go on from; start it without naming one."]
    app.selectbox(key="jobs_from").select("beginning").run()
    typed(app, "bars")
    assert under_way(book).wanted.mode is StopMode.STATELESS


def test_a_savepoint_is_disposed_of(book: JobBook, controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    for _ in range(2):
        book.take_savepoint("bars")
        controller.done()
    newest, older = book.ledger.savepoints("bars")
    app = job_page()
    app.menu_button(key="jobs_dispose").click_index(1).run()
    typed(app, "bars")
    assert toasts(app) == [f"The savepoint {older.id[:8]} of bars is gone."]
    assert book.ledger.savepoints("bars") == [newest]
    look_as(Role.OPERATOR)
    assert len(job_page().menu_button) == 0


def test_a_run_that_failed_shows_its_traceback(controller: PlayedController, look_as: LookAs) -> None:
    look_as(Role.OPERATOR)
    run = controller.fail("bars")
    app = job_page()
    assert f"Why run {run.id[:8]} ended" in app.expander[0].label
    assert CAUSE in [one.value for one in app.code]
    runs = next(one.value for one in app.dataframe if "Because" in one.value)
    assert runs["Because"].tolist() == ["ValueError: no such column."]
    assert "Start" in buttons(app)  # it was given up on


def test_a_run_that_was_restarted_says_who_asked_for_it(
    book: JobBook, controller: PlayedController, look_as: LookAs
) -> None:
    """An exception that the run had recovered from before is not why it ended."""
    look_as(Role.OPERATOR)
    run = book.ledger.runs("bars")[0]
    book.restart("bars")
    controller.done()
    with immediate(book.ledger.db):
        book.ledger.db.conn.execute("UPDATE job_runs SET cause = ? WHERE id = ?", (CAUSE, run.id))
    app = job_page()
    assert f"Why run {run.id[:8]} ended" in app.expander[0].label
    assert app.expander[0].markdown[0].value.startswith("Restarted by ")
    assert CAUSE not in [one.value for one in app.code]
    runs = next(one.value for one in app.dataframe if "Because" in one.value)
    because = runs["Because"].tolist()
    assert because[0] == ""
    assert because[1].startswith("Restarted by ")


@pytest.mark.usefixtures("controller")
def test_operations_lead_to_the_trail_for_those_who_may_read_it(look_as: LookAs) -> None:
    for role, offered in ((Role.ADMIN, True), (Role.OPERATOR, False)):
        look_as(role)
        table = next(one.value for one in job_page().dataframe if "Became" in one.value)
        assert ("Trace" in table) == offered
        assert table["Became"].tolist() == ["done"]


def test_a_name_in_the_address_cannot_write_markdown() -> None:
    app = opened("jobs", job="[click](http://elsewhere)")
    assert r"\[click\](http\://elsewhere)" in app.info[0].value
