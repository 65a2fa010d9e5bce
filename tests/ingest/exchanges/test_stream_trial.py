"""Trying a WebSocket feed before it is saved: the first messages, and what would become of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from barmill.ingest.connection.guard import Guard
from barmill.ingest.feeds.trial import Trial
from barmill.ingest.feeds.trial_runner import stream_trial
from barmill.ingest.providers.websocket.settings import WebSocketFeed
from barmill.platform.clock import wait_until
from tests.support.exchanges.exchange import Exchange, running
from tests.support.exchanges.run import KEY, LOOPBACK_ALLOWED, TIMEOUT_S, settings_for
from tests.support.exchanges.wires import Binance
from tests.support.ready_made import WIRES

SHORT_S = 3.0


@contextmanager
def trading(exchange: Exchange, stop_after: int = 60) -> Iterator[None]:
    """Trade from the first subscription until the block ends."""
    with ThreadPoolExecutor(1) as pool:

        def trade() -> None:
            assert wait_until(lambda: bool(exchange.clients), TIMEOUT_S)
            for _ in range(stop_after):
                for name in exchange.wire.instruments:
                    exchange.trade(name)

        done = pool.submit(trade)
        yield
        done.result()


def tried(settings: WebSocketFeed, wait_s: float = TIMEOUT_S) -> Trial:
    return stream_trial(settings, KEY, Guard(LOOPBACK_ALLOWED), wait_s)


def settings_of(exchange: Exchange, **changes: object) -> WebSocketFeed:
    return settings_for(exchange, instruments=tuple(exchange.wire.instruments), **changes)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_every_ready_made_feed_shows_its_first_messages_and_their_ticks(wire: Binance) -> None:
    with running(Exchange(wire)) as exchange:
        if wire.refusal is not None:
            exchange.key = KEY
        with trading(exchange):
            found = tried(settings_of(exchange))
    assert found.problem is None
    assert found.ticks.height >= 1
    assert set(found.ticks["instrument"]) <= set(wire.instruments)
    assert found.raw_text
    assert exchange.url in found.redacted_request
    assert KEY not in found.raw_text + found.redacted_request


def test_what_does_not_fit_is_said(exchange: Exchange) -> None:
    wrong = exchange_settings_without_price(exchange)
    with trading(exchange):
        found = tried(wrong, wait_s=3)
    assert found.problem is not None
    assert "no_such_field" in found.problem
    assert found.raw_text


def exchange_settings_without_price(exchange: Exchange) -> WebSocketFeed:
    settings = settings_of(exchange)
    return settings.model_copy(update={"rows": settings.rows.model_copy(update={"price": "no_such_field"})})


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with running(Exchange(Binance())) as exchange:
        yield exchange


def test_silence_is_said_with_where_to_look(exchange: Exchange) -> None:
    found = tried(settings_of(exchange), SHORT_S)
    assert found.problem is not None
    assert "compare them with the conditions" in found.problem  # its subscription is answered


def test_an_address_inside_the_network_is_refused(exchange: Exchange) -> None:
    found = stream_trial(settings_of(exchange), KEY, Guard(), TIMEOUT_S)
    assert found.problem is not None
    assert "127.0.0.1" in found.problem
    assert not exchange.clients


def test_without_an_instrument_nothing_is_asked(exchange: Exchange) -> None:
    found = tried(settings_for(exchange, instruments=()))
    assert found.problem == "Enter at least one instrument to request."
    assert not exchange.clients
