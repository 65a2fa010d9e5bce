"""The queue of alerts for the webhook, filled in the transaction of the alert; sender.py posts them.

    alert_deliveries   number, id, alert, event, created_ms, attempts, next_ms, delivered_ms, problem

An attempt is recorded before the post, so a controller that is killed in between tries again. An event is delivered at
least once, unless the webhook does not accept it for a day, and every attempt carries the same id. For one alert,
"raised" is delivered before "cleared".

The address may contain a token, so it is stored like a key, in a separate file in the folder of keys, and only its host
and port are ever shown or logged. Admins set it, so it may point anywhere, including the local network.
"""

import uuid
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from barmill.audit.actions import action
from barmill.audit.roles import Actor, Permission
from barmill.platform.clock import MS_PER_DAY
from barmill.platform.errors import ControlError
from barmill.platform.file_replacement import PRIVATE_MODE, replace_file
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Migrations, if_ready, read_control_db

_FILE = "alert-webhook"
_MAX_URL_LENGTH = 2_000


class WebhookError(ControlError):
    """The address is not valid; the message does not repeat it."""


def webhook_url(home: Home) -> str | None:
    """Return the address, or None without a webhook."""
    try:
        return (home.keys / _FILE).read_text("utf-8")
    except FileNotFoundError:
        return None


def webhook_host(home: Home) -> str | None:
    """Return the host and port of the address, the only parts that may be shown; None without a webhook."""
    url = webhook_url(home)
    return None if url is None else _host(url)


def set_webhook(home: Home, db: Database, actor: Actor, url: str | None) -> None:
    """Set the address for all further posts, including queued ones; None removes it and the queue.

    Raise WebhookError if the address is invalid, and another ControlError if the actor has no permission.
    """
    with action(db, actor, "alert.webhook", "webhook", needs=Permission.MANAGE_ALERTS) as change:
        host = None if url is None else _validated_host(url)
        change.before, change.after = {"host": webhook_host(home)}, {"host": host}
        if url is None:
            db.conn.execute("DELETE FROM alert_deliveries WHERE delivered_ms IS NULL")
    path = home.keys / _FILE
    if url is None:
        path.unlink(missing_ok=True)
        return
    replace_file(path, url, mode=PRIVATE_MODE)


def _validated_host(url: str) -> str:
    host = _host(url)
    printable = url.isprintable() and " " not in url
    if not host or not printable or len(url) > _MAX_URL_LENGTH or urlsplit(url).scheme not in ("http", "https"):
        raise WebhookError("This is not the address of a webhook; write it like https://example.com/path.")
    return host


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return ""


FIRST_DELAY_MS, MAX_DELAY_MS = 5_000, 600_000
GIVE_UP_AFTER_MS = MS_PER_DAY
_KEPT_MS = 7 * MS_PER_DAY
delivery_migrations = Migrations("alert_deliveries")


class Event(StrEnum):
    """The event that a delivery reports."""

    RAISED = "raised"
    CLEARED = "cleared"
    TEST = "test"


@delivery_migrations()
def create(db: Database) -> None:
    """Create the first version of the table."""
    db.conn.execute(
        "CREATE TABLE alert_deliveries (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, alert INTEGER,"
        " event TEXT NOT NULL, created_ms INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,"
        " next_ms INTEGER NOT NULL, delivered_ms INTEGER, problem TEXT)"
    )
    db.conn.execute("CREATE INDEX waiting_deliveries ON alert_deliveries (next_ms) WHERE delivered_ms IS NULL")


@dataclass(frozen=True)
class Delivery:
    """One event for the webhook, and its delivery state."""

    id: str
    alert: int | None
    event: str
    created_ms: int
    attempts: int
    next_ms: int
    delivered_ms: int | None
    problem: str | None


DELIVERY_COLUMNS = "id, alert, event, created_ms, attempts, next_ms, delivered_ms, problem"


def queue_delivery(db: Database, alert: int | None, event: Event, at_ms: int) -> None:
    """Queue a delivery and delete old ones, in the caller's transaction."""
    query = "INSERT INTO alert_deliveries (id, alert, event, created_ms, next_ms) VALUES (?, ?, ?, ?, ?)"
    db.conn.execute(query, (uuid.uuid4().hex, alert, event, at_ms, at_ms))
    db.conn.execute("DELETE FROM alert_deliveries WHERE created_ms < ?", (at_ms - _KEPT_MS,))


def queue_test(db: Database, actor: Actor, at_ms: int) -> None:
    """Queue a test delivery."""
    with action(db, actor, "alert.test", "webhook", needs=Permission.MANAGE_ALERTS):
        queue_delivery(db, None, Event.TEST, at_ms)


def last_deliveries(home: Home, count: int) -> list[Delivery]:
    """Return the last deliveries, newest first."""
    query = f"SELECT {DELIVERY_COLUMNS} FROM alert_deliveries ORDER BY number DESC LIMIT ?"
    with if_ready(), closing(read_control_db(home).conn) as connection:
        return [Delivery(*row) for row in connection.execute(query, (count,))]
    return []
