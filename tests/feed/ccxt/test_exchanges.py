"""What is read from ccxt's file names against what ccxt says of itself."""

import asyncio
from collections.abc import Mapping

import ccxt.pro
import pytest
from pydantic import ValidationError

from feed.feeds import settings_of
from feed.providers.ccxt.exchanges import exchanges, has_history, streaming
from feed.providers.ccxt.settings import CcxtFeed
from feed.ready_made import READY_MADE


def _has() -> Mapping[str, Mapping[str, object]]:
    async def told() -> Mapping[str, Mapping[str, object]]:
        rooms = {name: ccxt.pro if name in ccxt.pro.exchanges else ccxt.async_support for name in ccxt.exchanges}
        return {name: getattr(room, name)({"asyncio_loop": None}).has for name, room in rooms.items()}

    return asyncio.run(told())


def test_the_lists_are_what_ccxt_says() -> None:
    has = _has()
    assert set(exchanges()) == {one for one, can in has.items() if can["fetchTrades"] or can["watchTrades"]}
    assert streaming() == {one for one, can in has.items() if can["watchTrades"]}
    assert {one for one in exchanges() if not has_history(one)} == {
        one for one in exchanges() if not has[one]["fetchTrades"]
    }


def test_an_exchange_that_is_not_there_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(ValidationError, match="knows no exchange of this id; perhaps binance, binancecoinm"):
        CcxtFeed(exchange="Binanse")


def test_ready_made_feeds_are_of_exchanges_that_stream() -> None:
    made = [one for one in READY_MADE.values() if one.kind == "ccxt"]
    settings = [settings_of("ccxt", one.settings) for one in made]
    assert len(settings) >= 4
    assert all(isinstance(one, CcxtFeed) and one.exchange in streaming() for one in settings)
