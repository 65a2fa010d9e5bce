"""A poll that does not join the last one is a counted gap, and nothing is called complete by it."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st
from pydantic import ValidationError

from feed.connection.answer import Answer
from feed.connection.errors import BrokenAnswerError, LimitedError, QuestionError
from feed.providers.rest.answers import page_of
from feed.providers.rest.delivered import Delivered
from feed.providers.rest.joining import Joining
from feed.providers.rest.question import Asking
from feed.providers.rest.settings import RestFeed
from tests.feed.exchanges.rest_reading import Reading, reading
from tests.feed.exchanges.rest_server import Asked, Reply, standing_in

S_NS = 1_000_000_000
NOW_S = int(time.time()) - 600
LATER_NS = (NOW_S + 86_400) * S_NS


def settings(url: object = "https://feed.example", **given: object) -> RestFeed:
    rows = {"rows": "d", "time": "time", "price": "price", "id": "id"}
    usual = {
        "base_url": url, "rows": rows, "period_s": 0.1, "instruments": ["A"], "query": {"i": "{instrument}"},
        "start_back_s": 86_400,
    }  # fmt: skip
    return RestFeed.model_validate({**usual, **given})


def trade(number: int, name: str = "A", at_s: float | None = None) -> dict[str, object]:
    return {
        "time": round((NOW_S + (number / 100 if at_s is None else at_s)) * S_NS),
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

    with standing_in(answer) as server, reading(settings(server.url, **given)) as one:
        one.wait(lambda: until(one))
        return one


def completions(one: Reading) -> int:
    return sum(batch.complete_to_ms is not None for batch in one.batches)


def test_only_the_newest_rows_of_many_are_a_gap_and_never_complete() -> None:
    def newest_20_of_50_more(_: Asked, poll: int) -> object:
        return {"d": [trade(number) for number in range(50 * poll + 50, 50 * poll + 30, -1)]}

    one = polls(newest_20_of_50_more, lambda one: bool(one.states) and one.states[-1].gaps >= 3)
    assert completions(one) == 1  # the first poll, which has nothing to join
    assert "Rows of A may be missing between" in one.states[-1].sentence
    assert one.states[-1].gap
    assert len(one.ticks()) % 20 == 0


def test_newest_rows_that_overlap_are_complete() -> None:
    def newest_20_of_15_more(_: Asked, poll: int) -> object:
        return {"d": [trade(number) for number in range(15 * poll + 20, 15 * poll, -1)]}

    one = polls(newest_20_of_15_more, lambda one: completions(one) >= 3)
    assert one.states[-1].gaps == 0
    assert [tick[2] for tick in one.ticks()] == [float(1 + n) for n in range(1, len(one.ticks()) + 1)]


def test_a_full_page_since_a_time_is_followed_by_another_question() -> None:
    def from_time(question: Asked, _: int) -> object:
        since_ns = int(question.query["since"])
        return {"d": [one for one in (trade(n) for n in range(95)) if int(str(one["time"])) >= since_ns][:10]}

    query = {"i": "{instrument}", "since": "{since_ns}", "limit": "10"}
    one = polls(from_time, lambda one: completions(one) >= 1, query=query)
    assert len(one.ticks()) == 95
    assert one.states[-1].gaps == 0


def test_a_full_page_that_is_newest_first_and_begins_after_the_time_asked_for_is_a_gap() -> None:
    def newest_since(question: Asked, _: int) -> object:
        since_ns = int(question.query["since"])
        return {"d": [one for one in (trade(n) for n in range(95)) if int(str(one["time"])) >= since_ns][:-11:-1]}

    query = {"i": "{instrument}", "since": "{since_ns}", "limit": "10"}
    one = polls(newest_since, lambda one: completions(one) >= 1, query=query)
    assert len(one.ticks()) == 10
    assert one.states[-1].gaps >= 1
    assert "there are more than were read at once" in one.states[-1].sentence


def test_more_rows_of_one_time_than_a_page_holds_are_a_gap() -> None:
    body = {"d": [trade(n, at_s=1) for n in range(10)]}
    query = {"i": "{instrument}", "since": "{since_ns}"}
    one = polls(lambda *_: body, lambda one: bool(one.states) and one.states[-1].gaps >= 2, query=query, page_rows=10)
    assert completions(one) == 0
    assert "there are more than were read at once" in one.states[-1].sentence


def test_a_single_price_joins_nothing_and_is_no_gap() -> None:
    one = polls(lambda _, poll: {"d": [trade(poll)]}, lambda one: completions(one) >= 3)
    assert one.states[-1].gaps == 0


def breaks(before: list[dict[str, object]], after: list[dict[str, object]], *, mixed: bool) -> set[str]:
    delivered = Delivered(0)
    delivered.take(before, LATER_NS)
    joining = Joining(delivered.marks, mixed=mixed)
    joining.look(after, LATER_NS)
    return {one.instrument for one in joining.breaks()}


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
    joining = Joining(delivered.marks, mixed=True)
    joining.look(second, LATER_NS)
    found = joining.breaks()
    seen_before = {str(one["instrument"]) for one in first}
    shows = {str(one["instrument"]) for one in second} & seen_before
    several = len({one["instrument"] for one in second}) < len(second)
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
    answer = Answer("h", "application/json", json.dumps(body).encode(), None, 0, 0.0)
    feed = settings(**{"code": "code", "said": "msg", **given})
    try:
        return " ".join(page_of(answer, feed, Asking(("A",)), "").notes)
    except QuestionError as error:
        return f"{type(error).__name__}: {error}"


def test_an_unknown_code_is_success_only_with_rows_and_is_always_said() -> None:
    assert said({"code": "400100", "msg": "symbol does not exist", "d": None}) == (
        'BrokenAnswerError: h answered with the code "400100" (symbol does not exist) and no rows; correct what is'
        ' asked for, or name the codes of success in "success".'
    )
    assert said({"code": "400100", "msg": "no"}).startswith('BrokenAnswerError: h answered with the code "400100" (no)')
    assert 'code "200000" counts as success' in said({"code": "200000", "d": [trade(1)]})
    assert said({"code": "0", "d": []}) == said({"code": 200, "d": []}) == said({"d": []}) == ""


def test_what_success_is_can_be_said() -> None:
    for success, code in (("200000", "200000"), (["0", "OK"], "OK"), (200000, 200000), (True, True)):
        assert said({"code": code, "d": []}, success=success) == ""
    assert said({"code": "400100", "d": [trade(1)]}, success="200000") == (
        'BrokenAnswerError: h answered with the code "400100"; only 200000 is success.'
    )
    assert said({"code": 429, "d": []}, success="200000").startswith(LimitedError.__name__)
    assert said({"code": 0, "d": []}, success="200000").startswith(BrokenAnswerError.__name__)
    with pytest.raises(ValidationError, match="path to the code"):
        settings(success="0")
