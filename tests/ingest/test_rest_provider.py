"""The provider `rest`: its requests, its ticks and its messages, with settings entered by a user."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from pydantic import ValidationError

from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.provider import CatalogueEntry, ProviderError
from barmill.ingest.connection.state import Phase
from barmill.ingest.identity import hash_id
from barmill.ingest.providers.rest.delivered import Delivered, RawRow
from barmill.ingest.providers.rest.provider import RestProvider
from barmill.ingest.providers.rest.request import (
    RequestSubject,
    RestMappingError,
    RestRefusedError,
    build_request,
    request_text,
)
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.platform.clock import NS_PER_S
from tests.support.exchanges.rest_reading import Reading, reading
from tests.support.exchanges.rest_server import Asked, Reply, StandIn, always, near_guard, standing_in

NOW_S = int(time.time())
FUTURE_NS = (NOW_S + 86_400) * NS_PER_S


def row(at_s: float, price: float = 1.0, name: str = "A", number: int | None = None) -> dict[str, object]:
    return {"time": round(at_s * NS_PER_S), "instrument": name, "price": price, "id": number}


def new(delivered: Delivered, rows: list[dict[str, object]], future_ns: int) -> list[RawRow]:
    return delivered.take(delivered.oldest_first(rows), future_ns).new


def settings(url: str = "https://feed.example", **given: object) -> RestFeed:
    rows = {"rows": "d", "time": "time", "price": "price", "instrument": "instrument", "id": "id"}
    # The trades are of when this file was read, which may be long before its tests run.
    usual = {"base_url": url, "rows": rows, "period_s": 0.1, "instruments": ["A", "B"], "start_back_s": 86_400}
    return RestFeed.model_validate({**usual, **given})


@contextmanager
def polled(
    answers: Callable[[Asked], Reply],
    key: str = "",
    wanted: Callable[[], frozenset[str] | None] = lambda: None,
    **given: object,
) -> Iterator[tuple[StandIn, Reading]]:
    """Run a server and read from it until the block ends."""
    with standing_in(answers) as server, reading(settings(server.url, **given), key, wanted=wanted) as session:
        yield server, session


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"rows": []}), '"d" matches nothing: there is an object with rows'),
        (Reply({"d": [{"at": 1}]}), 'time: "time" matches nothing: there is an object with at'),
        (Reply({"d": [{"time": 1, "instrument": "A", "price": []}]}), "price"),
    ],
)
def test_a_mapping_that_fits_no_answer_is_for_a_person(reply: Reply, said: str) -> None:
    with standing_in(always(reply)) as server, reading(settings(server.url)) as session:
        state = session.wait_for(Phase.BROKEN)
        session.wait(lambda: session.error is not None)
    assert isinstance(session.error, RestMappingError)
    assert said in str(session.error)
    assert said in state.sentence


def test_an_address_that_no_feed_may_reach_is_for_a_person() -> None:
    provider = RestProvider("test", settings("https://localhost:1"), None, lambda: None, lambda _: None)
    with pytest.raises(RestRefusedError, match="localhost resolves to"):
        next(iter(provider.batches(None, threading.Event())))


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(status=500),
        Reply(b"not JSON"),
        Reply(b"1," * 100_000, headers={"Content-Encoding": "gzip"}),
        Reply(b"[" * 70 + b"]" * 70),
        Reply(status=302, headers={"Location": "https://elsewhere.example/"}),
    ],
)
def test_what_passes_is_waited_for(trouble: Reply) -> None:
    with standing_in(always(trouble)) as server, reading(settings(server.url)) as session:
        session.wait(lambda: any(state.phase in (Phase.WAITING, Phase.BROKEN) for state in session.states))
        server.answers = always(Reply({"d": [row(NOW_S)]}))
        session.wait_for_ticks(1)
        assert session.error is None


def test_no_instrument_is_asked_for_where_none_is_wanted() -> None:
    wanted = frozenset[str]()
    with polled(always(Reply({"d": [row(NOW_S), row(NOW_S, name="B")]})), wanted=lambda: wanted) as (server, reading):
        reading.wait_for(Phase.IDLE)
        assert server.asked == []
        wanted = frozenset({"B"})
        reading.wait_for_ticks(1)
        assert reading.ticks()[0][1] == "B"


def test_what_was_not_wanted_is_not_fetched_afterwards() -> None:
    delivered = Delivered(0)
    new(delivered, [row(NOW_S)], FUTURE_NS)
    delivered.skip_until("A", (NOW_S + 60) * NS_PER_S)
    delivered.skip_until("B", (NOW_S + 60) * NS_PER_S)
    assert delivered.since_ns(["A"], 5) == (NOW_S + 60) * NS_PER_S
    assert delivered.since_ns(["A", "B"], 5) == 5
    assert new(delivered, [row(NOW_S + 59), row(NOW_S + 61)], FUTURE_NS) == [row(NOW_S + 61)]


def test_the_end_of_a_poll_says_up_to_when_all_is_there() -> None:
    with polled(always(Reply({"d": [row(NOW_S)]})), settle_s=7.0) as (_, reading):
        reading.wait(lambda: sum(batch.complete_to_ms is not None for batch in reading.batches) >= 2)
        said = [batch.complete_to_ms for batch in reading.batches if batch.complete_to_ms is not None]
    assert said == sorted(said)
    assert NOW_S * 1_000 - 10_000 < said[0] < time.time() * 1_000 - 6_000
    assert reading.batches[0].complete_to_ms is None


def test_quotes_come_again_only_when_their_time_is_another() -> None:
    delivered = Delivered(0)
    assert new(delivered, [row(NOW_S)], FUTURE_NS) == [row(NOW_S)]
    assert new(delivered, [row(NOW_S)], FUTURE_NS) == []
    assert new(delivered, [row(NOW_S - 1)], FUTURE_NS) == []
    assert new(delivered, [row(NOW_S, name="B")], FUTURE_NS) == [row(NOW_S, name="B")]
    assert new(delivered, [row(NOW_S + 1)], FUTURE_NS) == [row(NOW_S + 1)]


def test_trades_alike_are_all_delivered_and_none_twice() -> None:
    delivered = Delivered(0)
    assert len(new(delivered, [row(NOW_S)] * 3, FUTURE_NS)) == 3
    assert len(new(delivered, [row(NOW_S)] * 5, FUTURE_NS)) == 2
    restarted = Delivered(0, delivered.cursor())
    assert len(new(restarted, [row(NOW_S)] * 5 + [row(NOW_S + 1)] * 2, FUTURE_NS)) == 2
    assert len(new(restarted, [row(NOW_S + 1)] * 2, FUTURE_NS)) == 0


def test_ids_tell_late_trades_from_delivered_ones_also_after_a_restart() -> None:
    delivered = Delivered(2 * NS_PER_S)
    first = [row(NOW_S + n, number=n) for n in (3, 1, 5)]
    assert [row["id"] for row in new(delivered, first, FUTURE_NS)] == [1, 3, 5]
    restarted = Delivered(2 * NS_PER_S, delivered.cursor())
    assert restarted.since_ns(["A"], 0) == (NOW_S + 3) * NS_PER_S
    late = [row(NOW_S + 4, number=4), row(NOW_S + 1, number=9), row(NOW_S, number=10), *first]
    # The first answer went back to the second 1, so 9 was not in it; what is older may have been delivered before.
    assert [row["id"] for row in new(restarted, late, FUTURE_NS)] == [9, 4]


def test_an_id_that_comes_again_is_another_tick_also_after_a_restart() -> None:
    delivered = Delivered(60 * NS_PER_S)
    first = [row(NOW_S + n, number=n) for n in range(3)]
    second = [row(NOW_S + 9, number=0), {**row(NOW_S + 2, number=2), "price": 7}]  # a counter, and an id of two venues
    assert new(delivered, first, FUTURE_NS) == first
    for progress in (delivered, Delivered(60 * NS_PER_S, delivered.cursor())):
        assert new(progress, [*first, *second], FUTURE_NS) == second[::-1]
        assert new(progress, [*first, *second], FUTURE_NS) == []


def test_a_cursor_of_an_earlier_version_still_tells_what_was_delivered() -> None:
    sent = [{**row(NOW_S + n), "id": name} for n, name in enumerate([5, "x-1", "x-2"])]
    ids = [["5", NOW_S * NS_PER_S], [hash_id("x-1"), (NOW_S + 1) * NS_PER_S]]
    cursor = json.dumps({"marks": {"A": [(NOW_S + 1) * NS_PER_S, NOW_S * NS_PER_S, 0, ids]}, "pages": {}})
    assert new(Delivered(60 * NS_PER_S, cursor), sent, FUTURE_NS) == sent[2:]


def test_a_cursor_stays_small_however_many_trades_there_are() -> None:
    delivered, numbers = Delivered(60 * NS_PER_S), count()
    for second in range(10):
        fresh = [row(NOW_S + second + n / 1_000, number=next(numbers)) for n in range(900)]
        assert len(new(delivered, fresh, FUTURE_NS)) == 900
        assert new(delivered, fresh, FUTURE_NS) == []
        assert len(delivered.cursor()) < 40_000


def test_rows_that_no_tick_can_be_made_of_come_once() -> None:
    delivered = Delivered(0)
    wrong: list[dict[str, object]] = [{"time": None, "price": 1}, {"time": "x", "price": 1}, row(NOW_S + 10**6)]
    assert len(new(delivered, wrong, FUTURE_NS)) == 3
    assert new(delivered, wrong, FUTURE_NS) == []
    assert new(delivered, [row(NOW_S)], FUTURE_NS) == [row(NOW_S)]
    assert new(delivered, wrong, FUTURE_NS + 10**6 * NS_PER_S) == []


def pages_back(asked: Asked) -> Reply:
    """Answer with ten trades, three a page, the newest first."""
    last = int(asked.query.get("before", "10"))
    numbers = range(last, max(0, last - 3), -1)
    return Reply({"d": [row(NOW_S - 10 + n, n, number=n) for n in numbers], "next": last - 3 if last > 3 else None})


def test_pages_that_lead_back_come_in_order_and_end_where_it_is_known() -> None:
    pages = {"cursor": "next", "newest_first": True}
    with polled(pages_back, query={"before": "{cursor}"}, pages=pages) as (server, reading):
        reading.wait_for_ticks(10)
        assert [tick[2] for tick in reading.ticks()] == [float(n) for n in range(1, 11)]
        asked = len(server.asked)
        reading.wait(lambda: len(server.asked) >= asked + 6)
        # Of what is known a poll looks at the newest two pages, since only the second is older than the overlap.
        assert sum("before" not in question.query for question in server.asked[asked:]) >= 3
        assert reading.states[-1].gaps == 0


def test_a_page_named_by_a_lone_surrogate_can_be_asked_for() -> None:
    def answer(asked: Asked) -> Reply:
        first = "before" not in asked.query
        return Reply({"d": [row(NOW_S - 10 + first, 1)], "next": "\ud800" if first else None})

    pages = {"cursor": "next", "newest_first": True}
    with polled(answer, query={"before": "{cursor}"}, pages=pages) as (server, reading):
        reading.wait_for_ticks(2)
        assert r"\ud800" in {asked.query.get("before") for asked in server.asked}


def test_pages_that_lead_back_too_far_leave_a_gap_that_is_told() -> None:
    pages = {"cursor": "next", "newest_first": True, "most": 2}
    with polled(pages_back, query={"before": "{cursor}"}, pages=pages) as (_, reading):
        reading.wait_for_ticks(6)
        reading.wait(lambda: reading.states[-1].gaps >= 1)


def test_a_cursor_that_stays_is_where_the_next_poll_goes_on() -> None:
    def answers(asked: Asked) -> Reply:
        at = int(asked.query.get("after", "0"))
        new = [row(NOW_S + n, n, number=n) for n in range(at + 1, min(at + 2, available) + 1)]
        return Reply({"d": new, "last": at + len(new)})

    available = 5
    given = {"query": {"after": "{cursor}"}, "pages": {"cursor": "last", "stays": True}}
    with standing_in(answers) as server:
        with reading(settings(server.url, **given)) as session:
            session.wait_for_ticks(5)
        available = 8
        with reading(settings(server.url, **given), cursor=session.cursor) as other:
            other.wait_for_ticks(3)
        assert server.asked[-1].query == {"after": "8"}


def test_a_next_page_at_another_host_gets_no_key() -> None:
    reply = Reply({"d": [row(NOW_S)], "next": "https://elsewhere.example/2"})
    with polled(always(reply), "a-secret-key", pages={"url": "next"}, query={"token": "{key}"}) as (_, reading):
        assert "key is not sent there" in reading.wait_for(Phase.BROKEN).sentence


def test_the_key_is_asked_for_once_for_many_polls() -> None:
    keys, stop = count(), threading.Event()
    with standing_in(always(Reply({"d": [row(NOW_S)]}))) as server:
        given = settings(server.url, headers={"X-Key": "{key}"})
        provider = RestProvider(
            "t", given, lambda: f"key-{next(keys)}", lambda: None, lambda _: None, guard=near_guard()
        )
        for _ in provider.batches(None, stop):
            if len(server.asked) >= 4:
                stop.set()
        assert {asked.headers["x-key"] for asked in server.asked} == {"key-0"}


def test_a_refused_key_is_asked_for_anew_before_it_is_given_up() -> None:
    keys, stop, good = count(), threading.Event(), ["key-0"]

    def answers(asked: Asked) -> Reply:
        return Reply({"d": [row(NOW_S)]}) if asked.headers["x-key"] == good[0] else Reply(status=401)

    with standing_in(answers) as server:
        given = settings(server.url, headers={"X-Key": "{key}"})
        provider = RestProvider(
            "t", given, lambda: f"key-{next(keys)}", lambda: None, lambda _: None, guard=near_guard()
        )
        for _ in provider.batches(None, stop):
            good[0] = "key-1"  # it was rotated
            if server.asked[-1].headers["x-key"] == "key-1":
                stop.set()
        assert [asked.headers["x-key"] for asked in server.asked][-3:] == ["key-0", "key-0", "key-1"]


def test_the_catalogue_is_what_the_provider_lists() -> None:
    catalogue = {"path": "/symbols", "rows": "list", "instrument": "code", "description": "text"}
    odd = {"code": "\ud800", "text": "\udfff"}  # lone surrogates, which no database stores
    answer = Reply({"list": [{"code": "A", "text": "Alpha"}, {"code": "B"}, {"code": 7}, "x", odd]})
    with standing_in(always(answer)) as server:
        given = settings(server.url, catalogue=catalogue)
        provider = RestProvider("t", given, None, lambda: None, lambda _: None, guard=near_guard())
        assert provider.catalogue() == [
            CatalogueEntry("A", "Alpha"),
            CatalogueEntry("B"),
            CatalogueEntry("\\ud800", "\\udfff"),
        ]
        server.answers = always(Reply(status=500))
        with pytest.raises(ProviderError, match="internal error"):
            provider.catalogue()
    assert RestProvider("t", settings(), None, lambda: None, lambda _: None).catalogue() is None


def test_questions_have_their_blanks_filled_and_hide_the_key() -> None:
    given = settings(
        path="/v1/{instrument}",
        query={"from": "{since_iso}", "ms": "{since_ms}", "page": "{cursor}", "key": "{key}", "fixed": "a b"},
        headers={"Authorization": "Bearer {key}"},
        rows={"time": "t", "price": "p"},
    )
    asking = RequestSubject(["EUR/USD"], 1_764_140_400_123_456_789)
    sent = build_request(given, asking, "se&cret")
    assert sent.url == (
        "https://feed.example/v1/EUR%2FUSD?from=2025-11-26T07%3A00%3A00.123456789Z&ms=1764140400123&key=se%26cret&fixed=a%20b"
    )
    assert sent.headers == {"Authorization": "Bearer se&cret"}
    assert "cret" not in request_text(given, asking)
    assert build_request(given, RequestSubject(["A"]), "k").url == "https://feed.example/v1/A?key=k&fixed=a%20b"
    several = settings(query={"symbols": "{instruments}"}, separator="|")
    assert build_request(several, RequestSubject(["A", "B"]), "").url == "https://feed.example?symbols=A%7CB"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base_url": "feed.example"}, "must begin with https:// or wss://"),
        ({"base_url": "wss://feed.example"}, "must begin with https://"),
        ({"base_url": "https://feed.example?key=1"}, "may not contain"),
        ({"base_url": "https://me:it@feed.example"}, "API key"),
        ({"path": "/{key}"}, "{key} is not a placeholder here"),
        ({"query": {"a": "{instrumnt}"}}, "{instrumnt} is not a placeholder here"),
        ({"path": "/{instrument}", "query": {"a": "{instruments}"}}, "not both"),
        ({"headers": {"Host": "x"}}, "not a header that can be set"),
        ({"headers": {"X": "a\nb"}}, "cannot be sent"),
        ({"rows": {"time": "t", "price": "p"}}, "give the path to the name in a row"),
        ({"pages": {"cursor": "next"}}, "use {cursor} in path or query"),
        ({"pages": {"cursor": "next", "url": "next"}}, "either the cursor or the url"),
        ({"period_s": 0}, "greater than or equal to 0.1"),
        ({"code": "a..b"}, "names, numbers"),
        ({"kind": "websocket"}, "rest"),
        ({"nonsense": 1}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_work_say_why(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        settings(**given)  # type: ignore[arg-type]
    assert said in str(error.value)


def test_only_public_addresses_are_reached_unless_a_guard_says_more() -> None:
    provider = RestProvider(
        "t",
        settings("https://feed.example"),
        None,
        lambda: None,
        lambda _: None,
        guard=Guard(lookup=lambda *_: ["10.1.1.1"]),
    )
    with pytest.raises(RestRefusedError, match=r"feed\.example resolves to 10\.1\.1\.1"):
        next(iter(provider.batches(None, threading.Event())))
