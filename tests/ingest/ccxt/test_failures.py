"""Errors of ccxt in plain words, and without what ccxt puts into them."""

import ccxt
import httpx
import pytest

from barmill.ingest.connection.reconnect import (
    InvalidResponseError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    RequestError,
    ServerError,
    UnreachableError,
)
from barmill.ingest.providers.ccxt.opening import UnsupportedSettingsError, request_error
from barmill.ingest.providers.ccxt.provider import active_markets

KEY = "canary-id-of-a-key:canary/secret+of=a-key"
ADDRESS = "https://api.example.com/v1/trades?key=canary-id-of-a-key&signature=abcdef"
TEXT = f"demo GET {ADDRESS} {{'secret': 'canary/secret+of=a-key'}}"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ccxt.AuthenticationError, KeyRefusedError, "rejects the key"),
        (ccxt.PermissionDenied, KeyRefusedError, "rejects the key"),
        (ccxt.RestrictedLocation, KeyRefusedError, "does not serve the country"),
        (ccxt.RateLimitExceeded, LimitedError, "received too many requests"),
        (ccxt.DDoSProtection, LimitedError, "received too many requests"),
        (ccxt.OnMaintenance, ServerError, "maintenance"),
        (ccxt.ExchangeNotAvailable, UnreachableError, "not available"),
        (ccxt.RequestTimeout, UnreachableError, "in time"),
        (ccxt.InvalidNonce, ServerError, "clock of this machine"),
        (ccxt.NetworkError, UnreachableError, "was lost or could not be made"),
        (ccxt.BadSymbol, NotFoundError, "does not know a requested instrument"),
        (ccxt.NotSupported, UnsupportedSettingsError, "does not support this"),
        (ccxt.BadResponse, ServerError, "rejected the request"),
        (ccxt.ExchangeError, ServerError, "rejected the request"),
        (KeyError, InvalidResponseError, "cannot read"),
    ],
)
def test_each_kind_has_its_words_and_none_shows_a_key(
    error: type[Exception], kind: type[RequestError], words: str
) -> None:
    failed = request_error(error(TEXT), "Demo", KEY, httpx.Headers())
    assert type(failed) is kind
    assert words in str(failed)
    assert str(failed).startswith("Demo") or str(failed).startswith("The connection to Demo")
    assert "canary" not in str(failed)
    assert "abcdef" not in str(failed)


def test_a_quoted_response_with_a_lone_surrogate_is_shown_escaped() -> None:
    failed = request_error(ccxt.ExchangeError("no \ud800 here"), "Demo", KEY, httpx.Headers())
    assert r"no \ud800 here" in str(failed)


def test_a_market_with_a_lone_surrogate_can_be_stored() -> None:
    (found,) = active_markets([{"symbol": "A\ud800/B", "type": "spot", "settle": "\udfff"}], ccxt.TICK_SIZE)
    assert (found.instrument, found.description) == (r"A\ud800/B", r"spot, settled in \udfff")


def test_a_limit_says_for_how_long_where_the_exchange_does() -> None:
    failed = request_error(ccxt.RateLimitExceeded(""), "Demo", "", httpx.Headers({"retry-after": "7"}))
    assert isinstance(failed, LimitedError)
    assert failed.retry_after_s == 7
