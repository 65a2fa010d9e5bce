"""The alerts, in the control database: raised and cleared by the controller, acknowledged by people.

    alerts   id, trouble, subject, severity, sentence, raised_ms, cleared_ms, acknowledged_ms, acknowledged_by,
             cleared_because

Of one trouble of one subject at most one alert is open. Each that is raised or cleared is also put up for delivery to
the webhook, if there is one, in the same transaction (see delivery.py).
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from bar.sqlite import Database, Migrations
from bar.sqlite_file import StoreMissingError
from control.actions import action
from control.audit import audit_migrations
from control.database import immediate, open_control_db, read_control_db
from control.errors import ControlError
from control.home import Home
from control.monitor.delivery import Event, delivery_migrations, put_up
from control.monitor.judge import Finding
from control.monitor.rules import Rules, Trouble, rule_migrations
from control.monitor.standing import Key, Standing
from control.people.accounts import account_migrations
from control.people.roles import Actor, Permission

_KEPT_MS = 90 * 86_400_000
_COLUMNS = (
    "id, trouble, subject, severity, sentence, raised_ms, cleared_ms, acknowledged_ms, acknowledged_by, cleared_because"
)
_migrations = Migrations("alerts")


class NoSuchAlertError(ControlError):
    """There is no such open alert: it was cleared meanwhile."""


@_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
    db.conn.execute(
        "CREATE TABLE alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, trouble TEXT NOT NULL, subject TEXT NOT NULL,"
        " severity TEXT NOT NULL, sentence TEXT NOT NULL, raised_ms INTEGER NOT NULL, cleared_ms INTEGER,"
        " acknowledged_ms INTEGER, acknowledged_by TEXT)"
    )
    db.conn.execute("CREATE UNIQUE INDEX open_alerts ON alerts (trouble, subject) WHERE cleared_ms IS NULL")


@_migrations()
def say_why_cleared(db: Database) -> None:
    """Add why an alert was cleared."""
    db.conn.execute("ALTER TABLE alerts ADD COLUMN cleared_because TEXT NOT NULL DEFAULT ''")


@dataclass(frozen=True)
class Alert:
    """One alert; open until it is cleared.

    cleared_because: what a person did that ended it, in a sentence; '' where all is well again.
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
    """Open the control database with everything that alerts need."""
    return open_control_db(
        home, audit_migrations, account_migrations, rule_migrations, delivery_migrations, _migrations
    )


def open_alerts(home: Home) -> list[Alert]:
    """Return the open alerts of a home, the gravest and newest first; none where nothing ever watched."""
    try:
        with closing(read_control_db(home).conn) as connection:
            return _read(connection, "WHERE cleared_ms IS NULL ORDER BY severity, raised_ms DESC")
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist before its tables do
        return []


def past_alerts(home: Home, count: int) -> list[Alert]:
    """Return the alerts that were cleared last, the newest first."""
    try:
        with closing(read_control_db(home).conn) as connection:
            return _read(connection, "WHERE cleared_ms IS NOT NULL ORDER BY cleared_ms DESC LIMIT ?", (count,))
    except (StoreMissingError, sqlite3.OperationalError):
        return []


def standings(db: Database) -> dict[Key, Standing]:
    """Return how things stand as far as the database knows, for a controller that was just started."""
    rows = db.conn.execute("SELECT trouble, subject FROM alerts WHERE cleared_ms IS NULL")
    return {(Trouble(trouble), subject): Standing(open=True) for trouble, subject in rows if trouble in set(Trouble)}


def note_changes(
    db: Database,
    at_ms: int,
    rules: Rules,
    raised: Sequence[Finding],
    cleared: Sequence[Key],
    because: Mapping[str, str] | None = None,
    *,
    deliver: bool,
) -> None:
    """Keep what was raised and cleared, put both up for delivery if asked to, and forget what is long over.

    because: by subject, what a person did that clears its alerts.
    """
    with immediate(db):
        for finding in raised:
            values = (finding.trouble, finding.subject, rules[finding.trouble].severity, finding.sentence, at_ms)
            query = "INSERT INTO alerts (trouble, subject, severity, sentence, raised_ms) VALUES (?, ?, ?, ?, ?)"
            number = db.conn.execute(query, values).lastrowid
            if deliver and number is not None:
                put_up(db, number, Event.RAISED, at_ms)
        for trouble, subject in cleared:
            where = "trouble = ? AND subject = ? AND cleared_ms IS NULL"
            for (number,) in db.conn.execute(f"SELECT id FROM alerts WHERE {where}", (trouble, subject)).fetchall():
                why = (because or {}).get(subject, "")
                query = "UPDATE alerts SET cleared_ms = ?, cleared_because = ? WHERE id = ?"
                db.conn.execute(query, (at_ms, why, number))
                if deliver:
                    put_up(db, number, Event.CLEARED, at_ms)
        db.conn.execute("DELETE FROM alerts WHERE cleared_ms < ?", (at_ms - _KEPT_MS,))


def acknowledge(db: Database, actor: Actor, number: int, at_ms: int) -> None:
    """Note that somebody has seen an open alert; who was first stays."""
    with action(db, actor, "alert.acknowledge", str(number), needs=Permission.ACKNOWLEDGE_ALERTS) as change:
        found = _read(db.conn, "WHERE id = ? AND cleared_ms IS NULL", (number,))
        if not found:
            raise NoSuchAlertError("This alert was cleared meanwhile; there is nothing left to do about it.")
        change.after = {"subject": found[0].subject, "sentence": found[0].sentence}
        db.conn.execute(
            "UPDATE alerts SET acknowledged_ms = ?, acknowledged_by = ? WHERE id = ? AND acknowledged_ms IS NULL",
            (at_ms, actor.name, number),
        )


def _read(connection: sqlite3.Connection, rest: str, values: tuple[object, ...] = ()) -> list[Alert]:
    return [Alert(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM alerts {rest}", values)]
