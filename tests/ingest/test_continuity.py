"""A poll that does not join the last one is a counted gap, and nothing is called complete by it."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st
from pydantic import ValidationError

from barmill.ingest.connection.http import HttpResponse
from barmill.ingest.connection.reconnect import InvalidResponseError, LimitedError, RequestError
from barmill.ingest.providers.rest.continuity import ContinuityCheck
from barmill.ingest.providers.rest.delivered import Delivered
from barmill.ingest.providers.rest.request import RequestSubject, page_of
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.platform.clock import NS_PER_S
from tests.support.exchanges.rest_reading import Reading, reading
from tests.support.exchanges.rest_server import Asked, Reply, standing_in

NOW_S = int(time.time()) - 600
LATER_NS = (NOW_S + 86_400) * NS_PER_S


def settings(url: object = "https://feed.example", **given: object) -> RestFeed:
    rows = {"rows": "d", "time": "time", "price": "price", "id": "id"}
    usual = {
        "base_url": url, "rows": rows, "period_s": 0.1, "instruments": ["A"], "query": {"i": "{instrument}"},
        "start_back_s": 86_400,
    }  # fmt: skip
    return RestFeed.model_validate({**usual, **given})


def trade(number: int, name: str = "A", at_s: float | None = None) -> dict[str, object]:
    return {
        "time": round((NOW_S + (number / 100 if at_s is None else at_s)) * NS_PER_S),
        "price": 1 + number,
        "id": f"t-{number}",
        "instrument": name,
    }


def polls(answers: Callable[[Asked, int], object], until: Callable[[Reading], bool], **given: object) -> Reading:
    """Read until something holds; answers receives the number of the question, from 0 on."""
    asked: list[Asked] = []

    def answer(question: Asked) -> Reply:
        asked.append(question)
        return Reply(answers(question, len(asked) - 1))

    with standing_in(answer) as server, reading(settings(server.url, **given)) as session:
        session.wait(lambda: until(session))
        return session


def completions(reading: Reading) -> int:
    return sum(batch.complete_to_ms is not None for batch in reading.batches)


def test_only_the_newest_rows_of_many_are_a_gap_and_never_complete() -> None:
    def newest_20_of_50_more(_: Asked, poll: int) -> object:
        return {"d": [trade(number) for number in range(50 * poll + 50, 50 * poll + 30, -1)]}

    reading = polls(newest_20_of_50_more, lambda session: bool(session.states) and session.states[-1].gaps >= 3)
    assert completions(reading) == 1  # the first poll, which has nothing to join
    assert "Rows of A may be missing between" in reading.states[-1].sentence
    assert reading.states[-1].gap
    assert len(reading.ticks()) % 20 == 0


def test_newest_rows_that_overlap_are_complete() -> None:
    def newest_20_of_15_more(_: Asked, poll: int) -> object:
        return {"d": [trade(number) for number in range(15 * poll + 20, 15 * poll, -1)]}

    reading = polls(newest_20_of_15_more, lambda session: completions(session) >= 3)
    assert reading.states[-1].gaps == 0
    assert [tick[2] for tick in reading.ticks()] == [float(1 + n) for n in range(1, len(reading.ticks()) + 1)]


def test_a_full_page_since_a_time_is_followed_by_another_question() -> None:
    def from_time(question: Asked, _: int) -> object:
        since_ns = int(question.query["since"])
        return {"d": [row for row in (trade(n) for n in range(95)) if int(str(row["time"])) >= since_ns][:10]}

    query = {"i": "{instrument}", "since": "{since_ns}", "limit": "10"}
    reading = polls(from_time, lambda session: completions(session) >= 1, query=query)
    assert len(reading.ticks()) == 95
    assert reading.states[-1].gaps == 0


def test_a_full_page_that_is_newest_first_and_begins_after_the_time_asked_for_is_a_gap() -> None:
    def newest_since(question: Asked, _: int) -> object:
        since_ns = int(question.query["since"])
        return {"d": [row for row in (trade(n) for n in range(95)) if int(str(row["time"])) >= since_ns][:-11:-1]}

    query = {"i": "{instrument}", "since": "{since_ns}", "limit": "10"}
    reading = polls(newest_since, lambda session: completions(session) >= 1, query=query)
    assert len(reading.ticks()) == 10
    assert reading.states[-1].gaps >= 1
    assert "there are more than one response contains" in reading.states[-1].sentence


def test_more_rows_of_one_time_than_a_page_holds_are_a_gap() -> None:
    body = {"d": [trade(n, at_s=1) for n in range(10)]}
    query = {"i": "{instrument}", "since": "{since_ns}"}
    reading = polls(
        lambda *_: body,
        lambda session: bool(session.states) and session.states[-1].gaps >= 2,
        query=query,
        page_rows=10,
    )
    assert completions(reading) == 0
    assert "there are more than one response contains" in reading.states[-1].sentence


def test_a_single_price_joins_nothing_and_is_no_gap() -> None:
    reading = polls(lambda _, poll: {"d": [trade(poll)]}, lambda session: completions(session) >= 3)
    assert reading.states[-1].gaps == 0


def breaks(before: list[dict[str, object]], after: list[dict[str, object]], *, mixed: bool) -> set[str]:
    delivered = Delivered(0)
    delivered.take(before, LATER_NS)
    joining = ContinuityCheck(delivered.marks, mixed=mixed)
    joining.add_page(after, LATER_NS)
    return {gap.instrument for gap in joining.possible_gaps()}


@given(st.lists(st.sampled_from("ABC"), min_size=4, max_size=40), st.integers(2, 12), st.integers(1, 39), st.booleans())
@at_most(max_examples=300, deadline=None)
def test_what_was_cut_off_of_a_list_is_found_whoever_traded(
    names: list[str], page: int, news: int, with_ids: bool
) -> None:
    """An answer holds the newest rows of all; whatever is lost between two answers must show."""
    trades = [{**trade(n, name), **({} if with_ids else {"id": None})} for n, name in enumerate(names)]
    split = max(1, len(trades) - news)
    first, second = trades[:split][-page:], trades[-page:]
    delivered = Delivered(0)
    delivered.take(first, LATER_NS)
    lost = trades[split : max(split, len(trades) - page)]
    joining = ContinuityCheck(delivered.marks, mixed=True)
    joining.add_page(second, LATER_NS)
    found = joining.possible_gaps()
    seen_before = {str(row["instrument"]) for row in first}
    shows = {str(row["instrument"]) for row in second} & seen_before
    several = len({row["instrument"] for row in second}) < len(second)
    if lost and shows and several:
        assert found
    if not lost and second[0]["time"] <= first[-1]["time"]:  # type: ignore[operator]
        assert not found


def test_lists_of_each_instrument_join_each_by_itself() -> None:
    before = [trade(1), trade(2), trade(3, "B")]
    after = [trade(2), trade(4), trade(8, "B"), trade(9, "B")]
    assert breaks(before, after, mixed=False) == {"B"}
    assert breaks(before, [*after, trade(3, "B")], mixed=False) == set()


def said(body: object, **given: object) -> str:
    """Return the sentence about an answer that is none, or the notes about one that is."""
    answer = HttpResponse("h", "application/json", json.dumps(body).encode(), None, 0, 0.0)
    feed = settings(**{"code": "code", "said": "msg", **given})
    try:
        return " ".join(page_of(answer, feed, RequestSubject(("A",))).notes)
    except RequestError as error:
        return f"{type(error).__name__}: {error}"


def test_an_unknown_code_is_success_only_with_rows_and_is_always_said() -> None:
    assert said({"code": "400100", "msg": "symbol does not exist", "d": None}) == (
        'InvalidResponseError: h responded with the code "400100" (symbol does not exist) and no rows; correct the'
        ' request, or list the codes for success in "success".'
    )
    assert said({"code": "400100", "msg": "no"}).startswith(
        'InvalidResponseError: h responded with the code "400100" (no)'
    )
    assert 'code "200000" counts as success' in said({"code": "200000", "d": [trade(1)]})
    assert said({"code": "0", "d": []}) == said({"code": 200, "d": []}) == said({"d": []}) == ""


def test_what_success_is_can_be_said() -> None:
    for success, code in (("200000", "200000"), (["0", "OK"], "OK"), (200000, 200000), (True, True)):
        assert said({"code": code, "d": []}, success=success) == ""
    assert said({"code": "400100", "d": [trade(1)]}, success="200000") == (
        'InvalidResponseError: h responded with the code "400100"; only 200000 means success.'
    )
    assert said({"code": 429, "d": []}, success="200000").startswith(LimitedError.__name__)
    assert said({"code": 0, "d": []}, success="200000").startswith(InvalidResponseError.__name__)
    with pytest.raises(ValidationError, match="path to the code"):
        settings(success="0")


def quotes(*prices: int, at_s: float = 0) -> list[dict[str, object]]:
    """Make rows without ids, all of one time."""
    return [{"time": round((NOW_S + at_s) * NS_PER_S), "price": price, "instrument": "A"} for price in prices]


@pytest.mark.parametrize(
    ("before", "after", "joins"),
    [
        ([1, 2, 3], [1, 2, 3], True),
        ([1, 2, 3], [1, 2, 3, 4], True),
        ([1, 2, 3], [2, 3, 4], False),  # the oldest left the page, so others may have
        ([1, 2, 3], [4, 5, 6], False),
        ([1, 2, 3], [2, 3], True),
    ],
)
def test_without_ids_a_page_that_begins_amid_ticks_of_one_time_joins_if_it_holds_all(
    before: list[int], after: list[int], joins: bool
) -> None:
    assert breaks(quotes(*before), quotes(*after), mixed=False) == (set() if joins else {"A"})
    later = quotes(9, at_s=1)
    assert breaks(quotes(*before), quotes(*after) + later, mixed=False) == (set() if {*before} <= {*after} else {"A"})


def test_without_ids_new_ticks_of_the_newest_time_are_told_by_their_content() -> None:
    delivered = Delivered(0)
    for page, new in (([1, 2, 3], [1, 2, 3]), ([2, 3, 4], [4]), ([4, 1], []), ([1, 1, 5], [1, 5])):
        assert [row["price"] for row in delivered.take(quotes(*page), LATER_NS).new] == new
    # After a restart only their number is known.
    again = Delivered(0, delivered.cursor())
    assert [row["price"] for row in again.take(quotes(1, 1, 2, 3, 4, 5, 6), LATER_NS).new] == [6]


def test_a_page_that_is_cut_off_is_a_gap_also_where_all_instruments_are_read() -> None:
    body = {"d": [trade(n, "AB"[n % 2], at_s=1) for n in range(10)]}
    rows = {"rows": "d", "time": "time", "price": "price", "id": "id", "instrument": "instrument"}
    given = {"query": {"since": "{since_ns}"}, "page_rows": 10, "instruments": [], "rows": rows}
    reading = polls(lambda *_: body, lambda session: bool(session.states) and session.states[-1].gaps >= 2, **given)
    assert completions(reading) == 0
    assert reading.states[-1].gap.startswith("Rows may be missing: there are more than one response contains")
