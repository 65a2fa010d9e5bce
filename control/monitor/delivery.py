"""The way of alerts to the webhook: put up with the alert in one transaction, posted until they are taken.

    alert_deliveries   id, alert, event, created_ms, attempts, next_ms, delivered_ms, problem

A delivery is noted as attempted before it is posted, so a controller that is killed in between tries again: it arrives
at least once, and every attempt carries the same id. Of one alert, what was raised is delivered before it is cleared.
"""

import logging
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from bar.clock import now_ms
from bar.sqlite import Database, Migrations
from bar.sqlite_file import StoreMissingError
from control.actions import action
from control.database import immediate, read_control_db
from control.home import Home
from control.monitor.webhook import PostFailed, post, webhook_host, webhook_url
from control.people.roles import Actor, Permission

logger = logging.getLogger(__name__)

FIRST_DELAY_MS, LONGEST_DELAY_MS = 5_000, 600_000
GIVE_UP_AFTER_MS = 86_400_000
_KEPT_MS = 7 * 86_400_000
delivery_migrations = Migrations("alert_deliveries")


class Event(StrEnum):
    """What a delivery tells."""

    RAISED = "raised"
    CLEARED = "cleared"
    TEST = "test"


@delivery_migrations()
def create(db: Database) -> None:
    """Make the first version of the table."""
    db.conn.execute(
        "CREATE TABLE alert_deliveries (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, alert INTEGER,"
        " event TEXT NOT NULL, created_ms INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,"
        " next_ms INTEGER NOT NULL, delivered_ms INTEGER, problem TEXT)"
    )
    db.conn.execute("CREATE INDEX waiting_deliveries ON alert_deliveries (next_ms) WHERE delivered_ms IS NULL")


@dataclass(frozen=True)
class Delivery:
    """One thing to tell the webhook, and how that went so far."""

    id: str
    alert: int | None
    event: str
    created_ms: int
    attempts: int
    next_ms: int
    delivered_ms: int | None
    problem: str | None


_COLUMNS = "id, alert, event, created_ms, attempts, next_ms, delivered_ms, problem"


def put_up(db: Database, alert: int | None, event: Event, at_ms: int) -> None:
    """Put something up for delivery, in the caller's transaction."""
    query = "INSERT INTO alert_deliveries (id, alert, event, created_ms, next_ms) VALUES (?, ?, ?, ?, ?)"
    db.conn.execute(query, (uuid.uuid4().hex, alert, event, at_ms, at_ms))
    db.conn.execute("DELETE FROM alert_deliveries WHERE created_ms < ?", (at_ms - _KEPT_MS,))


def put_up_test(db: Database, actor: Actor, at_ms: int) -> None:
    """Put up a test, so that somebody can see that alerts arrive."""
    with action(db, actor, "alert.test", "webhook", needs=Permission.MANAGE_ALERTS):
        put_up(db, None, Event.TEST, at_ms)


def last_deliveries(home: Home, count: int) -> list[Delivery]:
    """Return the last deliveries, the newest first."""
    query = f"SELECT {_COLUMNS} FROM alert_deliveries ORDER BY number DESC LIMIT ?"
    try:
        with closing(read_control_db(home).conn) as connection:
            return [Delivery(*row) for row in connection.execute(query, (count,))]
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist before its tables do
        return []


class Courier:
    """Posts what is due. clock: epoch ms."""

    def __init__(self, home: Home, db: Database, clock: Callable[[], int] = now_ms) -> None:
        self._home, self._db, self._clock = home, db, clock

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def step(self) -> None:
        """Try everything that is due once, oldest first."""
        url = webhook_url(self._home)
        if url is None:
            return
        now_ms = self._clock()
        for delivery in self._due(now_ms):
            wait_ms = min(FIRST_DELAY_MS * 2 ** min(delivery.attempts, 20), LONGEST_DELAY_MS)
            # Written down before it is posted: whatever happens in between, it is tried again, and not at once.
            self._note("attempts = attempts + 1, next_ms = ?", delivery, now_ms + wait_ms)
            try:
                post(url, delivery.id, self._body(delivery))
            except PostFailed as error:
                logger.warning("The webhook at %s has not taken an alert: %s.", webhook_host(self._home), error)
                self._note("problem = ?", delivery, str(error))
            else:
                self._note("problem = NULL, delivered_ms = ?", delivery, self._clock())

    def _due(self, now_ms: int) -> list[Delivery]:
        """Return what is to be tried now: of each alert only what was put up first."""
        waiting = "delivered_ms IS NULL AND created_ms > :given_up"
        first = f"SELECT min(number) FROM alert_deliveries WHERE {waiting} GROUP BY coalesce(alert, -number)"
        query = f"SELECT {_COLUMNS} FROM alert_deliveries WHERE number IN ({first}) AND next_ms <= :now ORDER BY number"
        rows = self._db.conn.execute(query, {"now": now_ms, "given_up": now_ms - GIVE_UP_AFTER_MS}).fetchall()
        return [Delivery(*row) for row in rows]

    def _note(self, change: str, delivery: Delivery, value: object) -> None:
        with immediate(self._db):
            self._db.conn.execute(f"UPDATE alert_deliveries SET {change} WHERE id = ?", (value, delivery.id))

    def _body(self, delivery: Delivery) -> Mapping[str, object]:
        """Return what is posted. `text` alone is what chat programs show."""
        body: dict[str, object] = {"id": delivery.id, "event": delivery.event, "from": "barmill"}
        if delivery.event == Event.TEST:
            return body | {"text": "Barmill: this is a test; alerts arrive here."}
        columns = ("id", "trouble", "subject", "severity", "sentence", "raised_ms", "cleared_ms", "cleared_because")
        row = self._db.conn.execute(
            f"SELECT {', '.join(columns)} FROM alerts WHERE id = ?", (delivery.alert,)
        ).fetchone()
        alert = dict(zip(columns, row, strict=True)) if row is not None else {}
        over = delivery.event == Event.CLEARED
        text = f"Barmill, {'over' if over else alert.get('severity')}: {alert.get('sentence')}"
        if over and alert.get("cleared_because"):
            text = f"{text} {alert['cleared_because']}"
        return body | {"text": text, "alert": alert if over else alert | {"cleared_ms": None, "cleared_because": ""}}
