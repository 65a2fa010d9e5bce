"""Errors of ccxt in plain words, and without what ccxt puts into them."""

import ccxt
import httpx
import pytest

from feed.connection.errors import (
    BrokenAnswerError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    QuestionError,
    ServerError,
    UnreachableError,
)
from feed.providers.ccxt.failures import MisfitError, failure

KEY = "canary-id-of-a-key:canary/secret+of=a-key"
ADDRESS = "https://api.example.com/v1/trades?key=canary-id-of-a-key&signature=abcdef"
TEXT = f"demo GET {ADDRESS} {{'secret': 'canary/secret+of=a-key'}}"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ccxt.AuthenticationError, KeyRefusedError, "refuses the key"),
        (ccxt.PermissionDenied, KeyRefusedError, "refuses the key"),
        (ccxt.RestrictedLocation, KeyRefusedError, "does not serve the place"),
        (ccxt.RateLimitExceeded, LimitedError, "asked too often"),
        (ccxt.DDoSProtection, LimitedError, "asked too often"),
        (ccxt.OnMaintenance, ServerError, "maintenance"),
        (ccxt.ExchangeNotAvailable, UnreachableError, "not available"),
        (ccxt.RequestTimeout, UnreachableError, "in time"),
        (ccxt.InvalidNonce, ServerError, "clock of this machine"),
        (ccxt.NetworkError, UnreachableError, "broke off"),
        (ccxt.BadSymbol, NotFoundError, "does not know an instrument"),
        (ccxt.NotSupported, MisfitError, "cannot do this"),
        (ccxt.BadResponse, ServerError, "refused what was asked"),
        (ccxt.ExchangeError, ServerError, "refused what was asked"),
        (KeyError, BrokenAnswerError, "cannot read"),
    ],
)
def test_each_kind_has_its_words_and_none_shows_a_key(
    error: type[Exception], kind: type[QuestionError], words: str
) -> None:
    failed = failure(error(TEXT), "Demo", KEY, httpx.Headers())
    assert type(failed) is kind
    assert words in str(failed)
    assert str(failed).startswith("Demo") or str(failed).startswith("The connection to Demo")
    assert "canary" not in str(failed)
    assert "abcdef" not in str(failed)


def test_a_limit_says_for_how_long_where_the_exchange_does() -> None:
    failed = failure(ccxt.RateLimitExceeded(""), "Demo", "", httpx.Headers({"retry-after": "7"}))
    assert isinstance(failed, LimitedError)
    assert failed.retry_after_s == 7
