"""What is read from ccxt's file names against what ccxt says of itself."""

import asyncio
from collections.abc import Mapping

import ccxt.pro
import pytest
from pydantic import ValidationError

from barmill.ingest.feeds.changes import READY_MADE
from barmill.ingest.feeds.settings import settings_of
from barmill.ingest.providers.ccxt.settings import CcxtFeed, exchanges, has_history, streaming_exchanges


def _has() -> Mapping[str, Mapping[str, object]]:
    async def read_features() -> Mapping[str, Mapping[str, object]]:
        packages = {name: ccxt.pro if name in ccxt.pro.exchanges else ccxt.async_support for name in ccxt.exchanges}
        return {name: getattr(package, name)({"asyncio_loop": None}).has for name, package in packages.items()}

    return asyncio.run(read_features())


def test_the_lists_are_what_ccxt_says() -> None:
    has = _has()
    assert set(exchanges()) == {feature for feature, can in has.items() if can["fetchTrades"] or can["watchTrades"]}
    assert streaming_exchanges() == {feature for feature, can in has.items() if can["watchTrades"]}
    assert {exchange for exchange in exchanges() if not has_history(exchange)} == {
        exchange for exchange in exchanges() if not has[exchange]["fetchTrades"]
    }


def test_an_exchange_that_is_not_there_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(ValidationError, match="has no exchange with this id; perhaps binance, binancecoinm"):
        CcxtFeed(exchange="Binanse")


def test_ready_made_feeds_are_of_exchanges_that_stream() -> None:
    made = [ready_made for ready_made in READY_MADE.values() if ready_made.kind == "ccxt"]
    settings = [settings_of("ccxt", frame.settings) for frame in made]
    assert len(settings) >= 4
    assert all(isinstance(setting, CcxtFeed) and setting.exchange in streaming_exchanges() for setting in settings)
