"""The HTTP interface of the demo market.

    GET /healthz                                    no key needed
    GET /v1/instruments                             the traded instruments
    GET /v1/prices?cursor=&limit=                   one page of ticks after a cursor
    GET /v1/prices/stream?cursor=&instruments=A,B   live ticks, one JSON object per line, with heartbeats

A key is sent as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Without a cursor, reading starts with the oldest tick
kept. A heartbeat `{"heartbeat": true, "time": ms, "cursor": n}` means that all requested ticks that the market
published up to that time and cursor have been sent.
"""

from collections.abc import Callable

import orjson
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from barmill.simulator.access import AccessFileError, AccessKeys
from barmill.simulator.exchange import Exchange

DEFAULT_PAGE_TICKS = 1_000
MAX_PAGE_TICKS = 5_000
_NO_KEY = "No API key was sent; send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'."


class MarketApi:
    """The request handlers for one exchange."""

    def __init__(self, exchange: Exchange, access: AccessKeys) -> None:
        self._exchange, self._access = exchange, access

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/healthz", self.health),
            Route("/v1/instruments", self.instruments),
            Route("/v1/prices", self.page),
            Route("/v1/prices/stream", self.stream),
        ]
        return Starlette(
            routes=routes, exception_handlers={HTTPException: _error_response, AccessFileError: _unavailable_response}
        )

    async def health(self, _request: Request) -> Response:
        """Return the market's status, time and newest cursor."""
        time_ms, cursor = self._exchange.clock_ms, self._exchange.newest_cursor
        return _json({"status": "ok", "simulated": True, "time": time_ms, "newest_cursor": cursor})

    async def instruments(self, request: Request) -> Response:
        """Return the traded instruments."""
        self._authorize(request)
        return _json(
            [
                {
                    "instrument": instrument.name,
                    "description": f"{instrument.description} (fictional)",
                    "price_decimals": instrument.price_decimals,
                    "volume": instrument.has_volume,
                    "simulated": True,
                }
                for instrument in self._exchange.instruments
            ]
        )

    async def page(self, request: Request) -> Response:
        """Return one page of ticks. `cursor` in the response requests the next page."""
        self._authorize(request)
        after = self._cursor(request.query_params)
        limit = _int_parameter(request.query_params, "limit", DEFAULT_PAGE_TICKS)
        if not 1 <= limit <= MAX_PAGE_TICKS:
            raise HTTPException(400, f"limit must be from 1 to {MAX_PAGE_TICKS}.")
        batch = self._exchange.read(after, limit)
        lines = batch.lines.splitlines()
        complete = len(lines) <= limit
        return _json(
            {
                "simulated": True,
                "prices": [orjson.Fragment(line) for line in lines[:limit]],
                "cursor": batch.cursor if complete else after + limit,
                "complete_to": batch.to_ms if complete else None,
                "oldest_cursor": self._exchange.oldest_cursor,
                "newest_cursor": self._exchange.newest_cursor,
            }
        )

    async def stream(self, request: Request) -> Response:
        """Stream ticks as they are published, until the client disconnects or `Exchange.stream` ends."""
        still_authorized = self._authorize(request)
        after = self._cursor(request.query_params)
        names = frozenset(name for name in request.query_params.get("instruments", "").split(",") if name)
        unknown = names - {instrument.name for instrument in self._exchange.instruments}
        if unknown:
            raise HTTPException(400, f"Unknown instruments: {', '.join(sorted(unknown))}; see /v1/instruments.")
        return StreamingResponse(
            self._exchange.stream(after, names, still_authorized), media_type="application/x-ndjson"
        )

    def _authorize(self, request: Request) -> Callable[[], bool]:
        """Refuse the request unless its key is valid. Return a function that checks the key again during a response."""
        key = _key(request)
        refusal = self._access.refusal(key)
        if refusal is not None:
            raise HTTPException(401, refusal, {"WWW-Authenticate": "Bearer"})
        return lambda: self._access.refusal(key) is None

    def _cursor(self, query: QueryParams) -> int:
        oldest, newest = self._exchange.oldest_cursor, self._exchange.newest_cursor
        cursor = _int_parameter(query, "cursor", oldest)
        if cursor < oldest:
            raise _GoneError("The ticks after this cursor are no longer stored.", oldest)
        if cursor > newest:
            raise _GoneError("This market has not issued this cursor yet.", oldest)
        return cursor


class _GoneError(HTTPException):
    """A cursor outside the stored range; `oldest_cursor` is where to continue."""

    def __init__(self, reason: str, oldest_cursor: int) -> None:
        super().__init__(410, reason)
        self.oldest_cursor = oldest_cursor


def _key(request: Request) -> str:
    authorization = request.headers.get("authorization")
    if authorization is None:
        key = request.headers.get("x-api-key", "")
    else:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPException(401, "The Authorization header must be 'Bearer KEY'.", {"WWW-Authenticate": "Bearer"})
    if not key.strip():
        raise HTTPException(401, _NO_KEY, {"WWW-Authenticate": "Bearer"})
    return key.strip()


def _int_parameter(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    # Cursors fit into 64 bits, so longer numbers are not parsed.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise HTTPException(400, f"{name} must be a whole number of at least 0.")
    return int(text)


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _error_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body: dict[str, object] = {"reason": error.detail, "simulated": True}
    if isinstance(error, _GoneError):
        body["oldest_cursor"] = error.oldest_cursor
    return _json(body, error.status_code, dict(error.headers or {}))


async def _unavailable_response(_request: Request, error: Exception) -> Response:
    return _json({"reason": str(error), "simulated": True}, 503)
