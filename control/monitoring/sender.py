"""The sender of alerts, which posts each queued delivery until the webhook accepts it or a day has passed."""

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from queue import Empty, Queue

import httpx

from barmill.platform.clock import backoff, now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import Database, Store, immediate
from control.monitoring.delivery import (
    DELIVERY_COLUMNS,
    FIRST_DELAY_MS,
    GIVE_UP_AFTER_MS,
    MAX_DELAY_MS,
    Delivery,
    Event,
    webhook_host,
    webhook_url,
)

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs the complete address, including its token
logger = logging.getLogger(__name__)

_POST_TIMEOUT_S = 10.0
# The additional time for the end of a post; after it, only the name lookup can still be pending.
_EXTRA_WAIT_S = 1.0
_TOO_SLOW = "it did not respond in time"
_ID_HEADER = "X-Barmill-Delivery"


class PostError(Exception):
    """The post did not arrive, or its result is unknown; the message gives the reason without the address."""


def post(url: str, delivery: str, body: Mapping[str, object]) -> None:
    """Post once; raise PostError unless the webhook accepted it.

    Only the status of the response is read, within _POST_TIMEOUT_S, because the server may send any amount of data. The
    time of the name lookup counts, too. A lookup cannot be cancelled, so after the timeout it is left in its thread.
    """
    results = Queue[str](1)
    thread = threading.Thread(
        target=lambda: results.put(_post_problem(url, delivery, body)), daemon=True, name="webhook"
    )
    thread.start()
    try:
        problem = results.get(timeout=_POST_TIMEOUT_S + _EXTRA_WAIT_S)
    except Empty:
        problem = _TOO_SLOW
    if problem:
        raise PostError(problem)


def _post_problem(url: str, delivery: str, body: Mapping[str, object]) -> str:
    """Post, and return why the webhook did not accept it, or ''."""
    try:
        status = asyncio.run(_status(url, delivery, body))
    except (TimeoutError, httpx.TimeoutException):
        return _TOO_SLOW
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # its text may contain the address
        trusted = not any(isinstance(cause, ssl.SSLError) for cause in _causes(error))
        return "it cannot be reached" if trusted else "its certificate is not trusted"
    return "" if 200 <= status < 300 else f"it responded with HTTP {status}"


async def _status(url: str, delivery: str, body: Mapping[str, object]) -> int:
    async with (
        asyncio.timeout(_POST_TIMEOUT_S),
        httpx.AsyncClient(timeout=_POST_TIMEOUT_S, verify=_tls_context()) as client,
        client.stream("POST", url, json=body, headers={_ID_HEADER: delivery}) as response,
    ):
        return response.status_code


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the context for certificate checks; creating it takes longer than a post."""
    return httpx.create_ssl_context()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class DeliverySender(Store):
    """The sender of due deliveries. clock: returns epoch ms."""

    def __init__(self, home: Home, db: Database, clock: Callable[[], int] = now_ms) -> None:
        super().__init__(db)
        self._home, self._clock = home, clock

    def step(self) -> None:
        """Try every due delivery once, oldest first."""
        url = webhook_url(self._home)
        if url is None:
            return
        now_ms = self._clock()
        for delivery in self._due(now_ms):
            wait_ms = backoff(delivery.attempts + 1, FIRST_DELAY_MS, MAX_DELAY_MS)
            # Recorded before the post: after any failure the delivery is tried again, but not immediately.
            self._update("attempts = attempts + 1, next_ms = ?", delivery, now_ms + wait_ms)
            try:
                post(url, delivery.id, self._body(delivery))
            except PostError as error:
                logger.warning("The webhook at %s did not accept an alert: %s.", webhook_host(self._home), error)
                self._update("problem = ?", delivery, str(error))
            else:
                self._update("problem = NULL, delivered_ms = ?", delivery, self._clock())

    def _due(self, now_ms: int) -> list[Delivery]:
        """Return the deliveries to try now: for each alert only the oldest that is not delivered yet."""
        waiting = "delivered_ms IS NULL AND created_ms > :given_up"
        first = f"SELECT min(number) FROM alert_deliveries WHERE {waiting} GROUP BY coalesce(alert, -number)"
        due = f"number IN ({first}) AND next_ms <= :now"
        query = f"SELECT {DELIVERY_COLUMNS} FROM alert_deliveries WHERE {due} ORDER BY number"
        rows = self.db.conn.execute(query, {"now": now_ms, "given_up": now_ms - GIVE_UP_AFTER_MS}).fetchall()
        return [Delivery(*row) for row in rows]

    def _update(self, change: str, delivery: Delivery, value: object) -> None:
        with immediate(self.db):
            self.db.conn.execute(f"UPDATE alert_deliveries SET {change} WHERE id = ?", (value, delivery.id))

    def _body(self, delivery: Delivery) -> Mapping[str, object]:
        """Return the body to post. Chat programs show only `text`."""
        body: dict[str, object] = {"id": delivery.id, "event": delivery.event, "from": "barmill"}
        if delivery.event == Event.TEST:
            return body | {"text": "Barmill: this is a test. Alerts are sent to this address."}
        columns = ("id", "trouble", "subject", "severity", "sentence", "raised_ms", "cleared_ms", "cleared_because")
        row = self.db.conn.execute(
            f"SELECT {', '.join(columns)} FROM alerts WHERE id = ?", (delivery.alert,)
        ).fetchone()
        alert = dict(zip(columns, row, strict=True)) if row is not None else {}
        is_cleared = delivery.event == Event.CLEARED
        text = f"Barmill, {'cleared' if is_cleared else alert.get('severity')}: {alert.get('sentence')}"
        if is_cleared and alert.get("cleared_because"):
            text = f"{text} {alert['cleared_because']}"
        return body | {
            "text": text,
            "alert": alert if is_cleared else alert | {"cleared_ms": None, "cleared_because": ""},
        }
