"""Which exchanges there are, read from the file names of ccxt: importing it takes seconds and 100 MB."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

# What ccxt has a WebSocket class for, but no trades over it; and what has no public trades at all.
_NO_STREAM = frozenset({"bydfi"})
_NO_TRADES = frozenset({"mudrex", "onetrading"})
# These hide what was missed: nothing can be fetched afterwards.
_NO_HISTORY = frozenset({"blockchaincom", "coinbaseinternational"})


@cache
def exchanges() -> tuple[str, ...]:
    """Return the ids of all exchanges whose public trades can be read, in the order of the alphabet."""
    return tuple(sorted(_modules("async_support") - _NO_TRADES))


@cache
def streaming() -> frozenset[str]:
    """Return the ids of those that send trades over WebSocket; all others are polled."""
    return frozenset(exchanges()) & _modules("pro") - _NO_STREAM


def has_history(exchange: str) -> bool:
    """Tell whether trades can be fetched afterwards."""
    return exchange not in _NO_HISTORY


def _modules(package: str) -> frozenset[str]:
    spec = find_spec("ccxt")
    assert spec is not None
    assert spec.origin is not None
    return frozenset(path.stem for path in (Path(spec.origin).parent / package).glob("[!_]*.py"))
