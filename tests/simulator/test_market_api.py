"""The demo market's HTTP interface, over real HTTP."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.simulator.access import AccessKeys
from barmill.simulator.exchange import STEP_S, TICKS_PER_FLUSH, Exchange
from barmill.simulator.history import History
from barmill.simulator.prices import INSTRUMENTS
from tests.support.market_process import HEADERS, KEY, RunningMarket, running_market

FIELDS = {"cursor", "time", "instrument", "price_open", "price_close", "volume", "id"}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMarket]:
    with running_market(Home(tmp_path_factory.mktemp("market")).create(), "--rate", "20") as running:
        running.wait_for_ticks(2_000)
        yield running


@contextmanager
def stream(market: RunningMarket, **parameters: str | int) -> Iterator[Iterator[dict[str, Any]]]:
    """Read the stream's lines as they come."""
    url = f"{market.url}/v1/prices/stream"
    with requests.get(url, params=parameters, headers=HEADERS, stream=True, timeout=30) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Simulated"] == "true"
        yield (json.loads(line) for line in answer.iter_lines(chunk_size=None))


def ticks_of(rows: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return list(itertools.islice((row for row in rows if "heartbeat" not in row), count))


@pytest.mark.parametrize("path", ["/v1/instruments", "/v1/prices", "/v1/prices/stream"])
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "No API key was sent"),
        ({"X-API-Key": ""}, "No API key was sent"),
        ({"Authorization": "Bearer"}, "No API key was sent"),
        ({"X-API-Key": "wrong"}, "unknown"),
        ({"Authorization": f"Bearer {KEY}x"}, "unknown"),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, "unknown"),
        ({"Authorization": f"Basic {KEY}"}, "must be 'Bearer KEY'"),
    ],
)
def test_without_a_good_key_the_answer_is_401_with_a_reason(
    market: RunningMarket, path: str, headers: dict[str, str], reason: str
) -> None:
    answer = requests.get(market.url + path, headers=headers, timeout=30)
    assert answer.status_code == 401
    assert reason in answer.json()["reason"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert KEY not in answer.text


@pytest.mark.parametrize("headers", [HEADERS, {"Authorization": f"bearer {KEY}"}, {"X-API-Key": KEY}])
def test_a_good_key_opens_the_market_in_either_header(market: RunningMarket, headers: dict[str, str]) -> None:
    assert requests.get(f"{market.url}/v1/instruments", headers=headers, timeout=30).status_code == 200


def test_a_revoked_key_ends_its_stream_and_is_refused_with_a_reason(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with running_market(home) as market:
        with stream(market) as rows:
            assert next(rows)
            AccessKeys.of(home).revoke("tests")
            for _ in rows:
                pass  # ends
        answer = market.get("/v1/prices")
    assert answer.status_code == 401
    assert "has been revoked" in answer.json()["reason"]


def test_a_damaged_key_file_is_a_fault_of_the_market_not_of_the_client(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    with running_market(home) as market:
        (home.market / "keys.json").write_text("{")
        answer = market.get("/v1/prices")
    assert answer.status_code == 503
    assert "delete it and start again" in answer.json()["reason"]


def test_its_health_is_open_to_all(market: RunningMarket) -> None:
    answer = requests.get(f"{market.url}/healthz", timeout=30)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


@pytest.mark.parametrize("path", ["/healthz", "/v1/instruments", "/v1/prices", "/v1/prices?cursor=1", "/nowhere"])
@pytest.mark.parametrize("headers", [HEADERS, {}])
def test_every_answer_says_that_it_is_simulated(market: RunningMarket, path: str, headers: dict[str, str]) -> None:
    answer = requests.get(market.url + path, headers=headers, timeout=30)
    assert answer.headers["X-Simulated"] == "true"
    assert "simulated" in answer.text


def test_instruments_are_described(market: RunningMarket) -> None:
    listed = market.get("/v1/instruments").json()
    assert [entry["instrument"] for entry in listed] == [instrument.name for instrument in INSTRUMENTS]
    for entry in listed:
        assert set(entry) == {"instrument", "description", "price_decimals", "volume", "simulated"}
        assert entry["simulated"] is True
        assert entry["description"].endswith("(fictional)")
    assert {entry["volume"] for entry in listed} == {True, False}


def test_ticks_are_whole_and_decimal_clean(market: RunningMarket) -> None:
    page = json.loads(market.get("/v1/prices", limit=2_000).text, parse_float=Decimal)
    decimals = {
        instrument.name: (instrument.price_decimals, instrument.volume_decimals, instrument.has_volume)
        for instrument in INSTRUMENTS
    }
    assert len(page["prices"]) == 2_000
    for tick in page["prices"]:
        assert set(tick) == FIELDS
        price_decimals, volume_decimals, has_volume = decimals[tick["instrument"]]
        for price in (tick["price_open"], tick["price_close"]):
            assert price > 0
            assert price == round(price, price_decimals)
        assert (tick["volume"] is not None) == has_volume
        assert not has_volume or tick["volume"] == round(tick["volume"], volume_decimals) > 0


def test_pages_follow_each_other_without_loss_or_repeat(market: RunningMarket) -> None:
    cursor = market.page(limit=1)["oldest_cursor"]
    up_to = market.page()["newest_cursor"]
    seen: list[int] = []
    for limit in itertools.cycle([1, 7, 500]):
        page = market.page(cursor, limit)
        assert len(page["prices"]) <= limit
        cursor = page["cursor"]
        seen += [tick["cursor"] for tick in page["prices"]]
        if cursor >= up_to:
            break
    assert seen == list(range(seen[0], seen[0] + len(seen)))


def test_a_page_says_up_to_when_it_is_complete(market: RunningMarket) -> None:
    assert market.page(limit=1)["complete_to"] is None
    newest = market.page()["newest_cursor"]
    page = market.page(newest - 100)
    assert page["complete_to"] >= max(tick["time"] for tick in page["prices"])


@pytest.mark.parametrize(
    "parameters",
    [
        {"cursor": "-1"},
        {"cursor": "now"},
        {"cursor": "1.5"},
        {"cursor": "٣"},
        {"cursor": "9" * 400},
        {"limit": "0"},
        {"limit": "5001"},
        {"limit": "many"},
    ],
)
def test_senseless_parameters_are_refused_with_a_reason(market: RunningMarket, parameters: dict[str, str]) -> None:
    answer = market.get("/v1/prices", **parameters)
    assert answer.status_code == 400
    assert next(iter(parameters)) in answer.json()["reason"]


def test_an_unknown_instrument_is_named(market: RunningMarket) -> None:
    answer = market.get("/v1/prices/stream", instruments="OAKR/USD,NOPE/USD")
    assert answer.status_code == 400
    assert "Unknown instruments: NOPE/USD" in answer.json()["reason"]


@pytest.mark.parametrize("path", ["/v1/prices", "/v1/prices/stream"])
def test_a_cursor_that_leads_nowhere_gets_410_and_the_oldest_one(market: RunningMarket, path: str) -> None:
    for cursor, reason in ((5, "no longer stored"), (9 * 10**17, "not issued")):
        answer = market.get(path, cursor=cursor)
        assert answer.status_code == 410
        assert reason in answer.json()["reason"]
        assert market.page(answer.json()["oldest_cursor"], 1)["prices"]


def test_a_cursor_falls_out_of_a_bounded_history(tmp_path: Path) -> None:
    with running_market(Home(tmp_path / "home").create(), "--rate", "40", "--history-ticks", "1000") as market:
        old = market.page(limit=1)["cursor"]
        assert wait_until(lambda: market.get("/v1/prices", cursor=old).status_code == 410, 60)
        page = market.page()
        assert page["prices"][0]["cursor"] == page["oldest_cursor"] + 1 > old + 1
        assert 1_000 <= page["newest_cursor"] - page["oldest_cursor"] < 2_000


def test_the_stream_gives_what_the_pages_give(market: RunningMarket) -> None:
    start = market.page(limit=100)["cursor"]
    with stream(market, cursor=start) as rows:
        streamed = ticks_of(rows, 5_000)
    assert streamed == market.ticks_after(start, streamed[-1]["cursor"])


def test_a_stream_goes_on_at_any_cursor_without_loss_or_repeat(market: RunningMarket) -> None:
    seen: list[dict[str, Any]] = []
    for count in (1, 3, 250, 1_001, 40):
        with stream(market, **({"cursor": seen[-1]["cursor"]} if seen else {})) as rows:
            seen += ticks_of(rows, count)  # leaves in the middle of a flush
    numbers = [tick["cursor"] for tick in seen]
    assert numbers == list(range(numbers[0], numbers[0] + 1_295))


def test_heartbeats_say_what_has_been_sent(market: RunningMarket) -> None:
    start = market.page()["newest_cursor"]
    said_ms, sent, out_of_time, beats = 0, start, 0, 0
    with stream(market, cursor=start) as rows:
        for row in rows:
            if "heartbeat" in row:
                assert row["heartbeat"] is True
                assert row["time"] >= said_ms
                assert row["cursor"] == sent
                said_ms, beats = row["time"], beats + 1
                if beats >= 60:
                    break
            else:
                assert row["cursor"] == sent + 1
                sent = row["cursor"]
                out_of_time += row["time"] <= said_ms
    # Only ticks that reached the market late, or came twice, are older than what was called complete before them.
    assert sent - start > 1_000
    assert out_of_time < 0.02 * (sent - start)


def test_heartbeats_go_on_while_an_instrument_is_silent(market: RunningMarket) -> None:
    with stream(market, instruments="LMPQ/USD", cursor=market.page()["newest_cursor"]) as rows:
        beats = list(itertools.islice((row for row in rows if "heartbeat" in row), 12))
    times, cursors = [beat["time"] for beat in beats], [beat["cursor"] for beat in beats]
    # In market time, not in ours: this machine may be slow, the market's steps are its own.
    assert all(earlier < other for earlier, other in itertools.pairwise(times))
    assert cursors == sorted(cursors)
    assert cursors[-1] > cursors[0]


def test_a_stream_of_some_instruments_has_all_of_theirs(market: RunningMarket) -> None:
    wanted = {"OAKR/USD", "DCTS/FLRN"}
    start = market.page(limit=1)["cursor"]
    with stream(market, instruments=",".join(wanted), cursor=start) as rows:
        some = ticks_of(rows, 500)
    everything = market.ticks_after(start, some[-1]["cursor"])
    assert some == [tick for tick in everything if tick["instrument"] in wanted]


def test_nothing_is_queued_for_a_client_that_is_behind(tmp_path: Path) -> None:
    async def read_slowly() -> tuple[list[int], list[int]]:
        history = History.open(tmp_path / "history.sqlite")
        exchange = Exchange(history, np.random.default_rng(1), rate=60)
        sizes, cursors = [], list[int]()
        async with aclosing(exchange.stream(exchange.newest_cursor, frozenset(), lambda: True)) as chunks:  # type: ignore[type-var]
            await anext(chunks)
            for _ in range(100):  # the client sleeps while the market continues
                exchange.step(exchange.clock_ms + round(STEP_S * 1_000))
            async for chunk in chunks:
                rows = [json.loads(line) for line in chunk.splitlines()]
                assert rows[-1]["heartbeat"]
                sizes.append(len(rows) - 1)
                cursors += [row["cursor"] for row in rows[:-1]]
                if rows[-1]["cursor"] == exchange.newest_cursor:
                    break
        assert rows[-1]["time"] == exchange.clock_ms
        history.close()
        return sizes, cursors

    sizes, cursors = asyncio.run(read_slowly())
    assert sum(sizes) > 10 * TICKS_PER_FLUSH
    assert max(sizes) < 3 * TICKS_PER_FLUSH
    assert cursors == list(range(cursors[0], cursors[0] + sum(sizes)))


def test_history_is_bounded_in_age(tmp_path: Path) -> None:
    history = History.open(tmp_path / "history.sqlite", max_age_ms=10_000)
    for number in range(100):
        history.append(number * 2 + 1, 2, number * 1_000, b"{}\n{}\n", "state")
    assert history.oldest_cursor(200) == 2 * 89
    assert history.load() == (200, "state")
    kept = history.read(history.oldest_cursor(200) + 1, 5)
    assert kept is not None
    assert (kept.lines.count(b"\n"), kept.cursor, kept.to_ms) == (5, 184, 91_000)
    assert history.read(200, 5) is None
    history.close()


def test_a_new_market_has_a_past_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    history = History.open(tmp_path / "history.sqlite")
    exchange = Exchange(history, np.random.default_rng(1), past_ms=120_000)
    kept = [json.loads(line) for line in exchange.read(exchange.oldest_cursor, 100_000).lines.splitlines()]
    span_ms = kept[-1]["time"] - kept[0]["time"]
    assert 110_000 < span_ms < 120_000
    assert [tick["cursor"] for tick in kept] == list(range(kept[0]["cursor"], kept[0]["cursor"] + len(kept)))
    again = Exchange(history, np.random.default_rng(2), past_ms=120_000)
    assert again.newest_cursor == exchange.newest_cursor
    history.close()
