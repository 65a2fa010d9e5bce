"""`audit` at the command line: the list, and the check of the hash chain."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action
from barmill.audit.roles import Actor
from barmill.audit.trail import Stage, audit_migrations
from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_control_db
from cli.main import main

Audit = Callable[..., tuple[int, str, str]]
TAMPERING = "DROP TRIGGER audit_no_update; UPDATE audit SET actor = 'eve' WHERE number = 2"


@pytest.fixture
def audit(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Call `barmill audit` and return its exit code and what it printed, on standard output and error."""
    monkeypatch.setenv("BARMILL_HOME", str(home.root))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["audit", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def written(home: Home) -> list[str]:
    """Write three records and return their trace ids."""
    traces = []
    with closing((db := open_control_db(home, audit_migrations, account_migrations)).conn):
        for actor, name, subject in (("ada", "job.start", "bars"), ("bo", "job.stop", "bars"), ("ada", "key.add", "k")):
            with action(db, Actor(actor), name, subject, needs=None) as change:
                change.before, change.after = {"desired": "stopped"}, {"desired": "running"}
                change.stage, change.result = Stage.ISSUED, "Noted."
            traces.append(change.trace_id)
    return traces


def tamper(home: Home) -> None:
    with closing(sqlite3.connect(home.control_db)) as db:
        db.executescript(TAMPERING)


def shown(output: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(output)
    return records


def test_a_home_without_a_trail_says_what_to_do(audit: Audit) -> None:
    for command in ("list", "verify-log"):
        code, out, err = audit(command)
        assert (code, out) == (1, "")
        assert err == "barmill: There is no control.sqlite yet; start Barmill with ./barmill up first.\n"


def test_the_trail_is_listed_the_newest_first(audit: Audit, written: list[str]) -> None:
    code, out, err = audit("list", "--json")
    assert (code, err) == (0, "")
    records = shown(out)
    assert [record["number"] for record in records] == [3, 2, 1]
    assert records[-1] | {"time_ms": 0, "hash": ""} == {
        "number": 1,
        "time_ms": 0,
        "actor": "ada",
        "action": "job.start",
        "subject": "bars",
        "stage": "issued",
        "result": "Noted.",
        "before": '{"desired": "stopped"}',
        "after": '{"desired": "running"}',
        "trace_id": written[0],
        "previous_hash": "0" * 64,
        "hash": "",
    }
    lines = audit("list")[1].splitlines()
    assert len(lines) == 3
    assert lines[0].endswith('issued    Noted.  {"desired": "stopped"} -> {"desired": "running"}')


def test_a_search_narrows_the_list(audit: Audit, written: list[str]) -> None:
    for arguments, numbers in (
        (["--actor", "ada"], [3, 1]),
        (["--action", "job.stop"], [2]),
        (["--search", "KEY"], [3]),
        (["--search", "_"], []),  # no pattern, just a sign
        (["--trace", written[1]], [2]),
        (["--limit", "1"], [3]),
        (["--limit", "0"], [3, 2, 1]),
        (["--from", "2100-01-01T00:00:00Z"], []),
        (["--to", "2000-01-01T00:00:00Z"], []),
        (["--from", "0", "--to", "2100-01-01T00:00:00+02:00"], [3, 2, 1]),
    ):
        assert [record["number"] for record in shown(audit("list", "--json", *arguments)[1])] == numbers


def test_a_time_that_nobody_understands_is_one_sentence(audit: Audit, written: list[str]) -> None:
    assert written
    code, out, err = audit("list", "--from", "yesterday")
    assert (code, out) == (1, "")
    assert err == "barmill: --from yesterday is not a time; write it like 2026-11-23T09:30:00Z.\n"


def test_a_whole_trail_is_verified_with_its_head(audit: Audit, written: list[str]) -> None:
    code, out, err = audit("verify-log", "--json")
    check = json.loads(out)
    head = shown(audit("list", "--json")[1])[0]["hash"]
    assert (code, err) == (0, "")
    assert check == {"records": len(written), "head": head, "problem": "", "intact": True}
    assert audit("verify-log")[1] == f"The audit log is complete and unchanged: 3 records, newest hash {head}.\n"
    assert audit("verify-log", "--head", head)[0] == 0


def test_a_trail_that_was_worked_on_is_no_success(audit: Audit, home: Home, written: list[str]) -> None:
    assert written
    tamper(home)
    code, out, err = audit("verify-log")
    assert (code, out) == (1, "")
    assert err.startswith(
        "barmill: The audit log was changed after it was written. Record 2 was changed after it was written. "
    )
    assert err.count("\n") == 1
    code, out, err = audit("verify-log", "--json")
    check = json.loads(out)
    assert (code, check["intact"], check["records"]) == (1, False, 1)
    assert err.count("\n") == 1


def test_a_trail_that_was_replaced_lacks_the_hash_that_was_noted(audit: Audit, written: list[str]) -> None:
    assert written
    code, _, err = audit("verify-log", "--head", "f" * 64)
    assert code == 1
    assert "The log was replaced: it does not contain the noted hash." in err
