"""The provider `market` against a real demo market."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from barmill.ingest.connection.provider import Batch, CatalogueEntry, Provider, ProviderError
from barmill.ingest.providers import market as market_provider
from barmill.ingest.providers.market import (
    MarketError,
    MarketKeyRefusedError,
    MarketProvider,
    parse_health,
    parse_lines,
)
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.ports import free_ports
from barmill.simulator.access import AccessKeys
from tests.support.market_process import KEY, RunningMarket, running_market
from tests.support.market_provider import TICK_FIELDS, fields_of, rows_of, ticks


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def provider_of(market: RunningMarket, **settings: Any) -> MarketProvider:
    return MarketProvider(market.url, lambda: KEY, **settings)


def read(provider: Provider, cursor: str | None, enough: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Read batches until there are enough."""
    taken: list[Batch] = []
    stop = threading.Event()
    for batch in provider.batches(cursor, stop):
        taken.append(batch)
        if enough(taken):
            stop.set()
    assert enough(taken)
    return taken


@contextmanager
def reading(provider: Provider, cursor: str | None) -> Iterator[tuple[list[Batch], threading.Event, threading.Thread]]:
    """Read in the background, as ingest does, until the block ends."""
    taken: list[Batch] = []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: taken.extend(provider.batches(cursor, stop)))
    thread.start()
    try:
        yield taken, stop, thread
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_it_delivers_exactly_what_the_market_gave_out(home: Home) -> None:
    with running_market(home, "--rate", "20") as market:
        provider: Provider = provider_of(market)
        batches = read(provider, None, ticks(5_000))
        given_out = market.ticks_after(None, int(batches[-1].cursor))
    assert provider.live
    assert provider.name == "market"
    assert rows_of(batches) == fields_of(given_out)


def test_it_goes_on_after_a_pause_without_loss_or_repeat(home: Home) -> None:
    with running_market(home, "--rate", "20") as market:
        batches = read(provider_of(market), None, ticks(500))
        market.wait_for_ticks(2_000)
        batches += read(provider_of(market), batches[-1].cursor, ticks(4_000))
        given_out = market.ticks_after(None, int(batches[-1].cursor))
    assert rows_of(batches) == fields_of(given_out)


def test_it_goes_on_when_the_market_crashes_and_comes_back(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with running_market(home, "--rate", "20") as market, reading(provider_of(market), None) as (batches, _, thread):
        assert wait_until(lambda: ticks(1_000)(batches), 60)
        market.kill()
        assert wait_until(lambda: "Reconnecting to the market in" in caplog.text, 60)
        seen = len(rows_of(batches))
        with running_market(home, "--rate", "20", port=market.port) as market:
            assert wait_until(lambda: ticks(seen + 1_000)(batches), 60)
            assert thread.is_alive()
            up_to = int(list(batches)[-1].cursor)
            given_out = fields_of(market.ticks_after(None, up_to))
    assert rows_of(batches)[: len(given_out)] == given_out


def test_heartbeats_become_complete_times_also_without_ticks(home: Home) -> None:
    with running_market(home) as market:
        start = market.page()["newest_cursor"]
        provider = provider_of(market, selected=lambda: frozenset({"LMPQ/USD"}))
        batches = read(provider, str(start), lambda taken: len(taken) >= 8)
    complete = [batch.complete_to_ms for batch in batches if batch.complete_to_ms is not None]
    assert len(complete) == len(batches)
    assert complete == sorted(set(complete))
    assert sum(batch.ticks.is_empty() for batch in batches) >= 6
    assert int(batches[-1].cursor) > start
    assert all(set(TICK_FIELDS) == set(batch.ticks.columns) for batch in batches)


def test_it_asks_only_for_the_instruments_it_is_to_read(home: Home) -> None:
    with running_market(home, "--rate", "10") as market:
        provider = provider_of(market, selected=lambda: frozenset({"OAKR/USD", "FLRN/GRTS"}))
        rows = rows_of(read(provider, None, ticks(300)))
    assert {row["instrument"] for row in rows} == {"OAKR/USD", "FLRN/GRTS"}
    assert {row["volume"] is None for row in rows if row["instrument"] == "FLRN/GRTS"} == {True}


def test_a_refused_key_ends_it_with_the_markets_reason(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with running_market(home) as market:
        wrong = MarketProvider(market.url, lambda: "a-wrong-key")
        with pytest.raises(MarketKeyRefusedError, match="rejected the API key: This API key is unknown") as refused:
            next(wrong.batches(None, threading.Event()))
        AccessKeys.of(home).revoke("tests")
        with pytest.raises(MarketKeyRefusedError, match="has been revoked"):
            next(provider_of(market).batches(None, threading.Event()))
    for text in (str(refused.value), repr(vars(wrong)), caplog.text):
        assert "a-wrong-key" not in text


def test_the_key_is_asked_for_at_each_connect_and_kept_nowhere(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked = 0

    def key() -> str:
        nonlocal asked
        asked += 1
        return KEY

    with running_market(home) as market:
        provider = MarketProvider(market.url, key)
        with reading(provider, None) as (batches, _, _thread):
            assert wait_until(lambda: bool(batches), 60)
            market.kill()
            assert wait_until(lambda: asked >= 2, 60)
    assert KEY not in caplog.text
    assert KEY not in repr(vars(provider))


def test_a_gap_is_reported_and_it_goes_on_from_the_oldest(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with running_market(home, "--rate", "40", "--history-ticks", "1000") as market:
        old = str(market.page(limit=1)["cursor"])
        assert wait_until(lambda: market.get("/v1/prices", cursor=old).status_code == 410, 60)
        batches = read(provider_of(market), old, ticks(100))
    assert int(batches[0].cursor) > int(old)
    assert f"Ticks may be missing after cursor {old}" in caplog.text
    assert "no longer stored" in caplog.text


def test_a_market_that_cannot_be_reached_is_tried_until_told_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    with reading(MarketProvider(f"http://127.0.0.1:{port}", lambda: KEY), None) as (batches, _, thread):
        assert wait_until(lambda: caplog.text.count("cannot be reached") >= 3, 60)
        assert thread.is_alive()
    assert batches == []


@contextmanager
def fake_server(status: int, body: bytes, hold: threading.Event | None = None) -> Iterator[str]:
    """Serve something that is not a market."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)
            if hold is not None:
                hold.wait(30)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Answer))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with closing(server.socket):
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()
    finally:
        thread.join(30)
        server.server_close()


def test_something_else_at_the_address_is_told_apart_from_a_market() -> None:
    with fake_server(404, b"<html>not here</html>") as url, pytest.raises(MarketError, match="status 404"):
        next(MarketProvider(url, lambda: KEY).batches(None, threading.Event()))


def test_a_redirect_does_not_carry_the_key_elsewhere() -> None:
    with fake_server(302, b"") as url, pytest.raises(MarketError, match="status 302"):
        next(MarketProvider(url, lambda: KEY).batches(None, threading.Event()))


@pytest.mark.parametrize("key", ["", "pasted\n", " pasted", "sch\u00f6n", "two words", "\u20ac"])
def test_a_key_that_cannot_be_sent_is_not_quoted(key: str) -> None:
    with pytest.raises(MarketKeyRefusedError, match="store it again") as refused:
        next(MarketProvider("http://127.0.0.1:9", lambda: key).batches(None, threading.Event()))
    assert not key or key not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("url", ["", "127.0.0.1:9", "ftp://127.0.0.1", "http://"])
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    with pytest.raises(MarketError, match="is not the address of a market"):
        next(MarketProvider(url, lambda: KEY).batches(None, threading.Event()))


@pytest.mark.parametrize(("status", "said"), [(503, "not ready"), (200, "ended the stream")])
def test_a_market_in_trouble_is_tried_again(status: int, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        fake_server(status, b"") as url,
        reading(MarketProvider(url, lambda: KEY), None) as (batches, _, thread),
    ):
        assert wait_until(lambda: caplog.text.count(said) >= 2, 60)
        assert thread.is_alive()
    assert batches == []


def test_a_silent_market_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(market_provider, "SILENCE_TIMEOUT_S", 0.2)
    hold = threading.Event()
    with fake_server(200, b'{"heartbeat":true,"time":1,"cursor":2}\n', hold) as url:
        with reading(MarketProvider(url, lambda: KEY), None):
            assert wait_until(lambda: "cannot be reached" in caplog.text, 60)
        hold.set()


@pytest.mark.parametrize(
    "line", [b"<html>", b"{", b"[]", b"{}", b'{"cursor":1}', b'{"cursor":"x","heartbeat":true}', b'"text"', b"\xff"]
)
def test_lines_that_make_no_sense_end_the_connection(line: bytes) -> None:
    with pytest.raises(market_provider.ConnectionLostError):
        parse_lines(b'{"heartbeat":true,"time":1,"cursor":2}\n' + line + b"\n")


def test_its_catalogue_is_what_the_market_trades(home: Home) -> None:
    with running_market(home) as market:
        listed = provider_of(market).catalogue()
        traded = market.get("/v1/instruments").json()
        with pytest.raises(MarketKeyRefusedError, match="is unknown to the market"):
            MarketProvider(market.url, lambda: "a-wrong-key").catalogue()
    assert len(listed) == len(traded) > 10
    assert listed[0] == CatalogueEntry("OAKR/USD", "Oakroot Timber (fictional)", 3, True)
    assert {entry.instrument for entry in listed if not entry.has_volume} == {"FLRN/GRTS", "DCTS/FLRN"}


def test_a_market_that_cannot_be_reached_has_no_catalogue_now() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ProviderError, match="cannot be reached"):
        MarketProvider(f"http://127.0.0.1:{port}", lambda: KEY).catalogue()


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"[1]", b'[{"instrument":"A"}]', b"\xff"])
def test_a_catalogue_that_makes_no_sense_is_not_taken(body: bytes) -> None:
    with fake_server(200, body) as url, pytest.raises(MarketError, match="The market's list of instruments"):
        MarketProvider(url, lambda: KEY).catalogue()


def test_asking_for_nothing_needs_no_key_and_says_how_complete_it_is(home: Home) -> None:
    def no_key() -> str:
        raise AssertionError("the key was used")

    with running_market(home) as market:
        provider = MarketProvider(market.url, no_key, frozenset)
        batches = read(provider, None, lambda taken: len(taken) >= 4)
        newest = market.page()["newest_cursor"]
    assert all(batch.ticks.is_empty() for batch in batches)
    times = [batch.complete_to_ms or 0 for batch in batches]
    assert times == sorted(times)
    assert times[0] < times[-1]
    assert int(batches[0].cursor) <= int(batches[-1].cursor) <= newest


def test_with_nothing_to_ask_for_it_still_waits_for_a_market_that_is_down(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    with reading(MarketProvider(f"http://127.0.0.1:{port}", lambda: KEY, frozenset), None) as (batches, _, thread):
        assert wait_until(lambda: caplog.text.count("cannot be reached") >= 2, 60)
        assert thread.is_alive()
    assert batches == []


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"time":1}', b'{"time":"x","newest_cursor":1}', b"null"])
def test_a_word_on_where_it_stands_that_makes_no_sense_is_no_batch(answer: bytes) -> None:
    with pytest.raises(market_provider.ConnectionLostError):
        parse_health(answer)
