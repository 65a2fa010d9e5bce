"""Messages of one partition joined to what a shard takes at once."""

import polars as pl

from feed.kafka.message import NO_TICKS, SourceState, TickMessage
from flink_jobs.kafka_source import deliveries
from tests.bars.ticks import ticks


def message(first: int, rows: int, source: str | None, *, up_to: int, end: int, complete_ms: int = 0) -> TickMessage:
    table = ticks(*((n, "A", 1.0) for n in range(rows)), first_sequence=first) if rows else NO_TICKS
    sources = (SourceState("market", True, complete_ms, False),)
    return TickMessage(table.select(NO_TICKS.columns), first, up_to, end, source, sources)


def test_messages_of_one_source_are_one_delivery_that_ends_like_the_last_of_them() -> None:
    (one,) = deliveries(
        [
            message(1, 2, "market", up_to=5, end=9, complete_ms=1),
            message(5, 0, None, up_to=7, end=9, complete_ms=2),
            message(7, 1, "market", up_to=9, end=9, complete_ms=3),
        ]
    )
    assert one.ticks is not None
    assert one.ticks["sequence"].to_list() == [1, 2, 7]
    assert (one.first_sequence, one.next_sequence, one.caught_up, one.source) == (1, 9, True, "market")
    assert [source.complete_to_ms for source in one.sources] == [3]


def test_another_source_begins_another_delivery() -> None:
    found = [*deliveries([message(n, 1, f"file-{n // 2}", up_to=n + 1, end=5) for n in range(1, 5)])]
    assert [one.source for one in found] == ["file-0", "file-1", "file-2"]
    assert [one.next_sequence for one in found] == [2, 4, 5]
    assert pl.concat(one.ticks for one in found if one.ticks is not None)["sequence"].to_list() == [1, 2, 3, 4]


def test_a_word_without_ticks_is_a_delivery_too() -> None:
    (one,) = deliveries([message(4, 0, None, up_to=4, end=4)])
    assert (one.ticks, one.caught_up, one.next_sequence) == (None, True, 4)
    assert [*deliveries([])] == []
