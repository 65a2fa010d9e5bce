"""What ccxt raises, told apart and in plain words.

ccxt puts addresses, bodies and whatever the exchange answered into its errors; what is passed on of them is without the
key, and without what follows a question mark, where signatures stand.
"""

import re

import aiohttp
import ccxt
import httpx

from feed.connection.errors import (
    BrokenAnswerError,
    KeyRefusedError,
    LimitedError,
    NotFoundError,
    QuestionError,
    ServerError,
    UnreachableError,
)
from feed.connection.http import retry_after_s, said_in

# How ccxt stumbles over an answer that is not what it expects.
NOT_UNDERSTOOD = (AttributeError, ArithmeticError, LookupError, TypeError, ValueError)
FAILURES = (ccxt.BaseError, aiohttp.ClientError, OSError, *NOT_UNDERSTOOD)
_QUERY = re.compile(r"\?\S*")


class MisfitError(QuestionError):
    """The exchange cannot do what the settings ask of it; change them."""


def failure(error: Exception, label: str, key: str, headers: httpx.Headers) -> QuestionError:
    """Return what an error of ccxt means; headers: those of the last answer, for how long a limit holds."""
    said = said_in(_QUERY.sub("?…", str(error)).encode(), key)
    match error:
        case ccxt.RestrictedLocation():
            return KeyRefusedError(f"{label} does not serve the place this machine is in: {said}")
        case ccxt.AuthenticationError():
            return KeyRefusedError(f"{label} refuses the key, or what was asked for with it: {said}")
        case ccxt.RateLimitExceeded() | ccxt.DDoSProtection():
            return LimitedError(f"{label} was asked too often.", retry_after_s(headers))
        case ccxt.OnMaintenance():
            return ServerError(f"{label} is closed for maintenance.")
        case ccxt.RequestTimeout():
            return UnreachableError(f"{label} did not answer in time.")
        case ccxt.InvalidNonce():
            return ServerError(f"{label} finds the clock of this machine wrong: {said}")
        case ccxt.ExchangeNotAvailable():
            return UnreachableError(f"{label} is not available, or cannot be reached.")
        case ccxt.NetworkError() | aiohttp.ClientError() | OSError():
            return UnreachableError(f"The connection to {label} broke off, or could not be made.")
        case ccxt.BadSymbol():
            return NotFoundError(f"{label} does not know an instrument that was asked for: {said}")
        case ccxt.NotSupported() | ccxt.ArgumentsRequired():
            return MisfitError(f"{label} cannot do this: {said}")
        case ccxt.BaseError():
            return ServerError(f"{label} refused what was asked: {said}")
    return BrokenAnswerError(f"{label} sent something that ccxt cannot read ({type(error).__name__}).")
