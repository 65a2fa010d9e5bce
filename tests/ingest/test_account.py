"""Every row of an answer is a tick, a duplicate or a reject, in a feed as in a trial of its settings."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from barmill.ingest.connection.http import HttpResponse
from barmill.ingest.connection.state import Phase
from barmill.ingest.feeds.trial import Trial, trial
from barmill.ingest.mapping.row_tables import InstrumentFilter
from barmill.ingest.providers.rest.request import RequestSubject, delivered_of, page_of, row_outcomes
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.model.tick import as_rejects, check
from barmill.platform.clock import NS_PER_S
from barmill.platform.exact_json import read_json, text_of
from tests.hunt.answers import account_of
from tests.support.exchanges.rest_reading import Reading, reading
from tests.support.exchanges.rest_server import Reply, near_guard, standing_in
from tests.support.malformed_answers import nasty_rows

NOW_S = int(time.time()) - 60


def settings(url: str = "https://feed.example", **given: object) -> RestFeed:
    rows = {"rows": "d", "time": "t", "price": "p", **dict(given.pop("rows", {}))}  # type: ignore[call-overload]
    usual = {"base_url": url, "query": {"i": "{instrument}"}, "instruments": ["A"], "period_s": 0.1, "rows": rows}
    return RestFeed.model_validate({**usual, **given})


@contextmanager
def both(body: bytes | object, **given: object) -> Iterator[tuple[Reading, Trial]]:
    """Read an answer by a feed, and try the same settings."""
    reply = Reply(body if isinstance(body, bytes) else json.dumps(body).encode())
    with standing_in(lambda _: reply) as server:
        found = settings(server.url, **given)
        with reading(found) as session:
            session.wait(lambda: len(server.asked) >= 3)
            yield session, trial(found, guard=near_guard())


def rejects(reading: Reading) -> list[tuple[str, str | None]]:
    """Return reason and instrument of everything that the feed rejected, at intake or before."""
    limit_ns = time.time_ns() + 5 * NS_PER_S
    found = [check(batch.ticks, limit_ns).rejects for batch in list(reading.batches)]
    found += [as_rejects(batch.broken) for batch in list(reading.batches) if batch.broken.height]
    return sorted(pl.concat(found).select("reason", "instrument").rows()) if found else []


def agree(reading: Reading, found: Trial) -> None:
    assert [tick[1:4] for tick in reading.ticks()] == found.ticks.select(
        "instrument", "price_open", "price_close"
    ).rows()
    assert rejects(reading) == sorted(found.rejects.select("reason", "instrument").rows())


@pytest.mark.parametrize("name", ["btcusdt", "XXBTZUSD", "BTCUSDT."])
def test_a_name_that_is_spelled_otherwise_is_a_reject_and_not_silence(name: str) -> None:
    rows = {"instrument": "s"}
    with both({"d": [{"t": NOW_S, "p": 300.2, "s": name}]}, rows=rows, instruments=["BTCUSDT"]) as (reading, found):
        reading.wait_for(Phase.BROKEN)
        agree(reading, found)
    assert rejects(reading) == [("not_picked", name)]
    assert f'only about "{name}"' in reading.states[-1].sentence
    assert found.problem is not None
    assert f'only about "{name}", but "BTCUSDT" was requested' in found.problem
    assert all(batch.complete_to_ms is None for batch in reading.batches)


def test_a_name_can_be_mapped_to_the_one_that_is_picked() -> None:
    rows = {"instrument": "s", "names": {"XXBTZUSD": "XBTUSD"}}
    with both({"d": [{"t": NOW_S, "p": 1.5, "s": "XXBTZUSD"}]}, rows=rows, instruments=["XBTUSD"]) as (reading, found):
        agree(reading, found)
    assert [tick[1] for tick in reading.ticks()] == ["XBTUSD"]
    assert settings(rows=rows).rows.model_dump(exclude_defaults=True)["names"] == {"XXBTZUSD": "XBTUSD"}


def test_a_name_that_is_a_number_is_compared_as_it_is_written() -> None:
    with both({"d": [{"t": NOW_S, "p": 1.5, "s": 700}]}, rows={"instrument": "s"}, instruments=["700"]) as (
        reading,
        found,
    ):
        agree(reading, found)
    assert [tick[1] for tick in reading.ticks()] == ["700"]


def test_of_others_the_first_row_of_each_name_is_refused_and_the_rest_counted() -> None:
    body = {"d": [{"t": NOW_S + n, "p": 1, "s": name} for n in range(5) for name in "ABC"]}
    with both(body, rows={"instrument": "s"}, query={}) as (reading, found):
        agree(reading, found)
    assert rejects(reading) == [("not_picked", "B"), ("not_picked", "C")]
    assert (len(reading.ticks()), found.ticks.height, found.not_selected) == (5, 5, 10)
    assert 'of 2 instruments that the feed does not read were ignored ("B", "C")' in reading.states[-1].sentence


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"t":20250101120000,"p":2}', "bad_time"),
        ('{"t":99999999999999999999999999,"p":2}', "bad_time"),
        ('{"t":"0001-01-01T00:00:00Z","p":2}', "bad_time"),
        ('{"t":@,"p":NaN}', "bad_number"),
        ('{"t":@,"p":-Infinity}', "bad_number"),
        ('{"t":@,"p":1e999}', "bad_number"),
        ('{"t":@,"p":99999999999999999999999999999}', "bad_number"),
        ('{"t":@,"p":{"x":1}}', "bad_number"),
        ('{"t":@,"p":[184467440737095516160]}', "bad_number"),
        ('{"t":@,"p":true}', "bad_number"),
        ('{"t":NaN,"p":1}', "bad_time"),
        ('{"t":"\\ud800","p":1}', "bad_time"),
        ('{"t":[1],"p":1}', "bad_time"),
        ("7", "bad_time"),
        ("null", "bad_time"),
        ("[]", "bad_time"),
    ],
)
def test_one_bad_row_costs_one_row(bad: str, reason: str) -> None:
    rows = f'{{"t":{NOW_S}001,"p":1}},{bad.replace("@", f"{NOW_S}000")},{{"t":{NOW_S}002,"p":3}}'
    with both(f'{{"d":[{rows}]}}'.encode()) as (reading, found):
        agree(reading, found)
    assert [tick[2] for tick in reading.ticks()] == [1.0, 3.0]
    assert [reason for reason, _ in rejects(reading)] == [reason]
    assert reading.error is None
    assert found.problem is None


def test_an_answer_that_holds_nan_says_so() -> None:
    with both(f'{{"d":[{{"v":0,"a":NaN,"p":23.4,"t":{NOW_S}000}}]}}'.encode()) as (reading, found):
        agree(reading, found)
    assert [tick[2] for tick in reading.ticks()] == [23.4]
    assert "The response contains NaN or Infinity" in found.notes[0]


def test_every_digit_of_a_number_is_kept() -> None:
    text = "[1700000000.123456789, 123456789012345678901234567890, 0.10000000000000000001, 1.5, 7, -3e5]"
    value = read_json(text).value
    assert isinstance(value, list)
    assert [text_of(item) for item in value] == text.strip("[]").split(", ")


@given(st.integers(0, 2**32).map(Random), st.integers(1, 12), st.sampled_from([[], ["A"], ["A", "B"], ["A", "700"]]))
@at_most(max_examples=150, deadline=None)
def test_rows_are_ticks_repeats_and_rejects(luck: Random, count: int, instruments: list[str]) -> None:
    found = account_of(nasty_rows(luck, count), instruments)
    assert (found.lost, found.differences) == ((), ())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**6)), min_size=2, max_size=12), st.booleans())
@at_most(max_examples=150, deadline=None)
def test_the_order_is_that_of_the_source_whichever_end_comes_first(
    made: list[tuple[int, int]], newest_first: bool
) -> None:
    """Two times at least, so that the answer tells its order."""
    made = sorted([*made, (9, 1)], key=lambda pair: pair[0])
    rows = [{"t": (NOW_S + second) * 1_000, "p": price} for second, price in made]
    feed = settings()
    body = json.dumps({"d": rows[::-1] if newest_first else rows}).encode()
    page = page_of(HttpResponse("h", "application/json", body, None, 0, 0.0), feed, RequestSubject(("A",)))
    taken = row_outcomes(
        delivered_of(feed), InstrumentFilter(), page.rows, frozenset(), time.time_ns() + 5 * NS_PER_S, None
    )
    assert [row["price"] for row in taken.new] == [price for _, price in made]


@pytest.mark.parametrize(
    ("ids", "order", "query", "expected"),
    [
        ([None, None, None], "auto", {}, [10, 11, 12]),  # what is newest is mostly asked for newest first
        ([None, None, None], "auto", {"since": "{since_ms}"}, [12, 11, 10]),
        ([None, None, None], "oldest_first", {}, [12, 11, 10]),
        (["x", "y", "z"], "newest_first", {}, [10, 11, 12]),
        (["E-9", "E-10", "E-11"], "auto", {}, [12, 11, 10]),
        (["E-11", "E-10", "E-9"], "auto", {}, [10, 11, 12]),
        (["c3d9", "a17f", "f0e2"], "auto", {}, [12, 11, 10]),
    ],
)
def test_where_all_times_are_equal_the_order_is_by_a_rule(
    ids: list[str | None], order: str, query: dict[str, str], expected: list[int]
) -> None:
    rows = [{"t": NOW_S * 1_000, "p": price, "id": row_id} for price, row_id in zip((12, 11, 10), ids, strict=True)]
    feed = settings(query={"i": "{instrument}", **query}, rows={"id": "id", "order": order})
    body = json.dumps({"d": rows}).encode()
    page = page_of(HttpResponse("h", "application/json", body, None, 0, 0.0), feed, RequestSubject(("A",)))
    taken = row_outcomes(
        delivered_of(feed), InstrumentFilter(), page.rows, frozenset(), time.time_ns() + 5 * NS_PER_S, None
    )
    assert [row["price"] for row in taken.new] == expected


def test_an_order_that_was_seen_once_is_remembered_after_a_restart() -> None:
    feed = settings()
    delivered = delivered_of(feed)
    delivered.oldest_first([{"time": NOW_S * NS_PER_S, "price": 1}, {"time": (NOW_S + 1) * NS_PER_S, "price": 2}])
    same = [{"time": NOW_S * NS_PER_S, "price": n} for n in range(3)]
    assert [row["price"] for row in delivered_of(feed, delivered.cursor()).oldest_first(same)] == [0, 1, 2]
    assert [row["price"] for row in delivered_of(feed).oldest_first(same)] == [2, 1, 0]
