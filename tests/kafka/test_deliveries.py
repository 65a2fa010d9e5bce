"""Messages of one partition joined to what a shard takes at once."""

import polars as pl

from barmill.kafka.messages import NO_TICKS, SourceState, TickMessage
from flink_jobs.sources import deliveries
from tests.support.ticks import ticks


def message(first: int, rows: int, source: str | None, *, up_to: int, end: int, complete_ms: int = 0) -> TickMessage:
    table = ticks(*((n, "A", 1.0) for n in range(rows)), first_sequence=first) if rows else NO_TICKS
    sources = (SourceState("market", True, complete_ms, False),)
    return TickMessage(table.select(NO_TICKS.columns), first, up_to, end, source, sources)


def test_messages_of_one_source_are_one_delivery_that_ends_like_the_last_of_them() -> None:
    (delivery,) = deliveries(
        [
            message(1, 2, "market", up_to=5, end=9, complete_ms=1),
            message(5, 0, None, up_to=7, end=9, complete_ms=2),
            message(7, 1, "market", up_to=9, end=9, complete_ms=3),
        ]
    )
    assert delivery.ticks is not None
    assert delivery.ticks["sequence"].to_list() == [1, 2, 7]
    assert (delivery.first_sequence, delivery.next_sequence, delivery.caught_up, delivery.source) == (
        1,
        9,
        True,
        "market",
    )
    assert [source.complete_to_ms for source in delivery.sources] == [3]


def test_another_source_begins_another_delivery() -> None:
    found = [*deliveries([message(n, 1, f"file-{n // 2}", up_to=n + 1, end=5) for n in range(1, 5)])]
    assert [delivery.source for delivery in found] == ["file-0", "file-1", "file-2"]
    assert [delivery.next_sequence for delivery in found] == [2, 4, 5]
    assert pl.concat(delivery.ticks for delivery in found if delivery.ticks is not None)["sequence"].to_list() == [
        1,
        2,
        3,
        4,
    ]


def test_a_word_without_ticks_is_a_delivery_too() -> None:
    (delivery,) = deliveries([message(4, 0, None, up_to=4, end=4)])
    assert (delivery.ticks, delivery.caught_up, delivery.next_sequence) == (None, True, 4)
    assert [*deliveries([])] == []
