"""A ccxt exchange object with its key and limits, and the conversion of its errors to RequestErrors."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ccxt
import ccxt.pro
import httpx

from barmill.ingest.connection.guard import tls_context
from barmill.ingest.connection.http import error_text, retry_after_s
from barmill.ingest.connection.reconnect import (
    InvalidResponseError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    RequestError,
    ServerError,
    UnreachableError,
)
from barmill.ingest.providers.ccxt.settings import CcxtFeed

MAX_BODY_BYTES = 32 * 1024 * 1024  # Binance's list of instruments has 15 MB
TIMEOUT_MS = 10_000
KEEP_ALIVE_MS = 10_000
# ccxt drops trades if an instrument receives more than this between two reads.
KEPT_TRADES = 10_000
_PIECE_BYTES = 256 * 1024
# At this level ccxt does not log requests with their headers and bodies.
logging.getLogger("ccxt").setLevel(logging.ERROR)

Overrides = Mapping[str, object]


class _BoundedResponse(aiohttp.ClientResponse):
    """A response that is read only up to its size limit."""

    async def read(self) -> bytes:
        """Return the whole body; raise ClientPayloadError if it is larger than MAX_BODY_BYTES."""
        if self._body is None:
            body = bytearray()
            async for piece in self.content.iter_chunked(_PIECE_BYTES):
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    self.close()
                    raise aiohttp.ClientPayloadError(f"more than {MAX_BODY_BYTES:,} bytes")
            self._body = bytes(body)
        return self._body


class OpenExchange:
    """An open ccxt exchange; its errors are converted to RequestErrors with plain messages."""

    def __init__(self, exchange: Any, key: str) -> None:
        self.exchange, self._key = exchange, key
        self.label: str = exchange.name

    def request_error(self, error: Exception) -> RequestError:
        """Return the RequestError for an error of ccxt."""
        return request_error(error, self.label, self._key, self.headers)

    @property
    def headers(self) -> httpx.Headers:
        """Return the headers of the last response."""
        return httpx.Headers(self.exchange.last_response_headers or {})


@asynccontextmanager
async def open_exchange(settings: CcxtFeed, key: str, overrides: Overrides) -> AsyncIterator[OpenExchange]:
    """Open an exchange and close it afterwards; convert errors of ccxt inside the block to RequestErrors."""
    connector = aiohttp.TCPConnector(ssl=tls_context())
    async with aiohttp.ClientSession(connector=connector, response_class=_BoundedResponse, trust_env=False) as session:
        opened = OpenExchange(_new_exchange(settings, key, session, overrides), key)
        try:
            if settings.sandbox:
                opened.exchange.set_sandbox_mode(True)
            yield opened
        except FAILURES as error:
            raise opened.request_error(error) from None
        finally:
            await opened.exchange.close()


def _new_exchange(settings: CcxtFeed, key: str, session: aiohttp.ClientSession, overrides: Overrides) -> Any:
    package = ccxt.pro if hasattr(ccxt.pro, settings.exchange) else ccxt.async_support
    exchange = getattr(package, settings.exchange)(
        {
            "enableRateLimit": True,
            "timeout": TIMEOUT_MS,
            "newUpdates": True,
            "session": session,
            "asyncio_loop": asyncio.get_running_loop(),
            "aiohttp_trust_env": False,
            "timeout_on_exit": 0,
            "streaming": {"keepAlive": KEEP_ALIVE_MS},
            "options": {"tradesLimit": KEPT_TRADES},
            **_credentials(key),
            **overrides,
        }
    )
    if not exchange.has["fetchTrades"] and not exchange.has["watchTrades"]:
        raise UnsupportedSettingsError(f"{exchange.name} offers no public trades; choose another exchange.")
    return exchange


def _credentials(key: str) -> Mapping[str, str]:
    """Return the parts of a stored key: its id, its secret, and the password that some exchanges also require.

    Raise KeyRefusedError if it contains characters that cannot be sent.
    """
    if not key:
        return {}
    if not key.isprintable() and not key.replace("\n", "").isprintable():
        raise KeyRefusedError("The stored key contains characters that cannot be sent; store it again.")
    names = ("apiKey", "secret", "password")
    return dict(zip(names, key.split(":", 2), strict=False))


# Errors that ccxt raises on a response it does not expect.
UNEXPECTED_RESPONSE_ERRORS = (AttributeError, ArithmeticError, LookupError, TypeError, ValueError)
FAILURES = (ccxt.BaseError, aiohttp.ClientError, OSError, *UNEXPECTED_RESPONSE_ERRORS)
_QUERY = re.compile(r"\?\S*")


class UnsupportedSettingsError(RequestError):
    """The exchange does not support what the settings require; change the settings."""


def request_error(error: Exception, label: str, key: str, headers: httpx.Headers) -> RequestError:
    """Return the RequestError for an error of ccxt.

    headers: those of the last response, for the rate limit's duration.
    """
    # The text may quote a response with a lone surrogate, because ccxt parses JSON with Python's parser.
    detail = error_text(_QUERY.sub("?…", str(error)).encode("utf-8", "backslashreplace"), key)
    match error:
        case ccxt.RestrictedLocation():
            return KeyRefusedError(f"{label} does not serve the country of this machine: {detail}")
        case ccxt.AuthenticationError():
            return KeyRefusedError(f"{label} rejects the key, or the key does not permit this request: {detail}")
        case ccxt.RateLimitExceeded() | ccxt.DDoSProtection():
            return LimitedError(f"{label} received too many requests.", retry_after_s(headers))
        case ccxt.OnMaintenance():
            return ServerError(f"{label} is closed for maintenance.")
        case ccxt.RequestTimeout():
            return UnreachableError(f"{label} did not respond in time.")
        case ccxt.InvalidNonce():
            return ServerError(f"{label} reports that the clock of this machine is wrong: {detail}")
        case ccxt.ExchangeNotAvailable():
            return UnreachableError(f"{label} is not available, or cannot be reached.")
        case ccxt.NetworkError() | aiohttp.ClientError() | OSError():
            return UnreachableError(f"The connection to {label} was lost or could not be made.")
        case ccxt.BadSymbol():
            return NotFoundError(f"{label} does not know a requested instrument: {detail}")
        case ccxt.NotSupported() | ccxt.ArgumentsRequired():
            return UnsupportedSettingsError(f"{label} does not support this: {detail}")
        case ccxt.BaseError():
            return ServerError(f"{label} rejected the request: {detail}")
    return InvalidResponseError(f"{label} sent something that ccxt cannot read ({type(error).__name__}).")
