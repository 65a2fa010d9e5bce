"""Every ready-made WebSocket feed against a stand-in that speaks its wire format: through all that can go wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.ingest.connection.state import Phase
from tests.support.exchanges.exchange import Exchange, Wire, running
from tests.support.exchanges.run import KEY, Run, reading, settings_for
from tests.support.exchanges.wires import Finnhub, KrakenFutures
from tests.support.ready_made import WIRES

WITH_ARCHIVE = [wire for wire in WIRES if wire.archive]


def _name(wire: Wire) -> str:
    return wire.name


@pytest.fixture(params=WIRES, ids=_name)
def exchange(request: pytest.FixtureRequest) -> Iterator[Exchange]:
    with running(Exchange(request.param)) as exchange:
        if request.param.refusal is not None:
            exchange.key = KEY
        yield exchange


with_archive = pytest.mark.parametrize("exchange", WITH_ARCHIVE, indirect=True, ids=_name)


@pytest.fixture
def run(exchange: Exchange, tmp_path: Path) -> Iterator[Run]:
    names = frozenset(exchange.wire.instruments)
    with reading(exchange, tmp_path / "ticks.sqlite", wanted=lambda: names) as run:
        run.wait_for_clients()
        yield run


def trade_all(exchange: Exchange, rounds: int = 20) -> None:
    for _ in range(rounds):
        for name in exchange.wire.instruments:
            exchange.trade(name)


def test_what_streams_is_what_the_source_made(exchange: Exchange, run: Run) -> None:
    trade_all(exchange)
    run.wait_for_all()
    assert run.phases() == [Phase.CONNECTING, Phase.RECEIVING]
    assert run.rejects().is_empty()
    assert run.states[-1].connects == 1


@with_archive
@pytest.mark.parametrize("code", [None, 1001, 1011])
def test_what_is_missed_while_away_comes_afterwards_and_first(exchange: Exchange, run: Run, code: int | None) -> None:
    trade_all(exchange)
    run.wait_for_all()
    exchange.down = True
    exchange.drop(code)
    run.wait_for(Phase.WAITING)
    trade_all(exchange, 70)
    exchange.down = False
    run.wait_for_clients()
    trade_all(exchange, 10)
    run.wait_for_all()
    run.wait(lambda: run.states[-1].backfilled >= 3 * (70 - exchange.wire.history))
    ticks = run.ticks()
    if run.settings.consecutive_ids:
        assert all(ids == sorted(ids) for ids in (rows["id"].to_list() for rows in ticks.partition_by("instrument")))
    assert run.rejects().is_empty()
    assert run.states[-1].missing == 0
    assert run.states[-1].gaps == 3


def test_what_is_missed_while_away_comes_with_the_history_on_connect(tmp_path: Path) -> None:
    with running(Exchange(KrakenFutures())) as exchange, reading(exchange, tmp_path / "ticks.sqlite") as run:
        for _ in range(3):
            run.wait_for_clients()
            exchange.trade("PI_XBTUSD", 20)
            run.wait_for_all()
            exchange.down = True
            exchange.drop()
            run.wait_for(Phase.WAITING)
            exchange.trade("PI_XBTUSD", 30)
            exchange.down = False
        run.wait_for_clients()
        run.wait_for_all()
        assert run.ticks()["id"].is_sorted()
        assert run.rejects().is_empty()


def test_without_an_archive_a_gap_is_said_and_the_rest_is_whole(tmp_path: Path) -> None:
    with running(Exchange(Finnhub())) as exchange, reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for_clients()
        exchange.trade("AAPL", 3)
        run.wait(lambda: run.ticks().height == 3)
        exchange.drop()
        run.wait(lambda: exchange.connects == 2)
        run.wait_for_clients()
        exchange.trade("AAPL", 3)
        run.wait_for_all()
        run.wait(lambda: run.states[-1].gaps == len(run.settings.instruments))
        exchange.beat()
        run.wait(lambda: (run.complete_to_ms() or 0) >= exchange.made["AAPL"][-1].time_us // 1_000)


def test_a_rate_limit_is_waited_for_and_told_apart(exchange: Exchange, run: Run) -> None:
    trade_all(exchange)
    run.wait_for_all()
    exchange.limits = ["1", "0"]
    exchange.drop()
    run.wait_for(Phase.LIMITED)
    limited = run.states[-1]
    assert "received too many requests (slow down)" in limited.sentence
    assert limited.retry_ms is not None
    assert 900 <= limited.retry_ms - limited.since_ms <= 1_000
    run.wait_for_clients()
    assert exchange.refused == 2


def test_a_refused_key_ends_it_in_plain_words_and_is_never_shown(
    exchange: Exchange, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    exchange.key = "another"
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait(lambda: run.error is not None)
    assert "rejects the key, or the key does not permit this request" in str(run.error)
    assert run.states[-1].phase is Phase.REFUSED
    assert KEY not in caplog.text
    assert not any(KEY in state.sentence for state in run.states)
    assert KEY not in str(run.error)


def test_garbage_becomes_rejects_and_prices_go_on(exchange: Exchange, run: Run) -> None:
    trade_all(exchange)
    exchange.say("{", "<html>", [1, 2], {"surprise": True}, "null")
    trade_all(exchange)
    run.wait_for_all()
    run.wait(lambda: run.rejects().height == 5)
    assert set(run.rejects()["reason"]) == {"broken_line"}
    assert any("<html>" in detail for detail in run.rejects()["detail"])
    assert run.states[-1].connects == 1


def test_repeats_and_disorder_change_nothing(exchange: Exchange, run: Run) -> None:
    if not exchange.wire.ids:
        pytest.skip("without ids a repeat cannot be distinguished from an equal trade")
    trade_all(exchange)
    name = exchange.wire.instruments[0]
    new = exchange.trade(name, 6, sent=False)
    exchange.send(new[3:] + new[:4])
    exchange.send(new)
    exchange.trade(name, 2)
    run.wait_for_all()
    assert run.rejects().is_empty()


@with_archive
def test_ids_that_never_came_are_fetched_while_it_streams(exchange: Exchange, run: Run) -> None:
    if not run.settings.consecutive_ids:
        pytest.skip("its ids do not tell that one is missing")
    trade_all(exchange)
    name = exchange.wire.instruments[1]
    exchange.trade(name, 5, sent=False)
    exchange.trade(name, 2)
    run.wait_for_all()
    assert run.states[-1].connects == 1
    run.wait(lambda: run.states[-1].gaps == 1 and run.states[-1].backfilled == 5)


@with_archive
def test_what_the_archive_does_not_have_is_counted_as_missing_and_held_back_no_longer(
    exchange: Exchange, run: Run
) -> None:
    if not run.settings.consecutive_ids:
        pytest.skip("its ids do not tell that one is missing")
    name = exchange.wire.instruments[0]
    exchange.trade(name, 5)
    run.wait_for_all()
    lost = exchange.trade(name, 5, sent=False)
    exchange.forgets_before = lost[-1].id + 1
    exchange.trade(name, 5)
    run.wait(lambda: run.ticks().height == 10)
    run.wait(lambda: run.states[-1].missing == 5 and run.states[-1].gaps == 1)
    assert lost[0].id not in run.ticks()["id"]
    exchange.trade(name)
    run.wait(lambda: run.ticks().height == 11)


@with_archive
def test_an_archive_that_limits_and_fails_delays_and_loses_nothing(exchange: Exchange, run: Run) -> None:
    trade_all(exchange)
    run.wait_for_all()
    exchange.archive_down = True
    exchange.down = True
    exchange.drop()
    run.wait_for(Phase.WAITING)
    trade_all(exchange)
    exchange.down = False
    run.wait_for_clients()
    complete_ms = run.complete_to_ms() or 0
    trade_all(exchange)
    exchange.beat()
    run.wait(lambda: exchange.questions >= 3)
    assert run.ticks().height == 60  # what is live waits for what was missed
    assert (run.complete_to_ms() or 0) == complete_ms
    exchange.archive_limits = ["1"]
    exchange.archive_down = False
    run.wait_for(Phase.LIMITED)
    run.wait_for_all()
    assert run.rejects().is_empty()


@pytest.mark.parametrize("skew_ms", [-40_000, 3_000])
def test_a_clock_that_is_off_is_measured_and_completeness_goes_by_it(
    exchange: Exchange, tmp_path: Path, skew_ms: int
) -> None:
    exchange.skew_ms = skew_ms
    names = frozenset(exchange.wire.instruments)
    with reading(exchange, tmp_path / "ticks.sqlite", wanted=lambda: names) as run:
        run.wait_for_clients()
        trade_all(exchange)
        run.wait_for_all()
        newest_ms = max(trades[-1].time_us for trades in exchange.made.values()) // 1_000

        def complete() -> bool:
            exchange.beat()
            return (run.complete_to_ms() or 0) >= newest_ms

        run.wait(complete)
        assert (run.complete_to_ms() or 0) <= exchange.now_us // 1_000

        def measured() -> bool:
            # A slow machine measures some hundred milliseconds more or less, which another message puts right.
            exchange.beat()
            return f"The provider's clock is {abs(skew_ms) // 1_000} s" in run.states[-1].sentence

        run.wait(measured)
        assert abs((run.states[-1].skew_ms or 0) - skew_ms) < 1_500
        assert run.rejects().is_empty()


def test_silence_is_told_from_quiet_and_ends_in_a_new_connection(exchange: Exchange, tmp_path: Path) -> None:
    settings = settings_for(exchange, silence_s=0.4)
    with reading(exchange, tmp_path / "ticks.sqlite", settings) as run:
        run.wait_for_clients()
        exchange.mute = True
        run.wait(lambda: any("No message has arrived for 0.4 s" in state.sentence for state in run.states))
        exchange.mute = False
        run.wait(lambda: exchange.connects >= 2)
        run.wait_for_clients()
        exchange.trade(exchange.wire.instruments[0], 3)
        run.wait(lambda: run.ticks().height >= 3)


@with_archive
def test_a_restart_goes_on_without_loss_or_repeat(exchange: Exchange, tmp_path: Path) -> None:
    names = frozenset(exchange.wire.instruments)
    path = tmp_path / "ticks.sqlite"
    for _ in range(3):
        with reading(exchange, path, wanted=lambda: names) as run:
            run.wait_for_clients()
            trade_all(exchange)
            run.wait_for_all()
        trade_all(exchange)
    with reading(exchange, path, wanted=lambda: names) as run:
        run.wait_for_all()
        assert run.rejects().is_empty()


def test_what_is_wanted_changes_without_a_new_connection(exchange: Exchange, tmp_path: Path) -> None:
    first, second, third = exchange.wire.instruments
    wanted = [frozenset({first, second})]
    with reading(exchange, tmp_path / "ticks.sqlite", wanted=lambda: wanted[0]) as run:
        run.wait_for_clients()
        for name in exchange.wire.instruments:
            exchange.trade(name, 4)
        run.wait(lambda: run.ticks().height == 8)
        wanted[0] = frozenset({second, third})
        run.wait(lambda: exchange.clients[0].instruments == {second, third})
        for name in exchange.wire.instruments:
            exchange.trade(name, 3)
        newest = exchange.made[third][-1].time_us * 1_000
        run.wait(lambda: run.ticks()["instrument"].to_list().count(second) == 7)
        run.wait(lambda: run.ticks().filter(instrument=third)["time_ns"].max() == newest)
        assert run.ticks()["instrument"].to_list().count(first) == 4
        assert exchange.connects == 1
        wanted[0] = frozenset()
        run.wait_for(Phase.IDLE)
        run.wait(lambda: not exchange.clients)
