"""The audit trail: what it stores, and how it detects changes made from outside."""

import sqlite3
from collections.abc import Iterator

import pytest

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action, preparation, record_outcome
from barmill.audit.roles import CONTROLLER, GRANTS, Actor, Permission, Role
from barmill.audit.trail import FIRST_HASH, Search, Stage, audit_migrations, distinct_values, search, verify_chain
from barmill.platform.errors import AuditError, ControlError, NotAllowedError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, open_control_db

ADA = Actor.of_account("ada")
MALLORY = "DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete;"


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    opened = open_control_db(home, audit_migrations, account_migrations)
    opened.table("accounts").insert({"name": "ada", "role": "admin", "disabled": 0, "created_ms": 1})
    opened.conn.execute("CREATE TABLE things (name TEXT)")
    yield opened
    opened.conn.close()


def add(db: Database, name: str, actor: Actor = ADA, stage: Stage = Stage.EXECUTED) -> str:
    with action(db, actor, "thing.add", name, needs=Permission.MANAGE_KEYS) as change:
        db.conn.execute("INSERT INTO things VALUES (?)", (name,))
        change.after, change.stage = {"name": name}, stage
    return change.trace_id


def things(db: Database) -> list[str]:
    return [name for (name,) in db.conn.execute("SELECT name FROM things")]


def test_an_action_and_its_record_are_one(db: Database) -> None:
    trace_id = add(db, "one")
    (kept,) = search(db, Search())
    assert (kept.actor, kept.action, kept.subject, kept.stage) == ("ada", "thing.add", "one", "executed")
    assert (kept.before, kept.after, kept.trace_id) == (None, '{"name": "one"}', trace_id)
    db.conn.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(AuditError, match="nothing was done: disk full"):
        add(db, "two")
    assert things(db) == ["one"]


def test_what_is_refused_in_its_preparation_is_on_record_too(db: Database) -> None:
    def refuse() -> None:
        with preparation(db, ADA, "thing.add", "one", needs=Permission.MANAGE_KEYS):
            raise ControlError("Out of reach.")

    with pytest.raises(ControlError, match="Out of reach"):
        refuse()
    with preparation(db, ADA, "thing.add", "two", needs=Permission.MANAGE_KEYS):
        pass  # what succeeds is on record by its action
    (kept,) = search(db, Search())
    assert (kept.subject, kept.stage, kept.result) == ("one", "refused", "Out of reach.")


def test_an_outcome_that_cannot_be_recorded_is_one_sentence(db: Database) -> None:
    trace_id = add(db, "one", stage=Stage.ISSUED)
    db.conn.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(AuditError, match=r"result of thing\.add one could not be recorded in the audit log: disk full"):
        record_outcome(db, ADA, "thing.add", "one", trace_id, failed=False, result="")


def test_an_action_that_is_refused_changes_nothing_and_is_on_record(db: Database) -> None:
    def refuse() -> None:
        with action(db, ADA, "thing.add", "one", needs=None):
            db.conn.execute("INSERT INTO things VALUES ('one')")
            raise ControlError("Not today.")

    with pytest.raises(ControlError, match="Not today"):
        refuse()
    assert things(db) == []
    (kept,) = search(db, Search())
    assert (kept.stage, kept.result) == ("refused", "Not today.")


@pytest.mark.parametrize("role", Role)
def test_the_role_an_account_has_now_decides(db: Database, role: Role) -> None:
    db.conn.execute("UPDATE accounts SET role = ?", (role.value,))
    if Permission.MANAGE_KEYS in GRANTS[role]:
        add(db, "one")
        return
    with pytest.raises(NotAllowedError, match=f"As {role.value}, ada may not manage API keys; ask an admin"):
        add(db, "one")
    assert things(db) == []


@pytest.mark.parametrize("change", ["UPDATE accounts SET disabled = 1", "DELETE FROM accounts"])
def test_an_account_that_is_gone_may_nothing(db: Database, change: str) -> None:
    db.conn.execute(change)
    with pytest.raises(NotAllowedError, match="is disabled"):
        add(db, "one")


def test_what_takes_time_is_issued_first_and_executed_under_the_same_trace(db: Database) -> None:
    trace_id = add(db, "one", stage=Stage.ISSUED)
    record_outcome(db, CONTROLLER, "thing.add", "one", trace_id, failed=True, result="It broke.")
    add(db, "two")
    outcome, asked = search(db, Search(trace_id=trace_id))
    assert (asked.stage, outcome.stage, outcome.result) == ("issued", "failed", "It broke.")


def test_a_search_finds_by_text_by_who_and_by_time(db: Database) -> None:
    add(db, "Alpha")
    add(db, "beta", Actor("os:root"))
    assert [record.subject for record in search(db, Search(text="ALPHA"))] == ["Alpha"]
    assert [record.subject for record in search(db, Search(actor="os:root"))] == ["beta"]
    assert [record.subject for record in search(db, Search(), limit=1)] == ["beta"]
    newest_ms = search(db, Search())[0].time_ms
    assert search(db, Search(from_ms=newest_ms + 1)) == []
    assert search(db, Search(text="100 % _ ' literally")) == []
    add(db, r"50 %_ off \o/ 'now'")
    for text in ("%_", "0 %", r"\O/", "'NOW'"):
        assert [record.number for record in search(db, Search(text=text))] == [3]


def test_a_long_trail_is_read_page_by_page(db: Database) -> None:
    for number in range(1, 8):
        add(db, str(number))
    pages, below = list[list[int]](), Search().below
    while found := search(db, Search(below=below), limit=3):
        pages.append([record.number for record in found])
        below = found[-1].number
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]


def test_who_and_what_there_ever_was(db: Database) -> None:
    add(db, "one")
    add(db, "two", Actor("os:root"))
    add(db, "three")
    assert (distinct_values(db, "actor"), distinct_values(db, "action")) == (["ada", "os:root"], ["thing.add"])


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET actor = 'other'"])
def test_the_trail_only_grows(db: Database, statement: str) -> None:
    add(db, "one")
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        db.conn.execute(statement)


def test_a_whole_chain_has_a_head(db: Database) -> None:
    assert verify_chain(db).head == FIRST_HASH
    for name in ("one", "two", "three"):
        add(db, name)
    check = verify_chain(db)
    assert (check.records, check.problem) == (3, "")
    assert check.head == search(db, Search())[0].hash


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE number = 2", "Record 2 was changed after it was written."),
        ("UPDATE audit SET before = '{}' WHERE number = 1", "Record 1 was changed after it was written."),
        ("DELETE FROM audit WHERE number = 2", "Record 2 is missing: record 3 follows record 1."),
        ("DELETE FROM audit WHERE number = 3", "Records 3 to 3 were removed from the end."),
        ("DELETE FROM audit", "Records 1 to 3 were removed from the end."),
        (
            "DELETE FROM audit WHERE number = 1; UPDATE audit SET number = number - 1",
            "Record 1 does not match the hash of the record before it.",
        ),
    ],
)
def test_work_on_the_trail_from_outside_shows(db: Database, tampering: str, problem: str) -> None:
    for name in ("one", "two", "three"):
        add(db, name)
    db.conn.executescript(MALLORY + tampering)
    assert verify_chain(db).problem == problem
