"""The ccxt provider against stand-ins of three exchanges that are as different as they come."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.ingest.connection.provider import ProviderError
from barmill.ingest.connection.state import Phase
from barmill.ingest.providers.ccxt import opening
from barmill.platform.home import REPO_ROOT
from tests.support.exchanges.ccxt_exchange import KEY, Binance, CcxtExchange, Kraken, Latoken
from tests.support.exchanges.ccxt_run import CcxtRun, provider, reading
from tests.support.exchanges.exchange import running
from tests.support.exchanges.untrusted import untrusted

WIRES = [Binance, Kraken, Latoken]
STREAMING = [Binance, Kraken]


@pytest.fixture(params=WIRES, ids=lambda wire: str(wire.name))
def exchange(request: pytest.FixtureRequest) -> Iterator[CcxtExchange]:
    with running(CcxtExchange(request.param())) as exchange:
        assert isinstance(exchange, CcxtExchange)
        yield exchange


@pytest.fixture
def run(exchange: CcxtExchange, tmp_path: Path) -> Iterator[CcxtRun]:
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for(Phase.RECEIVING)
        yield run


streaming = pytest.mark.parametrize("exchange", STREAMING, indirect=True, ids=lambda wire: str(wire.name))
binance = pytest.mark.parametrize("exchange", [Binance], indirect=True, ids=["binance"])
latoken = pytest.mark.parametrize("exchange", [Latoken], indirect=True, ids=["latoken"])


def trade_all(exchange: CcxtExchange, rounds: int = 20) -> None:
    """Make trades a millisecond apart, all later than those so far, however quickly one asks for the next."""
    newest_us = max((trades[-1].time_us for trades in exchange.made.values() if trades), default=0)
    began_us = max(exchange.now_us, newest_us + 1_000)
    for number in range(rounds):
        for name in exchange.wire.instruments:
            exchange.trade(name, at_us=began_us + number * 1_000)


def lose(exchange: CcxtExchange, run: CcxtRun) -> None:
    exchange.down = exchange.archive_down = True
    exchange.drop()
    run.wait_for(Phase.WAITING)


def come_back(exchange: CcxtExchange) -> None:
    exchange.down = exchange.archive_down = False


def test_what_the_source_made_comes_and_nothing_of_the_environment_counts(
    exchange: CcxtExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for(Phase.RECEIVING)
        trade_all(exchange)
        run.wait_for_all()
        run.wait(lambda: (run.complete_to_ms() or 0) >= run.source()[-1].time_us // 1_000)
        assert run.phases() == [Phase.IDLE, Phase.CONNECTING, Phase.RECEIVING]
        assert run.rejects().is_empty()
        assert run.states[-1].gaps == 0
        run.assert_same()


def test_what_is_missed_while_away_comes_afterwards_once(exchange: CcxtExchange, run: CcxtRun) -> None:
    trade_all(exchange)
    run.wait_for_all()
    for _ in range(2):
        lose(exchange, run)
        trade_all(exchange, 70)  # more than a page of those that have an archive
        come_back(exchange)
        run.wait_for(Phase.RECEIVING)
        trade_all(exchange)
        run.wait_for_all()
    assert run.rejects().is_empty()
    assert run.states[-1].missing == 0
    # On a busy machine, a connection may be lost once more, and the snapshot of a new stream of Kraken, which has 50 of
    # the 70 missed trades of each instrument, may arrive before the archive's answer.
    fetched = 2 * (3 * (70 - 50) if exchange.wire.name == "kraken" else 70)
    run.wait(lambda: run.states[-1].connects >= 3 and run.states[-1].backfilled >= fetched)
    if exchange.wire.name != "latoken":
        assert all(rows["id"].is_sorted() for rows in run.ticks().partition_by("instrument"))


def test_another_run_goes_on_where_the_last_one_ended(exchange: CcxtExchange, tmp_path: Path) -> None:
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for(Phase.RECEIVING)
        trade_all(exchange)
        run.wait_for_all()
    trade_all(exchange, 60)
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for_all()
        assert run.rejects().is_empty()


@streaming
def test_a_limit_on_questions_is_waited_for_while_prices_go_on(exchange: CcxtExchange, run: CcxtRun) -> None:
    trade_all(exchange)
    run.wait_for_all()
    lose(exchange, run)
    trade_all(exchange)
    exchange.archive_limits = ["1"] * 4
    come_back(exchange)
    run.wait(lambda: any(state.phase is Phase.LIMITED for state in run.states))
    trade_all(exchange)
    run.wait_for_all()
    [limited, *_] = [state for state in run.states if state.phase is Phase.LIMITED]
    assert "received too many requests" in limited.sentence
    assert limited.retry_ms is not None
    run.wait_for(Phase.RECEIVING)


@latoken
def test_a_limit_on_polling_is_waited_for_as_long_as_it_says(exchange: CcxtExchange, run: CcxtRun) -> None:
    trade_all(exchange)
    run.wait_for_all()
    exchange.archive_limits = ["1"]
    run.wait_for(Phase.LIMITED)
    limited = run.states[-1]
    assert limited.retry_ms is not None
    assert 900 <= limited.retry_ms - limited.since_ms <= 1_100
    trade_all(exchange)
    run.wait_for(Phase.RECEIVING)
    run.wait_for_all()


@binance
def test_a_refused_key_is_said_in_plain_words_and_never_shown(
    exchange: CcxtExchange, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    exchange.key_refused = True
    with reading(exchange, tmp_path / "ticks.sqlite", key=KEY) as run:
        run.wait(lambda: run.error is not None)
    assert "Binance rejects the key, or the key does not permit this request" in str(run.error)
    assert run.states[-1].phase is Phase.REFUSED
    shown = "".join((caplog.text, str(run.error), *capfd.readouterr(), *(state.sentence for state in run.states)))
    assert "signature" not in shown
    assert not any(part in shown for part in KEY.split(":"))


@binance
def test_a_key_that_is_taken_makes_no_difference(exchange: CcxtExchange, tmp_path: Path) -> None:
    with reading(exchange, tmp_path / "ticks.sqlite", key=KEY) as run:
        run.wait_for(Phase.RECEIVING)
        trade_all(exchange)
        run.wait_for_all()


@streaming
def test_garbage_on_the_stream_costs_a_connection_and_no_trade(exchange: CcxtExchange, run: CcxtRun) -> None:
    trade_all(exchange)
    run.wait_for_all()
    exchange.say('{"broken', "<html>", [1, 2], "null")
    run.wait(lambda: run.states[-1].connects == 2)
    trade_all(exchange)
    run.wait_for_all()
    assert any("sent something that ccxt cannot read" in state.sentence for state in run.states)


@pytest.mark.parametrize("garbage", ["<html>", "[1, 2]", '{"surprise": []}', "null"])
@latoken
def test_garbage_as_an_answer_is_said_and_asked_for_again(exchange: CcxtExchange, run: CcxtRun, garbage: str) -> None:
    trade_all(exchange)
    run.wait_for_all()
    exchange.garbage = garbage
    run.wait_for(Phase.WAITING)
    assert "Latoken" in run.states[-1].sentence
    exchange.garbage = None
    trade_all(exchange)
    run.wait_for_all()


@pytest.mark.parametrize("skew_ms", [-40_000, 40_000])
def test_a_clock_that_is_off_is_measured_and_shown(exchange: CcxtExchange, tmp_path: Path, skew_ms: int) -> None:
    exchange.skew_ms = skew_ms
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for(Phase.RECEIVING)
        trade_all(exchange)
        run.wait_for_all()
        run.wait(lambda: "clock is" in run.states[-1].sentence)
        assert abs((run.states[-1].skew_ms or 0) - skew_ms) < 2_000
        run.wait(lambda: (run.complete_to_ms() or 0) >= run.source()[-1].time_us // 1_000)
        assert run.rejects().is_empty()


def test_what_is_wanted_changes_without_a_new_connection(exchange: CcxtExchange, tmp_path: Path) -> None:
    first, second, *_ = exchange.wire.instruments
    wanted = {first, "NO/SUCH"}
    with reading(exchange, tmp_path / "ticks.sqlite", wanted=lambda: frozenset(wanted)) as run:
        run.wait_for(Phase.RECEIVING)
        exchange.trade(first, 10)
        run.wait(lambda: run.ticks().height == 10)
        run.wait(lambda: "does not offer NO/SUCH" in run.states[-1].sentence)
        exchange.trade(second, 10)
        wanted.remove("NO/SUCH")
        wanted.add(second)
        run.wait(lambda: "NO/SUCH" not in run.states[-1].sentence)

        def arrived() -> bool:
            exchange.trade(second)
            return run.ticks().filter(instrument=second).height > 0

        run.wait(arrived)
        wanted.remove(first)
        number = exchange.wire.number(exchange.trade(second)[-1])
        run.wait(lambda: number in run.ticks()["id"].to_list())
        assert run.states[-1].connects == 1
        wanted.clear()
        run.wait_for(Phase.IDLE)


@latoken
def test_a_past_that_does_not_reach_back_far_enough_is_said(exchange: CcxtExchange, run: CcxtRun) -> None:
    exchange.trade("BTC/USDT", 10)
    run.wait(lambda: run.ticks().height == 10)
    lose(exchange, run)
    exchange.trade("BTC/USDT", 150)
    come_back(exchange)
    run.wait(lambda: run.ticks().height == 110)
    run.wait(lambda: "Trades of BTC/USDT may be missing" in run.states[-1].sentence)
    assert run.states[-1].gaps >= 1


def test_the_catalogue_says_what_is_traded_and_how(exchange: CcxtExchange, tmp_path: Path) -> None:
    run = CcxtRun(exchange, tmp_path, settings=None)  # type: ignore[arg-type]
    listed = provider(exchange, run).catalogue()
    assert [entry.instrument for entry in listed] == sorted(exchange.wire.instruments)
    assert {entry.description for entry in listed} == {"spot"}
    assert {entry.price_decimals for entry in listed} == {1 if exchange.wire.name == "kraken" else 2}
    exchange.archive_down = True
    with pytest.raises(ProviderError, match=f"(?i){exchange.wire.name}.* not available"):
        provider(exchange, run).catalogue()


def test_an_answer_without_end_is_cut(exchange: CcxtExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MAX_BODY_BYTES", 100)
    with reading(exchange, tmp_path / "ticks.sqlite") as run:
        run.wait_for(Phase.WAITING)
        monkeypatch.undo()
        run.wait_for(Phase.RECEIVING)


@streaming
@pytest.mark.parametrize("which", ["archive_url", "url"])
def test_a_server_without_a_trusted_certificate_is_sent_nothing(
    exchange: CcxtExchange, tmp_path: Path, which: str
) -> None:
    with untrusted(tmp_path) as (port, heard):
        scheme = "wss" if which == "url" else "https"
        setattr(exchange, which, f"{scheme}://localhost:{port}")
        with reading(exchange, tmp_path / "ticks.sqlite") as run:
            run.wait_for(Phase.WAITING)
            assert (run.states[-1].connects > 0) is (which == "url")
    assert heard == []


def test_ccxt_is_imported_where_it_is_used_and_nowhere_else() -> None:
    code = "import sys, barmill.ingest.provider_factory, barmill.ingest.feeds.changes\n"
    code += "sys.exit('ccxt' in sys.modules or 'aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, check=False).returncode == 0
