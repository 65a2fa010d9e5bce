"""The alerts in the control database: raised and cleared by the controller, acknowledged by users.

    alerts   id, trouble, subject, severity, sentence, raised_ms, cleared_ms, acknowledged_ms, acknowledged_by,
             cleared_because

At most one alert is open per kind (trouble) and subject. If there is a webhook, raising or clearing an alert queues a
delivery in the same transaction (see delivery.py).

A condition must be good for a while before an alert is cleared and, unless its kind already measures over a period,
bad for a while before an alert is raised. So neither a brief fault nor a value near its threshold makes alerts flap.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from barmill.audit.accounts import account_migrations
from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.audit.trail import audit_migrations
from barmill.platform.clock import MS_PER_DAY
from barmill.platform.errors import ControlError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, if_ready, immediate, open_control_db, read_control_db
from control.monitoring.delivery import Event, delivery_migrations, queue_delivery
from control.monitoring.judge import Finding
from control.monitoring.rules import AlertKind, Rules, rule_migrations

CLEAR_AFTER_MS = 15_000
_RAISE_AFTER_MS = 10_000
# For these kinds, the threshold is the time for which the condition may last.
_DURATION_KINDS = frozenset(
    {
        AlertKind.JOB_STATE,
        AlertKind.PROCESS_DOWN,
        AlertKind.KAFKA_AWAY,
        AlertKind.FEED_DOWN,
        AlertKind.FEED_GAPS,
        AlertKind.DAMAGE,
    }
)
# These kinds already measure over a period.
_IMMEDIATE_KINDS = frozenset(
    {
        AlertKind.NO_DATA,
        AlertKind.NO_CHECKPOINT,
        AlertKind.JOB_RESTARTS,
        AlertKind.PROCESS_RESTARTS,
        AlertKind.KEY_EXPIRES,
    }
)

Key = tuple[AlertKind, str]


@dataclass(frozen=True)
class AlertState:
    """The alert state of a key: whether an alert is open, and since when all findings have contradicted that."""

    open: bool
    contradicted_since_ms: int | None = None


@dataclass(frozen=True)
class Changes:
    """The alerts to raise and to clear, and the resulting states."""

    pending: Mapping[Key, AlertState]
    raised: Sequence[Finding]
    cleared: Sequence[Key]


def advance(pending: Mapping[Key, AlertState], findings: Sequence[Finding], rules: Rules, now_ms: int) -> Changes:
    """Return the changes after one observation; a subject without a finding or with a disabled rule counts as good."""
    by_key = {(new_finding.alert_kind, new_finding.subject): new_finding for new_finding in findings}
    states_after: dict[Key, AlertState] = {}
    raised, cleared = list[Finding](), list[Key]()
    for key in {**pending, **by_key}:
        state_before, finding = pending.get(key, AlertState(open=False)), by_key.get(key)
        bad = finding.bad if finding is not None else False
        if bad is None or bad == state_before.open:
            state = AlertState(state_before.open)
        else:
            since_ms = state_before.contradicted_since_ms if state_before.contradicted_since_ms is not None else now_ms
            wait_ms = _raise_after_ms(key[0], rules) if bad else CLEAR_AFTER_MS
            is_due = now_ms - since_ms >= wait_ms
            state = AlertState(bad) if is_due else AlertState(state_before.open, since_ms)
            if is_due and bad and finding is not None:
                raised.append(finding)
            elif is_due:
                cleared.append(key)
        if state != AlertState(open=False):
            states_after[key] = state
    return Changes(states_after, raised, cleared)


def _raise_after_ms(kind: AlertKind, rules: Rules) -> float:
    if kind in _DURATION_KINDS:
        return rules[kind].threshold * 1_000
    return 0 if kind in _IMMEDIATE_KINDS else _RAISE_AFTER_MS


_KEPT_MS = 90 * MS_PER_DAY
_COLUMNS = (
    "id, trouble, subject, severity, sentence, raised_ms, cleared_ms, acknowledged_ms, acknowledged_by, cleared_because"
)
_migrations = Migrations("alerts")


class NoSuchAlertError(ControlError):
    """The alert does not exist or was already cleared."""


@_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    db.conn.execute(
        "CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, trouble TEXT NOT NULL, subject TEXT NOT NULL,"
        " severity TEXT NOT NULL, sentence TEXT NOT NULL, raised_ms INTEGER NOT NULL, cleared_ms INTEGER,"
        " acknowledged_ms INTEGER, acknowledged_by TEXT)"
    )
    db.conn.execute("CREATE UNIQUE INDEX open_alerts ON alerts (trouble, subject) WHERE cleared_ms IS NULL")


@_migrations()
def say_why_cleared(db: Database) -> None:
    """Add the reason why an alert was cleared."""
    db.conn.execute("ALTER TABLE alerts ADD COLUMN cleared_because TEXT NOT NULL DEFAULT ''")


@dataclass(frozen=True)
class Alert:
    """One alert; open until it is cleared.

    cleared_because: the user action that ended it, as a sentence; '' if the condition ended.
    """

    id: int
    trouble: str
    subject: str
    severity: str
    sentence: str
    raised_ms: int
    cleared_ms: int | None = None
    acknowledged_ms: int | None = None
    acknowledged_by: str | None = None
    cleared_because: str = ""


def open_alert_db(home: Home) -> Database:
    """Open the control database with all tables that alerts need."""
    return open_control_db(
        home, audit_migrations, account_migrations, rule_migrations, delivery_migrations, _migrations
    )


def open_alerts(home: Home) -> list[Alert]:
    """Return the open alerts of a home, most severe and newest first; empty if nothing was ever monitored."""
    with if_ready(), closing(read_control_db(home).conn) as connection:
        return _read(connection, "WHERE cleared_ms IS NULL ORDER BY severity, raised_ms DESC")
    return []


def past_alerts(home: Home, count: int) -> list[Alert]:
    """Return the alerts that were cleared last, newest first."""
    with if_ready(), closing(read_control_db(home).conn) as connection:
        return _read(connection, "WHERE cleared_ms IS NOT NULL ORDER BY cleared_ms DESC LIMIT ?", (count,))
    return []


def read_alert_states(db: Database) -> dict[Key, AlertState]:
    """Return the stored alert states, for a controller that has just started."""
    rows = db.conn.execute("SELECT trouble, subject FROM alerts WHERE cleared_ms IS NULL")
    return {(AlertKind(kind), subject): AlertState(open=True) for kind, subject in rows if kind in set(AlertKind)}


def store_changes(
    db: Database,
    at_ms: int,
    rules: Rules,
    raised: Sequence[Finding],
    cleared: Sequence[Key],
    cleared_because: Mapping[str, str] | None = None,
    *,
    deliver: bool,
) -> None:
    """Store the raised and cleared alerts, queue their deliveries if requested, and delete old alerts.

    cleared_because: by subject, the user action that clears its alerts, as a sentence.
    """
    with immediate(db):
        for finding in raised:
            values = (finding.alert_kind, finding.subject, rules[finding.alert_kind].severity, finding.sentence, at_ms)
            query = "INSERT INTO alerts (trouble, subject, severity, sentence, raised_ms) VALUES (?, ?, ?, ?, ?)"
            alert_id = db.conn.execute(query, values).lastrowid
            if deliver and alert_id is not None:
                queue_delivery(db, alert_id, Event.RAISED, at_ms)
        for kind, subject in cleared:
            condition = "trouble = ? AND subject = ? AND cleared_ms IS NULL"
            for (alert_id,) in db.conn.execute(f"SELECT id FROM alerts WHERE {condition}", (kind, subject)).fetchall():
                cause = (cleared_because or {}).get(subject, "")
                query = "UPDATE alerts SET cleared_ms = ?, cleared_because = ? WHERE id = ?"
                db.conn.execute(query, (at_ms, cause, alert_id))
                if deliver:
                    queue_delivery(db, alert_id, Event.CLEARED, at_ms)
        db.conn.execute("DELETE FROM alerts WHERE cleared_ms < ?", (at_ms - _KEPT_MS,))


def acknowledge(db: Database, actor: Actor, alert_id: int, at_ms: int) -> None:
    """Record that a user acknowledged an open alert; the first acknowledgement remains.

    Raise NoSuchAlertError if the alert is not open, and another ControlError if the user has no permission.
    """
    with action(db, actor, "alert.acknowledge", str(alert_id), needs=Permission.ACKNOWLEDGE_ALERTS) as change:
        alerts = _read(db.conn, "WHERE id = ? AND cleared_ms IS NULL", (alert_id,))
        if not alerts:
            raise NoSuchAlertError("This alert is not open any more; no action is needed.")
        change.after = {"subject": alerts[0].subject, "sentence": alerts[0].sentence}
        db.conn.execute(
            "UPDATE alerts SET acknowledged_ms = ?, acknowledged_by = ? WHERE id = ? AND acknowledged_ms IS NULL",
            (at_ms, actor.name, alert_id),
        )


def _read(connection: sqlite3.Connection, clauses: str, values: tuple[object, ...] = ()) -> list[Alert]:
    return [Alert(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM alerts {clauses}", values)]
