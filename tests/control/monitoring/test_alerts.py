"""Alerts, rules and the webhook's address in the control database: who may change what, and what stays on record."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import ValidationError

from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Record, Search, search
from barmill.platform.errors import NotAllowedError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, open_control_db
from control.monitoring.alerts import (
    AlertState,
    NoSuchAlertError,
    acknowledge,
    open_alert_db,
    open_alerts,
    past_alerts,
    read_alert_states,
    store_changes,
)
from control.monitoring.delivery import (
    WebhookError,
    last_deliveries,
    queue_test,
    set_webhook,
    webhook_host,
    webhook_url,
)
from control.monitoring.judge import Finding, Observations
from control.monitoring.outages import WatchedJob
from control.monitoring.rules import DEFAULTS, AlertKind, Rule, Severity, rules, set_rules
from control.monitoring.watch import AlertUpdater
from tests.support.readings import NOW_MS

ADA, OTTO, TESS = map(Actor.of_account, ("ada", "otto", "tess"))
NO_DATA = Finding(AlertKind.NO_DATA, "source:market", True, "No new ticks.")
DISK_LOW = Finding(AlertKind.REJECTS, "source:market", True, "Many rejects.")
URL = "https://hooks.example.com:8443/services/T0K3N?key=T0K3N"


@pytest.fixture
def db(home: Home) -> Iterator[Database]:
    opened = open_alert_db(home)
    for name, role in (("ada", Role.ADMIN), ("otto", Role.OPERATOR), ("tess", Role.TRADER)):
        opened.table("accounts").insert({"name": name, "role": role.value, "disabled": 0, "created_ms": 1})
    yield opened
    opened.conn.close()


def note(db: Database, *raised: Finding, cleared: tuple[Finding, ...] = (), at_ms: int = NOW_MS) -> None:
    keys = [(finding.alert_kind, finding.subject) for finding in cleared]
    store_changes(db, at_ms, DEFAULTS, raised, keys, deliver=False)


def record(db: Database) -> Record:
    return search(db, Search(), limit=1)[0]


def test_a_home_that_nobody_watches_has_no_alerts(home: Home) -> None:
    assert (open_alerts(home), past_alerts(home, 9), last_deliveries(home, 9)) == ([], [], [])
    home.control_db.touch()
    assert (open_alerts(home), past_alerts(home, 9), last_deliveries(home, 9)) == ([], [], [])


def test_alerts_are_open_until_they_are_cleared(home: Home, db: Database) -> None:
    note(db, DISK_LOW)
    note(db, NO_DATA, at_ms=NOW_MS + 1)
    found = open_alerts(home)
    assert [(alert.trouble, alert.severity) for alert in found] == [("no_data", "critical"), ("rejects", "warning")]
    assert found[0].sentence == "No new ticks."
    assert read_alert_states(db) == {
        (finding.alert_kind, finding.subject): AlertState(open=True) for finding in (NO_DATA, DISK_LOW)
    }
    note(db, cleared=(NO_DATA,), at_ms=NOW_MS + 60_000)
    assert [alert.trouble for alert in open_alerts(home)] == ["rejects"]
    (past,) = past_alerts(home, 9)
    assert (past.trouble, past.raised_ms, past.cleared_ms) == ("no_data", NOW_MS + 1, NOW_MS + 60_000)


def test_what_is_long_over_is_forgotten(home: Home, db: Database) -> None:
    note(db, NO_DATA, DISK_LOW)
    note(db, cleared=(NO_DATA,))
    note(db, at_ms=NOW_MS + 91 * 86_400_000)
    assert past_alerts(home, 9) == []
    assert [alert.trouble for alert in open_alerts(home)] == ["rejects"]


def test_operators_acknowledge_and_who_was_first_stays(home: Home, db: Database) -> None:
    note(db, NO_DATA)
    (alert,) = open_alerts(home)
    acknowledge(db, OTTO, alert.id, NOW_MS + 5)
    acknowledge(db, ADA, alert.id, NOW_MS + 9)
    (alert,) = open_alerts(home)
    assert (alert.acknowledged_by, alert.acknowledged_ms) == ("otto", NOW_MS + 5)
    assert (record(db).action, record(db).actor, record(db).subject) == ("alert.acknowledge", "ada", str(alert.id))
    with pytest.raises(NotAllowedError, match="As trader, tess may not acknowledge alerts"):
        acknowledge(db, TESS, alert.id, NOW_MS)
    note(db, cleared=(NO_DATA,))
    with pytest.raises(NoSuchAlertError, match="not open any more"):
        acknowledge(db, OTTO, alert.id, NOW_MS)


def test_rules_are_the_defaults_until_somebody_who_may_changes_one(db: Database) -> None:
    assert rules(db) == DEFAULTS
    changed = Rule(threshold=90, severity=Severity.WARNING, enabled=False)
    for actor in (OTTO, TESS):
        with pytest.raises(NotAllowedError, match="may not change alerts"):
            set_rules(db, actor, {AlertKind.NO_DATA: changed})
    assert rules(db) == DEFAULTS
    set_rules(db, ADA, {**DEFAULTS, AlertKind.NO_DATA: changed})
    assert rules(db) == {**DEFAULTS, AlertKind.NO_DATA: changed}
    kept = search(db, Search(action="alert.rule", stage="executed"))
    assert [(record.actor, record.subject) for record in kept] == [("ada", "no_data")]
    assert json.loads(str(kept[0].before)) == {"enabled": True, "severity": "critical", "threshold": 30}
    assert json.loads(str(kept[0].after)) == {"enabled": False, "severity": "warning", "threshold": 90}


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf"), "many"])
def test_a_rule_that_makes_no_sense_is_refused(threshold: object) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate({"threshold": threshold})


def test_a_rule_of_another_version_is_passed_over(db: Database) -> None:
    db.table("alert_rules").insert({"trouble": "moon_phase", "rule": "{}"})
    assert rules(db) == DEFAULTS


def test_the_webhooks_address_is_kept_private_and_only_its_host_is_shown(home: Home, db: Database) -> None:
    assert (webhook_url(home), webhook_host(home)) == (None, None)
    set_webhook(home, db, ADA, URL)
    assert (webhook_url(home), webhook_host(home)) == (URL, "hooks.example.com:8443")
    (kept,) = [path for path in home.keys.iterdir() if path.is_file()]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert record(db).after == '{"host": "hooks.example.com:8443"}'
    db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"T0K3N" not in home.control_db.read_bytes()


def test_only_admins_say_where_alerts_go(home: Home, db: Database) -> None:
    with pytest.raises(NotAllowedError):
        set_webhook(home, db, OTTO, URL)
    assert webhook_url(home) is None
    with pytest.raises(NotAllowedError):
        queue_test(db, OTTO, NOW_MS)
    assert last_deliveries(home, 9) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "T0K3N",
        "ftp://a/T0K3N",
        "http://",
        "https://a b/T0K3N",
        "http://a:x/T0K3N",
        "https://a/\nT0K3N",
        "http://[T0K3N",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(home: Home, db: Database, url: str) -> None:
    set_webhook(home, db, ADA, URL)
    with pytest.raises(WebhookError) as refused:
        set_webhook(home, db, ADA, url)
    assert "T0K3N" not in str(refused.value)
    assert webhook_url(home) == URL
    assert "T0K3N" not in str(record(db))


def test_without_an_address_nothing_waits_any_more(home: Home, db: Database) -> None:
    set_webhook(home, db, ADA, URL)
    queue_test(db, ADA, NOW_MS)
    set_webhook(home, db, ADA, f"{URL}&new=1")
    assert [delivery.event for delivery in last_deliveries(home, 9)] == ["test"]
    set_webhook(home, db, ADA, None)
    assert (webhook_url(home), last_deliveries(home, 9)) == (None, [])


def test_an_alert_of_a_job_that_is_then_stopped_on_purpose_is_cleared_with_that_reason(home: Home) -> None:
    alarm, job = AlertUpdater(home), WatchedJob("bars", True, "RESTARTING", "The job is restarting.")
    for after_ms in (0, 61_000):
        alarm.step(Observations(NOW_MS + after_ms, jobs=[job]))
    assert [(alert.trouble, alert.subject) for alert in open_alerts(home)] == [("job_state", "job:bars")]
    why = {"bars": "The job bars was stopped by ada at 2025-11-25 12:02:00 UTC."}
    stopped = replace(job, should_run=False, state="STOPPED")
    for after_ms in (70_000, 86_000):
        alarm.step(Observations(NOW_MS + after_ms, jobs=[stopped], not_running=why))
    alarm.close()
    assert open_alerts(home) == []
    assert [alert.cleared_because for alert in past_alerts(home, 9)] == [why["bars"]]


def test_alerts_of_an_earlier_version_stay_readable(home: Home) -> None:
    old = open_control_db(home)
    old.conn.executescript(
        "CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, trouble TEXT NOT NULL, subject TEXT NOT NULL,"
        " severity TEXT NOT NULL, sentence TEXT NOT NULL, raised_ms INTEGER NOT NULL, cleared_ms INTEGER,"
        " acknowledged_ms INTEGER, acknowledged_by TEXT);"
        "CREATE UNIQUE INDEX open_alerts ON alerts (trouble, subject) WHERE cleared_ms IS NULL;"
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT);"
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('alerts', 'create', '2026-01-01');"
        "INSERT INTO alerts (trouble, subject, severity, sentence, raised_ms) VALUES"
        " ('no_data', 'source:market', 'critical', 'No new ticks.', 1);"
    )
    old.conn.close()
    open_alert_db(home).conn.close()
    (found,) = open_alerts(home)
    assert (found.sentence, found.cleared_because) == ("No new ticks.", "")
