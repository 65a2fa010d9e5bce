"""One connection's worth of ccxt: an exchange with its key, its limits, and nothing taken from the environment."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ccxt.pro
import httpx

from feed.connection.errors import KeyRefusedError, QuestionError
from feed.connection.guard import trusted
from feed.providers.ccxt.failures import FAILURES, MisfitError, failure
from feed.providers.ccxt.settings import CcxtFeed

MAX_BODY_BYTES = 32 * 1024 * 1024  # Binance lists its instruments in 15 MB
TIMEOUT_MS = 10_000
KEEP_ALIVE_MS = 10_000
# More of an instrument between two looks than this would be lost by ccxt.
KEPT_TRADES = 10_000
_PIECE_BYTES = 256 * 1024
# At this level it does not log questions with their headers and bodies.
logging.getLogger("ccxt").setLevel(logging.ERROR)

Overrides = Mapping[str, object]


class _BoundedAnswer(aiohttp.ClientResponse):
    """An answer that is not read any further than to its limit."""

    async def read(self) -> bytes:
        """Return the whole body."""
        if self._body is None:
            body = bytearray()
            async for piece in self.content.iter_chunked(_PIECE_BYTES):
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    self.close()
                    raise aiohttp.ClientPayloadError(f"more than {MAX_BODY_BYTES:,} bytes")
            self._body = bytes(body)
        return self._body


class Opened:
    """An exchange as ccxt has it, whose failures come as QuestionErrors in plain words."""

    def __init__(self, exchange: Any, key: str) -> None:
        self.exchange, self._key = exchange, key
        self.label: str = exchange.name

    def failed(self, error: Exception) -> QuestionError:
        """Return what an error of ccxt means."""
        return failure(error, self.label, self._key, self.headers)

    @property
    def headers(self) -> httpx.Headers:
        """Return the headers of the last answer."""
        return httpx.Headers(self.exchange.last_response_headers or {})


@asynccontextmanager
async def opened(settings: CcxtFeed, key: str, overrides: Overrides) -> AsyncIterator[Opened]:
    """Make an exchange and close it again; raise QuestionError for what the block meets of ccxt's errors."""
    connector = aiohttp.TCPConnector(ssl=trusted())
    async with aiohttp.ClientSession(connector=connector, response_class=_BoundedAnswer, trust_env=False) as session:
        made = Opened(_made(settings, key, session, overrides), key)
        try:
            if settings.sandbox:
                made.exchange.set_sandbox_mode(True)
            yield made
        except FAILURES as error:
            raise made.failed(error) from None
        finally:
            await made.exchange.close()


def _made(settings: CcxtFeed, key: str, session: aiohttp.ClientSession, overrides: Overrides) -> Any:
    room = ccxt.pro if hasattr(ccxt.pro, settings.exchange) else ccxt.async_support
    made = getattr(room, settings.exchange)(
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
    if not made.has["fetchTrades"] and not made.has["watchTrades"]:
        raise MisfitError(f"{made.name} offers no public trades; take another exchange.")
    return made


def _credentials(key: str) -> Mapping[str, str]:
    """Return the parts of a stored key: its id, its secret, and the password that some want beside them."""
    if not key:
        return {}
    if not key.isprintable() and not key.replace("\n", "").isprintable():
        raise KeyRefusedError("The stored key has characters that no key has; store it again.")
    names = ("apiKey", "secret", "password")
    return dict(zip(names, key.split(":", 2), strict=False))
