"""Rows of messages, fetched pages and ccxt: in the source's order, never complete where a page was cut off."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from barmill.ingest.connection.instrument_stream import BackfillRequest, InstrumentStream, Row
from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.ingest.providers.ccxt.history import rows_of
from barmill.ingest.providers.websocket.fetcher import _next_request
from barmill.ingest.providers.websocket.messages import ordered_rows
from barmill.ingest.providers.websocket.ready_made import KRAKEN
from barmill.ingest.providers.websocket.settings import Backfill
from barmill.platform.clock import NS_PER_MS

T_MS = 1_764_140_400_000


def row(offset_ms: int, price: int, row_id: object = None) -> dict[str, object]:
    return {"time": (T_MS + offset_ms) * NS_PER_MS, "instrument": "A", "price": price, "id": row_id}


def prices(rows: Sequence[Row]) -> list[object]:
    return [row.values["price"] for row in rows]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=10), st.booleans(), st.sampled_from([None, "text"]))
@at_most(max_examples=150, deadline=None)
def test_a_message_keeps_the_order_of_its_source(offsets: list[int], newest_first: bool, ids: str | None) -> None:
    """Ids of text order nothing; their hashes once did."""
    made = [
        row(offset, n, None if ids is None else f"{(n * 7919) % 101:x}-{n}")
        for n, offset in enumerate(sorted([*offsets, 9]))
    ]
    (found,) = ordered_rows([made[::-1] if newest_first else made], rising=False)
    assert prices(found.rows) == list(range(len(made)))


def test_rows_of_one_time_and_message_stay_as_they_were_sent() -> None:
    sent = [row(0, n, row_id) for n, row_id in enumerate(("c3", "a1", "f0"))]
    assert prices(ordered_rows([sent], rising=False)[0].rows) == [0, 1, 2]
    consecutive = [row(0, n, row_id) for n, row_id in enumerate((10, 9, 11))]
    assert prices(ordered_rows([consecutive], rising=True)[0].rows) == [1, 0, 2]


@pytest.mark.parametrize("field", ["time", "instrument"])
def test_a_row_without_a_time_or_a_name_goes_on_to_be_a_reject(field: str) -> None:
    (found,) = ordered_rows([[row(0, 1), {**row(1, 2), field: None}]], rising=False)
    assert (prices(found.rows), [row["price"] for row in found.unusable]) == ([1], [2])


def test_what_was_fetched_goes_before_what_was_live_at_the_same_time() -> None:
    stream = InstrumentStream("A", consecutive=False, since_ns=T_MS * NS_PER_MS)
    stream.on_reconnected(hold=True)
    live, fetched = row(5, 2, "b"), row(5, 1, "a")
    assert stream.take(Row((T_MS + 5) * NS_PER_MS, "b", live)) == []
    assert stream.take(Row((T_MS + 5) * NS_PER_MS, "a", fetched, backfilled=True)) == []
    assert prices(stream.on_filled()) == [1, 2]


def test_a_stream_of_an_earlier_version_knows_the_ids_that_it_kept_as_numbers() -> None:
    from barmill.ingest.identity import hash_id

    kept = {"newest_ns": T_MS * NS_PER_MS, "recent": [hash_id("x-1"), 17]}
    stream = InstrumentStream.of_state("A", kept, consecutive=False)
    taken = [stream.take(Row(T_MS * NS_PER_MS, row_id, row(0, 1, row_id))) for row_id in ("x-1", "17", "x-2")]
    assert [len(rows) for rows in taken] == [0, 0, 1]


def trade(offset_ms: int, row_id: str | None) -> dict[str, object]:
    return {"id": row_id, "timestamp": T_MS + offset_ms, "price": 1.5, "amount": 1}


@pytest.mark.parametrize(
    ("ids", "fetched", "expected"),
    [
        (["10", "11", "9"], True, ["9", "10", "11"]),  # ccxt sorts ids as texts
        (["b", "c", "a"], True, ["b", "c", "a"]),
        (["10", "11", "9"], False, ["10", "11", "9"]),
    ],
)
def test_trades_of_ccxt_of_one_time(ids: list[str], fetched: bool, expected: list[str]) -> None:
    found = rows_of([trade(0, row_id) for row_id in ids], "A", consecutive=False, fetched=fetched)
    assert [row.id for row in found] == [row.values["id"] for row in found] == expected


def backfill(by: str) -> Backfill:
    rows = RowMapping(time="time", price="price", id="id")
    return Backfill.model_validate({"url": "https://h.example", "by": by, "rows": rows, "page": 3})


def page(*offsets: int, first_id: int = 1) -> list[dict[str, object]]:
    return [row(offset, 1, first_id + n) for n, offset in enumerate(offsets)]


@pytest.mark.parametrize(
    ("by", "ask", "rows", "goes_on", "whole"),
    [
        ("from_time", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(0, 1), False, True),
        ("from_time", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(0, 1, 2), True, True),
        # A full page of one time: what follows cannot be asked for.
        ("from_time", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(0, 0, 0), False, False),
        # Newest first: it is not what followed on the time asked for.
        ("from_time", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(9, 8, 7), False, False),
        ("from_time", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(9, 8, 0), False, True),
        ("from_id", BackfillRequest("A", 1, 3, None), page(0, 1, 2), False, True),
        ("from_id", BackfillRequest("A", 1, 9, None), page(0, 1, 2), True, True),
        ("from_id", BackfillRequest("A", 7, 9, None), page(0, 1, 2), False, False),
        ("before_id", BackfillRequest("A", 1, 9, None), page(2, 1, 0), False, True),
        ("before_id", BackfillRequest("A", 1, 9, None), page(2, 1, 0, first_id=5), True, True),
        ("before_id", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(2, 1, 1), False, False),
        ("before_id", BackfillRequest("A", None, None, T_MS * NS_PER_MS), page(2, 1, 0), False, True),
    ],
)
def test_a_full_page_is_another_question_or_a_gap(
    by: str, ask: BackfillRequest, rows: list[dict[str, object]], goes_on: bool, whole: bool
) -> None:
    next_request, found = _next_request(backfill(by), ask, rows)
    assert (next_request is not None, found) == (goes_on, whole)


def test_an_archive_that_answers_with_an_error_has_not_answered_that_there_is_nothing() -> None:
    assert KRAKEN.backfill is not None
    from barmill.ingest.providers.websocket.messages import matches

    error = {"error": ["EQuery:Unknown asset pair"], "result": {}}
    assert any(matches(error, match) for match in KRAKEN.backfill.errors)
    assert not any(matches({"error": [], "result": {}}, match) for match in KRAKEN.backfill.errors)
