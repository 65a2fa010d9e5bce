"""The webhook that alerts are posted to: where its address is kept, and how something is posted.

The address may hold a token, so it is kept like a key: in a file of its own in the folder of keys, and only its host is
ever shown or logged. Admins set it, so it may point anywhere, inside the own network too.
"""

import asyncio
import logging
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from urllib.parse import urlsplit

import httpx

from bar.sqlite import Database
from control.actions import action
from control.errors import ControlError
from control.home import Home
from control.people.roles import Actor, Permission

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs the whole address, with its token

_FILE = "alert-webhook"
_TOTAL_S = 10.0
_MAX_CHARACTERS = 2_000
_ID_HEADER = "X-Barmill-Delivery"


class WebhookError(ControlError):
    """The address cannot be used; the sentence does not repeat it."""


class PostFailed(Exception):
    """What was posted did not arrive, or nobody knows; the message says why, without the address."""


def webhook_url(home: Home) -> str | None:
    """Return the address, or None where alerts go nowhere."""
    try:
        return (home.keys / _FILE).read_text("utf-8")
    except FileNotFoundError:
        return None


def webhook_host(home: Home) -> str | None:
    """Return what may be shown of the address."""
    url = webhook_url(home)
    return None if url is None else _host(url)


def set_webhook(home: Home, db: Database, actor: Actor, url: str | None) -> None:
    """Post alerts to this address from now on, also those that wait; with None to nowhere, and none waits any more."""
    with action(db, actor, "alert.webhook", "webhook", needs=Permission.MANAGE_ALERTS) as change:
        host = None if url is None else _checked_host(url)
        change.before, change.after = {"host": webhook_host(home)}, {"host": host}
        if url is None:
            db.conn.execute("DELETE FROM alert_deliveries WHERE delivered_ms IS NULL")
    path = home.keys / _FILE
    if url is None:
        path.unlink(missing_ok=True)
        return
    beside = path.with_suffix(".new")
    beside.touch(0o600)
    beside.chmod(0o600)
    beside.write_text(url, "utf-8")
    beside.replace(path)


def post(url: str, delivery: str, body: Mapping[str, object]) -> None:
    """Post once; raise PostFailed unless it was taken.

    Only the status of the answer is read, and all of it within _TOTAL_S: the server that answers may send any amount.
    """
    try:
        status = asyncio.run(_status(url, delivery, body))
    except (TimeoutError, httpx.TimeoutException):
        raise PostFailed("it did not answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # its text may hold the address
        trusted = not any(isinstance(one, ssl.SSLError) for one in _causes(error))
        raise PostFailed("it cannot be reached" if trusted else "its certificate is not trusted") from None
    if not 200 <= status < 300:
        raise PostFailed(f"it answered with HTTP {status}")


async def _status(url: str, delivery: str, body: Mapping[str, object]) -> int:
    async with (
        asyncio.timeout(_TOTAL_S),
        httpx.AsyncClient(timeout=_TOTAL_S, verify=_trusted()) as client,
        client.stream("POST", url, json=body, headers={_ID_HEADER: delivery}) as answer,
    ):
        return answer.status_code


@cache
def _trusted() -> ssl.SSLContext:
    """Return what checks certificates; making it takes longer than a post."""
    return httpx.create_ssl_context()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _checked_host(url: str) -> str:
    host = _host(url)
    printable = url.isprintable() and " " not in url
    if not host or not printable or len(url) > _MAX_CHARACTERS or urlsplit(url).scheme not in ("http", "https"):
        raise WebhookError("This is not the address of a webhook; it looks like https://example.com/path.")
    return host


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return ""
