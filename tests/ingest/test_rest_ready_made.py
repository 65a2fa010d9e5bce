"""Each ready-made REST feed against a stand-in that speaks its provider's wire format."""

import json
import time
from collections.abc import Iterator

import pytest

from barmill.ingest.connection.state import Phase
from barmill.ingest.feeds.changes import READY_MADE
from barmill.ingest.providers.rest.request import RestRefusedError
from barmill.ingest.providers.rest.settings import RestFeed
from tests.support.canary import canary, leaks
from tests.support.exchanges.rest_reading import on_the_wire, reading
from tests.support.exchanges.rest_server import Reply
from tests.support.exchanges.rest_wire import WIRES, Market, Trade, Wire

GARBAGE = Reply(b"<html>We are busy</html>", headers={"Content-Type": "text/html"})
LIMITED = Reply({"error": "API limit reached"}, 429, headers={"Retry-After": "0"})
ALL = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


class Tape:
    """Trades of one instrument, one after the other, none older than a feed begins with."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        step = wire.step_ns
        self._next_ns = (time.time_ns() - 25 * step) // step * step + step
        self.rows: list[tuple[int, str, float, float, float | None]] = []

    def trade(self, market: Market, name: str = "AAPL") -> None:
        """Have one more trade happen."""
        number = len(self.rows) + 1
        price, close = 100 + number / 4, 100 + number / 4
        if self._wire.open_close:
            close += 0.5
        size = float(number)
        market.trades.setdefault(name, []).append(Trade(self._next_ns, price, size, number, close))
        self.rows.append((self._next_ns, name, price, close, size if self._wire.sizes else None))
        self._next_ns += self._wire.step_ns


def a_few(wire: Wire) -> Iterator[int]:
    """Yield how many trades happen between two polls: several where every one can be had."""
    return iter([7, 2, 4, 1, 3] if wire.every else [1, 1, 1, 1, 1])


@ALL
def test_every_tick_comes_once_through_drops_limits_garbage_and_a_restart(wire: Wire) -> None:
    market, tape, counts = wire.market(), Tape(wire), a_few(wire)
    troubles = {Phase.WAITING: Reply(status=503), Phase.LIMITED: LIMITED, Phase.BROKEN: GARBAGE}
    with on_the_wire(wire, market) as server:
        settings = wire.near(server.url, instruments=("AAPL",))
        for _ in range(next(counts)):
            tape.trade(market)
        with reading(settings, wire.key) as session:
            session.wait_for_ticks(len(tape.rows))
            for phase, trouble in troubles.items():
                market.trouble = trouble
                said = session.wait_for(phase)
                assert said.retry_ms is not None
                for _ in range(next(counts)):
                    tape.trade(market)
                market.trouble = None
                session.wait_for_ticks(len(tape.rows))
            assert session.wait_for(Phase.RECEIVING).connects >= 3
            cursor, before = session.cursor, session.ticks()
        for _ in range(next(counts)):
            tape.trade(market)
        with reading(settings, wire.key, cursor) as other:
            other.wait_for_ticks(len(tape.rows) - len(before))
            assert before + other.ticks() == tape.rows
            assert session.rejects() + other.rejects() == []


@ALL
def test_a_refused_key_is_said_once_and_without_the_key(wire: Wire) -> None:
    secret = f"ID123456:{canary()}" if wire.both else canary()
    market = wire.market()
    market.trades["AAPL"] = []
    with on_the_wire(wire, market) as server, reading(wire.near(server.url, instruments=("AAPL",)), secret) as session:
        state = session.wait_for(Phase.REFUSED)
        session.wait(lambda: session.error is not None)
        assert isinstance(session.error, RestRefusedError)
        assert "rejects the key" in state.sentence
        assert not leaks(secret.split(":")[-1], str(session.error), repr(session.states))


@ALL
def test_the_providers_clock_is_measured(wire: Wire) -> None:
    market, tape = wire.market(ahead_s=3_600.0), Tape(wire)
    tape.trade(market)
    with (
        on_the_wire(wire, market) as server,
        reading(wire.near(server.url, instruments=("AAPL",)), wire.key) as session,
    ):
        session.wait(lambda: bool(session.states) and session.states[-1].skew_ms is not None)
        assert session.states[-1].skew_ms == pytest.approx(3_600_000, abs=60_000)


@ALL
def test_ticks_from_a_clock_that_is_ahead_are_rejects_and_hide_nothing(wire: Wire) -> None:
    market, tape = wire.market(), Tape(wire)
    now_ns = tape._next_ns
    tape._next_ns = (time.time_ns() + 86_400_000_000_000) // 60_000_000_000 * 60_000_000_000
    tape.trade(market)
    with (
        on_the_wire(wire, market) as server,
        reading(wire.near(server.url, instruments=("AAPL",)), wire.key) as session,
    ):
        session.wait(lambda: session.rejects() == ["future"])
        market.trades["AAPL"].clear()
        tape._next_ns = now_ns
        tape.trade(market)
        session.wait(lambda: tape.rows[-1] in session.ticks())
        assert session.rejects() == ["future"]


def test_an_unknown_instrument_leaves_the_others_alone_and_is_named() -> None:
    wire = WIRES["massive-last-trade"]
    market, tape = wire.market(), Tape(wire)
    tape.trade(market)
    names = ("AAPL", "NOSUCH")
    with on_the_wire(wire, market) as server, reading(wire.near(server.url, instruments=names), wire.key) as session:
        session.wait(lambda: bool(session.states) and "NOSUCH: " in session.states[-1].sentence)
        assert session.states[-1].phase is Phase.RECEIVING
        assert session.ticks() == tape.rows
        assert all(batch.complete_to_ms is None for batch in session.batches)


def test_minutes_that_still_change_are_left_for_later() -> None:
    wire = WIRES["twelve-data-minutes"]
    market, tape = wire.market(), Tape(wire)
    tape.trade(market)
    tape._next_ns = time.time_ns() // 60_000_000_000 * 60_000_000_000
    tape.trade(market)
    with on_the_wire(wire, market) as server, reading(wire.near(server.url, hold_s=65.0), wire.key) as session:
        session.wait_for_ticks(1)
        assert session.ticks() == tape.rows[:1]


@pytest.mark.parametrize("name", WIRES)
def test_what_is_offered_is_what_was_tried(name: str) -> None:
    ready = READY_MADE[name]
    assert ready.needs_key
    assert RestFeed.model_validate(json.loads(ready.settings)) == WIRES[name].settings
    assert ready.kind == WIRES[name].settings.kind
    assert WIRES[name].settings.base_url.startswith("https://")
