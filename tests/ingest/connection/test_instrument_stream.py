"""Gaps by id, what is held until they are filled, and what continues without."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.ingest.connection.instrument_stream import BackfillRequest, InstrumentStream, Row
from barmill.ingest.identity import Hole, Ids, hash_id, id_of


def row(number: int | None, at: int | None = None, *, backfilled: bool = False) -> Row:
    return Row(at if at is not None else (number or 0) * 10, number, {}, backfilled)


def numbers(rows: list[Row]) -> list[int | str | None]:
    return [row.id for row in rows]


def stream_after(*ids: int, consecutive: bool = True) -> InstrumentStream:
    stream = InstrumentStream("A", consecutive=consecutive)
    for number in ids:
        stream.take(row(number))
    return stream


@given(st.lists(st.integers(0, 60), max_size=60))
def test_stretches_are_the_set_of_what_was_added(added: list[int]) -> None:
    ids = Ids()
    for number in added:
        ids.add(number)
    assert [number for number in range(62) if number in ids] == sorted(set(added))
    missing = {number for hole in ids.holes() for number in range(hole.first, hole.last + 1)}
    assert missing == (set(range(min(added), max(added))) - set(added) if added else set())
    assert ids.newest == max(added, default=None)


def test_of_very_many_holes_the_oldest_is_forgotten() -> None:
    ids = Ids()
    for number in range(0, 500, 2):
        ids.add(number)
    assert len(ids.ranges) == 200
    assert 1 in ids
    assert ids.holes()[-1] == Hole(497, 497)


@pytest.mark.parametrize("order", list(permutations([4, 5, 6, 7])))
def test_ids_in_any_order_go_on_in_order_and_once(order: tuple[int, ...]) -> None:
    stream = stream_after(3)
    out = [number for arriving in (*order, *order) for number in numbers(stream.take(row(arriving)))]
    assert out == [4, 5, 6, 7]
    assert not stream.waiting


def test_after_a_reconnect_what_is_live_waits_for_what_is_fetched() -> None:
    stream = stream_after(1, 2, 3)
    stream.on_reconnected(hold=True)
    assert stream.take(row(8)) == []
    assert stream.next_request() == BackfillRequest("A", 4, None, 30)
    assert numbers([r for n in (3, 4, 5) for r in stream.take(row(n, backfilled=True))]) == [4, 5]
    assert stream.on_filled() == []
    assert stream.waiting  # 6 and 7 had not been there yet when they were asked for
    assert stream.next_request() == BackfillRequest("A", 6, 7, 50)
    assert numbers([r for n in (7, 6) for r in stream.take(row(n, backfilled=True))]) == [6, 7, 8]
    assert not stream.waiting
    assert stream.next_request() is None


def test_what_cannot_be_fetched_leaves_a_hole_that_may_still_be_filled() -> None:
    stream = stream_after(1, 2)
    stream.take(row(6))
    assert numbers(stream.release()) == [6]
    assert stream.missing == 3
    assert stream.next_request() == BackfillRequest("A", 3, 5, 20)
    assert numbers(stream.take(row(4, backfilled=True))) == [4]
    assert stream.missing == 2


def test_a_restart_goes_on_from_what_was_delivered() -> None:
    stream = stream_after(1, 2)
    stream.take(row(6))
    stream.release()
    again = InstrumentStream.of_state("A", stream.state(), consecutive=True)
    assert again.take(row(6)) == []
    assert again.next_request() == BackfillRequest("A", 3, 5, 20)
    assert numbers(again.take(row(7))) == [7]


def test_an_older_history_that_comes_after_a_live_tick_is_not_lost() -> None:
    stream = stream_after(101)
    assert numbers([r for n in (99, 100, 101) for r in stream.take(row(n))]) == [99, 100]


def test_a_gap_before_the_first_tick_is_filled_from_when_it_was_watched() -> None:
    stream = InstrumentStream("A", consecutive=True, since_ns=45)
    stream.on_reconnected(hold=True)
    assert stream.next_request() == BackfillRequest("A", None, None, 45)
    for number in (4, 5, 6):
        assert stream.take(row(number, backfilled=True)) == []
    assert numbers(stream.on_filled()) == [5, 6]


def test_ids_that_are_only_names_drop_repeats_and_hold_by_time() -> None:
    stream = InstrumentStream("A", consecutive=False)
    assert numbers(stream.take(row(77, 10)) + stream.take(row(5, 20)) + stream.take(row(77, 10))) == [77, 5]
    stream.on_reconnected(hold=True)
    assert stream.take(row(9, 50)) == []
    for number, at in ((77, 10), (5, 20), (30, 20), (8, 40)):
        stream.take(row(number, at, backfilled=True))
    assert numbers(stream.on_filled()) == [30, 8, 9]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["7", "x"]), st.integers(1, 30), st.sampled_from([1, 2])), max_size=16))
def test_an_id_that_comes_again_swallows_nothing(sent: list[tuple[str, int, int]]) -> None:
    stream, taken = InstrumentStream("A", consecutive=False), list[tuple[int | str | None, int, object]]()
    for row_id, at, price in [*sent, *sent]:
        row = Row(at * 1_000_000_001, row_id, {"price": price})
        taken += [
            (taken_row.id, taken_row.time_ns // 1_000_000_001, taken_row.values["price"])
            for taken_row in stream.take(row)
        ]
    assert taken == list(dict.fromkeys(sent))


def test_a_repeat_of_another_precision_is_one() -> None:
    stream = InstrumentStream("A", consecutive=False)
    assert len(stream.take(Row(1_700_000_000_123_456_789, "7", {"price": "1.50"}))) == 1
    assert stream.take(Row(1_700_000_000_123_000_000, "7", {"price": 1.5}, backfilled=True)) == []
    again = InstrumentStream.of_state("A", stream.state(), consecutive=False)
    assert again.take(Row(1_700_000_000_123_456_789, "7", {"price": "1.50"})) == []
    assert len(again.take(Row(1_700_000_000_123_456_789, "7", {"price": "1.51"}))) == 1


@pytest.mark.parametrize("first", [1, 101])
def test_a_counter_that_starts_again_swallows_nothing(first: int) -> None:
    stream = stream_after(*range(first, first + 200))
    newest_ns = stream.newest_ns or 0
    again = [Row(newest_ns + number * 1_000_000_001, number, {}) for number in range(1, 300)]
    assert [row for taken_row in again for row in stream.take(taken_row)] == again
    assert stream.take(row(150)) == []  # a repeat is no newer than what was delivered
    assert stream.missing == 0


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 60), st.integers(0, 3))
def test_a_counter_that_starts_again_is_not_counted_as_missing(first: int, before: int, after: int, held: int) -> None:
    """Wherever it began, however far it comes again, and also while ticks wait for missing ones."""
    stream = stream_after(*range(first, first + before))
    newest_ns = (first + before) * 10
    waiting = [Row(newest_ns + 1_000_000_001 * n, first + before + n, {}) for n in range(1, 1 + held)]
    assert [row for taken_row in waiting for row in stream.take(taken_row)] == []
    newest_ns += 10_000_000_000
    again = [Row(newest_ns + n * 1_000_000_001, n, {}) for n in range(1, 1 + min(after, first + before - 1))]
    assert [row for taken_row in again for row in stream.take(taken_row)] == waiting + again
    assert stream.missing == 0
    assert not stream.waiting


def test_a_late_tick_is_no_counter_that_starts_again() -> None:
    stream = stream_after(11, 12)
    stream.take(row(16))
    stream.release()
    assert numbers(stream.take(row(14))) == [14]
    assert numbers(stream.take(row(5))) == [5]
    assert stream.missing == 7


def test_after_a_restart_a_history_that_repeats_is_dropped_and_late_ticks_are_not() -> None:
    stream = stream_after(*range(1, 60), consecutive=False)
    again = InstrumentStream.of_state("A", stream.state(), consecutive=False)
    again.on_reconnected(hold=False)
    assert numbers([r for n in range(10, 62) for r in again.take(row(n))]) == [60, 61]
    assert numbers(again.take(row(7_000, 580))) == [7_000]


def test_without_ids_only_what_is_newer_is_taken_from_a_fetch() -> None:
    stream = InstrumentStream("A", consecutive=False)
    assert len(stream.take(row(None, 10)) + stream.take(row(None, 10))) == 2
    stream.on_reconnected(hold=True)
    for at in (10, 11, 12):
        stream.take(row(None, at, backfilled=True))
    stream.take(row(None, 13))
    assert [row.time_ns for row in stream.on_filled()] == [11, 12, 13]


def test_ids_are_numbers_of_63_bits_whatever_the_provider_calls_its_ticks() -> None:
    uid = "8b3e7e72-950c-4c4e-8ab8-24aebcab80d2"
    assert hash_id(uid) == hash_id(uid)
    assert 0 <= hash_id(uid) < 2**63
    assert hash_id(uid) != hash_id(uid[:-1] + "3")
    assert [id_of(value) for value in (None, 7, "007", " ", uid)] == [None, 7, 7, None, hash_id(uid)]
    assert id_of(str(2**63)) == hash_id(str(2**63))
