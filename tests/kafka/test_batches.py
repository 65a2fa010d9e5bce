"""Which messages each shard gets."""

import polars as pl

from barmill.kafka.messages import TickMessage
from barmill.kafka.shipper import MAX_ROWS_PER_MESSAGE, QUIET_SEND_EVERY_MS, SEND_EVERY_MS, Batches
from barmill.model.progress import shard_of
from barmill.storage.tick_log import Backlog, Source
from tests.support.ticks import ticks

SHARDS = 4
A, B = "A", "B"


def source(complete_to_ms: int = 0, *, ended: bool = False) -> Source:
    return Source("one", None, True, complete_to_ms, ended, 0, 0, 0, None, 0)


def backlog(*names: str, first: int = 1, behind: int = 0, of: Source | None = None) -> Backlog:
    table = ticks(*((n, name, 1.0 + n) for n, name in enumerate(names))).drop("sequence") if names else None
    return Backlog(first, table, "one" if names else None, (of or source(),), first + len(names) + behind)


def shards_of(messages: list[tuple[int, TickMessage]]) -> list[int]:
    return [shard for shard, _ in messages]


def test_ticks_go_to_their_shard_with_the_sequence_they_have_in_the_log() -> None:
    assert shard_of(A, SHARDS) != shard_of(B, SHARDS)
    messages = Batches(SHARDS).messages(backlog(A, B, A, first=7, behind=5), 0)
    with_ticks = {shard: message for shard, message in messages if message.ticks.height}
    assert {shard: message.ticks["sequence"].to_list() for shard, message in with_ticks.items()} == {
        shard_of(A, SHARDS): [7, 9],
        shard_of(B, SHARDS): [8],
    }
    for message in with_ticks.values():
        assert (message.first_sequence, message.next_sequence, message.end_sequence) == (7, 10, 15)
        assert (message.source, message.caught_up) == ("one", False)


def test_at_first_every_shard_hears_how_the_log_stands() -> None:
    messages = Batches(SHARDS).messages(backlog(A), 0)
    assert shards_of(messages) == [0, 1, 2, 3]
    assert [message.source for _, message in messages if not message.ticks.height] == [None, None, None]


def test_a_quiet_shard_hears_of_news_in_time_and_of_nothing_once_a_second() -> None:
    batches = Batches(SHARDS)
    batches.messages(backlog(), 0)
    assert batches.messages(backlog(of=source(1)), QUIET_SEND_EVERY_MS - 1) == []
    assert shards_of(batches.messages(backlog(of=source(1)), QUIET_SEND_EVERY_MS)) == [0, 1, 2, 3]
    later_ms = QUIET_SEND_EVERY_MS + SEND_EVERY_MS
    assert batches.messages(backlog(of=source(1)), later_ms - 1) == []
    assert batches.next_due_ms(later_ms - 1) == 1
    assert shards_of(batches.messages(backlog(of=source(1)), later_ms)) == [0, 1, 2, 3]


def test_a_shard_with_ticks_is_not_told_twice() -> None:
    batches = Batches(SHARDS)
    batches.messages(backlog(), 0)
    assert shards_of(batches.messages(backlog(A), QUIET_SEND_EVERY_MS - 1)) == [shard_of(A, SHARDS)]
    others = [shard for shard in range(SHARDS) if shard != shard_of(A, SHARDS)]
    assert shards_of(batches.messages(backlog(first=2), QUIET_SEND_EVERY_MS)) == others


def test_only_the_last_piece_of_a_large_part_tells_where_the_batch_ends() -> None:
    names = [A] * (MAX_ROWS_PER_MESSAGE + 1) + [B]
    pieces = [
        message for shard, message in Batches(SHARDS).messages(backlog(*names), 0) if shard == shard_of(A, SHARDS)
    ]
    assert [piece.ticks.height for piece in pieces] == [MAX_ROWS_PER_MESSAGE, 1]
    assert [piece.next_sequence for piece in pieces] == [MAX_ROWS_PER_MESSAGE + 1, MAX_ROWS_PER_MESSAGE + 3]
    assert [piece.caught_up for piece in pieces] == [False, True]
    assert pl.concat(piece.ticks for piece in pieces)["sequence"].is_sorted()
