"""Every row of an answer is a tick, a known repeat or a reject, in a feed as in a trial of its settings."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from feed.connection.answer import Answer
from feed.connection.state import Phase
from feed.mapping.exact_json import read_json, text_of
from feed.mapping.picked import Picked
from feed.mapping.table import table
from feed.providers.rest.account import account, delivered_of
from feed.providers.rest.answers import page_of
from feed.providers.rest.question import Asking
from feed.providers.rest.settings import RestFeed
from feed.tick import REASONS, as_rejects, check
from feed.trial import Trial, trial
from tests.feed.exchanges.rest_reading import Reading, reading
from tests.feed.exchanges.rest_server import Reply, near_guard, standing_in

S_NS = 1_000_000_000
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
        with reading(found) as one:
            one.wait(lambda: len(server.asked) >= 3)
            yield one, trial(found, guard=near_guard())


def rejects(one: Reading) -> list[tuple[str, str | None]]:
    """Return reason and instrument of all that the feed refused, at the door or before."""
    limit_ns = time.time_ns() + 5 * S_NS
    found = [check(batch.ticks, limit_ns).rejects for batch in list(one.batches)]
    found += [as_rejects(batch.broken) for batch in list(one.batches) if batch.broken.height]
    return sorted(pl.concat(found).select("reason", "instrument").rows()) if found else []


def agree(one: Reading, found: Trial) -> None:
    assert [tick[1:4] for tick in one.ticks()] == found.ticks.select("instrument", "price_open", "price_close").rows()
    assert rejects(one) == sorted(found.rejects.select("reason", "instrument").rows())


@pytest.mark.parametrize("name", ["btcusdt", "XXBTZUSD", "BTCUSDT."])
def test_a_name_that_is_spelled_otherwise_is_a_reject_and_not_silence(name: str) -> None:
    rows = {"instrument": "s"}
    with both({"d": [{"t": NOW_S, "p": 300.2, "s": name}]}, rows=rows, instruments=["BTCUSDT"]) as (one, found):
        one.wait_for(Phase.BROKEN)
        agree(one, found)
    assert rejects(one) == [("not_picked", name)]
    assert f'"{name}" alone' in one.states[-1].sentence
    assert found.problem is not None
    assert f'"{name}" alone, which is not how "BTCUSDT" is spelled' in found.problem
    assert all(batch.complete_to_ms is None for batch in one.batches)


def test_a_name_can_be_mapped_to_the_one_that_is_picked() -> None:
    rows = {"instrument": "s", "names": {"XXBTZUSD": "XBTUSD"}}
    with both({"d": [{"t": NOW_S, "p": 1.5, "s": "XXBTZUSD"}]}, rows=rows, instruments=["XBTUSD"]) as (one, found):
        agree(one, found)
    assert [tick[1] for tick in one.ticks()] == ["XBTUSD"]
    assert settings(rows=rows).rows.model_dump(exclude_defaults=True)["names"] == {"XXBTZUSD": "XBTUSD"}


def test_a_name_that_is_a_number_is_compared_as_it_is_written() -> None:
    with both({"d": [{"t": NOW_S, "p": 1.5, "s": 700}]}, rows={"instrument": "s"}, instruments=["700"]) as (one, found):
        agree(one, found)
    assert [tick[1] for tick in one.ticks()] == ["700"]


def test_of_others_the_first_row_of_each_name_is_refused_and_the_rest_counted() -> None:
    body = {"d": [{"t": NOW_S + n, "p": 1, "s": name} for n in range(5) for name in "ABC"]}
    with both(body, rows={"instrument": "s"}, query={}) as (one, found):
        agree(one, found)
    assert rejects(one) == [("not_picked", "B"), ("not_picked", "C")]
    assert (len(one.ticks()), found.ticks.height, found.unpicked) == (5, 5, 10)
    assert 'of 2 instruments that it does not read were left out ("B", "C")' in one.states[-1].sentence


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
    with both(f'{{"d":[{rows}]}}'.encode()) as (one, found):
        agree(one, found)
    assert [tick[2] for tick in one.ticks()] == [1.0, 3.0]
    assert [reason for reason, _ in rejects(one)] == [reason]
    assert one.error is None
    assert found.problem is None


def test_an_answer_that_holds_nan_says_so() -> None:
    with both(f'{{"d":[{{"v":0,"a":NaN,"p":23.4,"t":{NOW_S}000}}]}}'.encode()) as (one, found):
        agree(one, found)
    assert [tick[2] for tick in one.ticks()] == [23.4]
    assert "The answer holds NaN or Infinity" in found.notes[0]


def test_every_digit_of_a_number_is_kept() -> None:
    text = "[1700000000.123456789, 123456789012345678901234567890, 0.10000000000000000001, 1.5, 7, -3e5]"
    value = read_json(text).value
    assert isinstance(value, list)
    assert [text_of(one) for one in value] == text.strip("[]").split(", ")


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, object]]:
    """Rows good and bad, of several instruments, with ids or without, in one of several orders."""
    with_ids = draw(st.booleans())
    count = draw(st.integers(1, 12))
    # One row fits the mapping: an answer of which none does is a mistake in the settings, and says so.
    rows: list[dict[str, object]] = [{"t": NOW_S * 1_000, "p": 1.0, "s": "A", **({"id": "good"} if with_ids else {})}]
    for n in range(count):
        row: dict[str, object] = {
            "t": (NOW_S + draw(st.integers(0, 4))) * 1_000,
            "p": draw(st.integers(1, 10**15)) / 10**6,
            "s": draw(st.sampled_from(["A", "A", "B", "a", 700])),
        }
        if with_ids:
            row["id"] = draw(st.sampled_from([n, f"x-{n}", 10**25 + n]))
        bad = draw(st.sampled_from([None] * 4 + ["t", "p", "s"]))
        if bad:
            row[bad] = draw(
                st.sampled_from([None, "", "soon", True, [1], {"x": 1}, 20250101120000, 10**30, -1, 0, "\ud800"])
            )
        rows.append(row)
    rows.sort(key=lambda row: row["t"] if isinstance(row["t"], int) else 0)
    return draw(st.sampled_from([rows, rows[::-1], draw(st.permutations(rows))]))


@given(answers(), st.sampled_from([[], ["A"], ["A", "B"], ["A", "700"]]))
@at_most(max_examples=150, deadline=None)
def test_rows_are_ticks_repeats_and_rejects(rows: list[dict[str, object]], instruments: list[str]) -> None:
    mapping = {"instrument": "s", "id": "id" if "id" in rows[0] else ""}
    feed = settings(rows=mapping, instruments=instruments, query={})
    body = json.dumps({"d": rows}).encode()
    page = page_of(Answer("h", "application/json", body, None, 0, 0.0), feed, Asking(()), "")
    delivered, picked = delivered_of(feed), Picked()
    limit_ns = time.time_ns() + 5 * S_NS
    seen = Counter[str]()
    for poll in range(3):
        taken = account(delivered, picked, page.rows, frozenset(instruments), limit_ns, None)
        checked = check(table(taken.new), limit_ns)
        assert checked.ticks.height + checked.rejects.height == len(taken.new)
        assert len(taken.new) + taken.repeats + taken.held + taken.unpicked == len(rows)
        assert set(checked.rejects["reason"]) <= REASONS.keys()
        seen.update(_prices(checked.ticks))
        if poll:
            assert taken.new == []  # the same answer again brings nothing again
            assert taken.refused.is_empty()
    wanted = [row for row in rows if not instruments or text_of(row["s"]) is None or str(row["s"]) in instruments]
    assert seen == Counter(price for row in wanted if (price := _good(row)) is not None)


def _prices(ticks: pl.DataFrame) -> list[str]:
    return [str(Decimal(repr(price))) for price in ticks["price_open"]]


def _good(row: dict[str, object]) -> str | None:
    """Return the price of a row that is a tick, by reading it independently."""
    at_ms, price, name = row["t"], row["p"], row["s"]
    good_time = isinstance(at_ms, int) and 0 <= at_ms - NOW_S * 1_000 < 9_000
    good_price = isinstance(price, int | float) and not isinstance(price, bool) and 0 < price <= 10**15
    good_name = isinstance(name, int | str | list | dict) and str(name).strip() != ""
    return str(Decimal(repr(float(price)))) if good_time and good_price and good_name else None  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**6)), min_size=2, max_size=12), st.booleans())
@at_most(max_examples=150, deadline=None)
def test_the_order_is_that_of_the_source_whichever_end_comes_first(
    made: list[tuple[int, int]], newest_first: bool
) -> None:
    """Two times at least, so that the answer tells its order."""
    made = sorted([*made, (9, 1)], key=lambda one: one[0])
    rows = [{"t": (NOW_S + second) * 1_000, "p": price} for second, price in made]
    feed = settings()
    body = json.dumps({"d": rows[::-1] if newest_first else rows}).encode()
    page = page_of(Answer("h", "application/json", body, None, 0, 0.0), feed, Asking(("A",)), "")
    taken = account(delivered_of(feed), Picked(), page.rows, frozenset(), time.time_ns() + 5 * S_NS, None)
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
    page = page_of(Answer("h", "application/json", body, None, 0, 0.0), feed, Asking(("A",)), "")
    taken = account(delivered_of(feed), Picked(), page.rows, frozenset(), time.time_ns() + 5 * S_NS, None)
    assert [row["price"] for row in taken.new] == expected


def test_an_order_that_was_seen_once_is_remembered_after_a_restart() -> None:
    feed = settings()
    delivered = delivered_of(feed)
    delivered.oldest_first([{"time": NOW_S * S_NS, "price": 1}, {"time": (NOW_S + 1) * S_NS, "price": 2}])
    same = [{"time": NOW_S * S_NS, "price": n} for n in range(3)]
    assert [row["price"] for row in delivered_of(feed, delivered.cursor()).oldest_first(same)] == [0, 1, 2]
    assert [row["price"] for row in delivered_of(feed).oldest_first(same)] == [2, 1, 0]
