"""The audit page: what it finds, what it shows of one action, what can be taken away, and who may see it."""

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action, record_outcome
from barmill.audit.roles import CONTROLLER, Actor, Role
from barmill.audit.trail import Search, Stage, audit_migrations, search
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, open_control_db
from tests.pages.conftest import LookAs, address, opened, texts
from views.audit_records import as_csv, as_json, record_table

TAMPERING = "DROP TRIGGER audit_no_update; UPDATE audit SET actor = 'eve' WHERE number = 2"


@pytest.fixture(autouse=True)
def _use_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))


@pytest.fixture
def trail(home: Home) -> Iterator[Database]:
    """A trail with a job that was stopped, and two other things that were done."""
    with closing((db := open_control_db(home, audit_migrations, account_migrations)).conn):
        with action(db, Actor("ada"), "job.stop", "bars", needs=None) as change:
            change.before, change.after, change.stage = {"desired": "running"}, {"desired": "stopped"}, Stage.ISSUED
        record_outcome(db, CONTROLLER, "job.stop", "bars", change.trace_id, failed=False, result="Stopped.")
        for name in ("one", "two"):
            with action(db, Actor("bo"), "key.add", name, needs=None):
                pass
        yield db


def page(**query: str) -> AppTest:
    app = opened("audit", **query)
    assert not app.exception
    return app


def subjects(app: AppTest) -> list[str]:
    return [] if not app.dataframe else app.dataframe[0].value["Subject"].tolist()


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.TRADER])
@pytest.mark.usefixtures("trail")
def test_only_those_who_may_read_the_trail_see_it(look_as: LookAs, role: Role) -> None:
    look_as(role)
    app = page()
    assert len(app.dataframe) == 0
    assert len(app.button) == 0
    assert "newest hash" not in texts(app)


def test_records_are_shown_the_newest_first_with_what_changed(trail: Database, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = page()
    table = app.dataframe[0].value
    stopped = search(trail, Search())[-1]
    assert table["No."].tolist() == [4, 3, 2, 1]
    assert table.iloc[-1].to_dict() | {"Time, UTC": ""} == {
        "No.": 1,
        "Time, UTC": "",
        "Actor": "ada",
        "Action": "job.stop",
        "Subject": "bars",
        "Stage": "issued",
        "Trace": f"audit?audit_trace={stopped.trace_id}",
        "Result": "",
        "Before": '{"desired": "running"}',
        "After": '{"desired": "stopped"}',
    }
    assert f"4 records, newest hash] `{search(trail, Search())[0].hash}`" in texts(app)


@pytest.mark.usefixtures("trail")
def test_a_search_narrows_what_is_shown(look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = page()
    app.text_input(key="audit_text").set_value("TWO").run()
    assert subjects(app) == ["two"]
    app.text_input(key="audit_text").set_value("").run()
    app.selectbox(key="audit_actor").select("ada").run()
    app.selectbox(key="audit_action").select("job.stop").run()
    app.selectbox(key="audit_stage").select("issued").run()
    assert subjects(app) == ["bars"]
    app.selectbox(key="audit_stage").select("failed").run()
    assert "No matching records" in app.info[0].value


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"audit_text": "one"}, ["one"]),
        ({"audit_actor": "bo"}, ["two", "one"]),
        ({"audit_actor": "unknown"}, ["two", "one", "bars", "bars"]),
        ({"audit_stage": "issued"}, ["bars"]),
        ({"audit_below": "3"}, ["bars", "bars"]),
        ({"audit_below": "x"}, ["two", "one", "bars", "bars"]),
        ({"audit_below": "9" * 30}, ["two", "one", "bars", "bars"]),
        ({"audit_trace": "nothing"}, []),
    ],
)
@pytest.mark.usefixtures("trail")
def test_a_link_shows_the_same_search(look_as: LookAs, query: dict[str, str], found: list[str]) -> None:
    look_as(Role.ADMIN)
    assert subjects(page(**query)) == found


@pytest.mark.usefixtures("trail")
def test_times_narrow_the_search(look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = page()
    now = datetime.now(UTC).replace(tzinfo=None)
    app.datetime_input(key="audit_from").set_value(now - timedelta(hours=1)).run()
    assert len(subjects(app)) == 4
    app.datetime_input(key="audit_to").set_value(now - timedelta(minutes=10)).run()
    assert subjects(app) == []


def test_a_trace_shows_all_of_one_action_in_full(trail: Database, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = page(audit_trace=search(trail, Search())[-1].trace_id)
    assert subjects(app) == ["bars", "bars"]
    assert "**issued**" in texts(app)
    assert "Stopped." in texts(app)
    assert [json.loads(document.value) for document in app.json] == [{"desired": "running"}, {"desired": "stopped"}]
    app.button(key="audit_all").click().run()
    assert len(subjects(app)) == 4
    assert address(app) == {}


def test_a_long_trail_is_shown_page_by_page(trail: Database, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    for number in range(230):
        with action(trail, Actor("bo"), "thing.add", f"{number}", needs=None):
            pass
    app = page()
    assert app.button(key="audit_newest").disabled
    shown = subjects(app)
    assert len(shown) == 100
    for _ in range(2):
        shown += subjects(app.button(key="audit_older").click().run())
    assert shown == [record.subject for record in search(trail, Search())]
    assert app.button(key="audit_older").disabled
    assert app.toggle(key="audit_follow").disabled  # what is followed are the newest records
    app.button(key="audit_newest").click().run()
    assert subjects(app)[0] == "229"


@pytest.mark.usefixtures("trail")
def test_the_chain_is_verified_on_request(home: Home, look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    app = page()
    assert len(app.success) == len(app.error) == 0
    app.button(key="audit_verify").click().run()
    assert "complete and unchanged, from its first record to number 4." in app.success[0].value
    with closing(sqlite3.connect(home.control_db)) as db:
        db.executescript(TAMPERING)
    app.button(key="audit_verify").click().run()
    assert "tampered with. Record 2 was changed after it was written. Compare it with a backup." in app.error[0].value


def test_what_is_found_is_taken_away_as_csv_and_json(trail: Database) -> None:
    records = search(trail, Search())
    assert json.loads(as_json(records)) == [vars(record) for record in records]
    rows = list(csv.DictReader(io.StringIO(as_csv(records).decode())))
    assert [row["subject"] for row in rows] == ["two", "one", "bars", "bars"]
    assert rows[-1]["after"] == '{"desired": "stopped"}'
    assert (rows[-1]["result"], rows[-2]["result"]) == ("", "Stopped.")


def test_a_spreadsheet_runs_nothing_that_somebody_smuggled_in(trail: Database) -> None:
    with action(trail, Actor("=HYPERLINK(1)"), "thing.add", "@SUM(1)", needs=None) as change:
        change.result = "-1 \n=2"
    record, *_ = search(trail, Search())
    (row,) = csv.DictReader(io.StringIO(as_csv([record]).decode(), newline=""))
    assert (row["actor"], row["subject"], row["result"]) == ("'=HYPERLINK(1)", "'@SUM(1)", "'-1 \n=2")
    assert record_table([record])["Actor"].to_list() == ["=HYPERLINK(1)"]


@pytest.mark.usefixtures("trail")
def test_files_are_offered_for_what_was_found(look_as: LookAs) -> None:
    look_as(Role.ADMIN)
    assert [download_button.label for download_button in page(audit_actor="bo").download_button] == ["CSV", "JSON"]
