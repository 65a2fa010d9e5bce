"""What Flink state holds: new cursors are JSON, old pickles are read, and nothing else is ever loaded."""

import base64
import os
import pickle

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flink_jobs.publication import to_bytes
from flink_jobs.shard import Cursor
from flink_jobs.state import StateBytes, StateError, cursor_from_bytes, cursor_to_bytes

# Made by the version before: pickle.dumps(Cursor(1234, 567, 8, None, False, "1s,1m", 300000, {...})).
OLD = base64.b64decode(
    "gASVtAAAAAAAAACMEGZsaW5rX2pvYnMuc2hhcmSUjAZDdXJzb3KUk5QpgZR9lCiMDW5leHRfc2VxdWVuY2WUTdIEjARyZWFklE03AowEbGF0ZZRLCIwO"
    "Y29tcGxldGVfdG9fbXOUTowFZmluYWyUiYwGZnJhbWVzlIwFMXMsMW2UjAtsYXRlbmVzc19tc5RK4JMEAIwLY29tcGxldGVfdG+UfZQojACUigYAaOXP"
    "iwGMB2tyYWtlbjqUTnV1Yi4="
)


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("/nonexistent/made-by-a-pickle",)


def test_a_pickled_cursor_of_an_earlier_version_is_read() -> None:
    cursor = cursor_from_bytes(OLD)
    assert cursor == Cursor(1234, 567, 8, None, False, "1s,1m", 300_000, {"": 1_700_000_000_000, "kraken:": None})
    assert (cursor.published, cursor.epoch) == (0, None)


def test_bytes_are_kept_as_they_are_and_read_as_an_earlier_version_wrote_them() -> None:
    state = StateBytes()
    table = to_bytes(pl.DataFrame({"a": [1, 2]}))
    for value in (None, b"", table, cursor_to_bytes(Cursor())):
        assert state.to_internal(state.to_external(value)) == value
    for value in (b"", table, OLD):
        assert state.to_internal(pickle.dumps(value)) == value
    assert cursor_from_bytes(state.to_internal(pickle.dumps(OLD)) or b"").next_sequence == 1_234


@pytest.mark.parametrize("value", [_Runs(), print, [1], "text"])
def test_no_other_pickle_is_loaded_from_a_state(value: object) -> None:
    with pytest.raises(StateError, match="is not loaded"):
        StateBytes().to_internal(pickle.dumps(value))
    with pytest.raises(StateError):
        StateBytes().to_internal(pickle.dumps(value)[:-3])


@settings(max_examples=30)
@given(
    st.builds(
        Cursor,
        next_sequence=st.integers(1, 2**62),
        complete_to=st.none() | st.dictionaries(st.text(), st.none() | st.integers(-(2**62), 2**62)),
        epoch=st.none() | st.text(),
    )
)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    assert cursor_from_bytes(cursor_to_bytes(cursor)) == cursor


@pytest.mark.parametrize("value", [_Runs(), print, [1], {"v": 1}, "text"])
def test_no_other_pickle_is_loaded(value: object) -> None:
    with pytest.raises(StateError, match="is not loaded"):
        cursor_from_bytes(pickle.dumps(value))


@settings(max_examples=50)
@given(st.binary())
@example(b"\x96\x00\x00\x00\x00\x00\x00\x00\x01")  # a length that no memory holds
def test_any_other_bytes_are_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(StateError):
        cursor_from_bytes(data)


@pytest.mark.parametrize("data", [b"{", b'{"v": 2}', b'{"v": 1, "unknown": 1}', OLD[:-20]])
def test_damaged_or_later_state_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(StateError):
        cursor_from_bytes(data)
