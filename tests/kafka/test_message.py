"""The messages of the topic of ticks."""

import io

import polars as pl
import pytest

from barmill.kafka.messages import NO_TICKS, MessageError, SourceState, TickMessage, decode, encode
from tests.support.ticks import ticks

SOURCES = (SourceState("market", True, 1_700_000_000_000, False), SourceState("old", False, None, True))


def message(rows: pl.DataFrame) -> TickMessage:
    return TickMessage(rows, 7, 20, 23, "market", SOURCES)


def test_a_message_gives_back_what_was_packed() -> None:
    packed = message(ticks((0, "A", 1.5, 2.5, 4), (1, "Ä", 2.5)).with_columns(sequence=pl.Series([8, 19])))
    unpacked = decode(encode(packed))
    assert unpacked.ticks.select("sequence", "instrument", "volume", "id").rows() == [
        (8, "A", 2.5, 4),
        (19, "Ä", None, None),
    ]
    assert unpacked.ticks.equals(packed.ticks.select(unpacked.ticks.columns))
    assert (unpacked.first_sequence, unpacked.next_sequence, unpacked.end_sequence) == (7, 20, 23)
    assert (unpacked.source, unpacked.sources) == ("market", SOURCES)
    assert not unpacked.caught_up


def test_a_message_without_ticks_still_says_how_the_log_stands() -> None:
    unpacked = decode(encode(TickMessage(NO_TICKS, 20, 23, 23, None, SOURCES)))
    assert unpacked.ticks.equals(NO_TICKS)
    assert unpacked.sources == SOURCES
    assert unpacked.caught_up


def test_any_reader_of_arrow_opens_a_message_as_it_is() -> None:
    rows = ticks((0, "A", 1.5), (1, "B", 2.5))
    opened = pl.read_ipc_stream(io.BytesIO(encode(message(rows))))
    assert opened["sequence"].to_list() == rows["sequence"].to_list()


@pytest.mark.parametrize("value", [b"", b"{}", b'{"time": 1, "instrument": "A", "price": 2}', bytes(4096)])
def test_what_others_put_there_is_refused(value: bytes) -> None:
    with pytest.raises(MessageError, match="another program"):
        decode(value)


def test_a_later_version_asks_for_an_update() -> None:
    value = encode(message(NO_TICKS)).replace(b'"v":1', b'"v":2')
    with pytest.raises(MessageError, match="update Barmill"):
        decode(value)
