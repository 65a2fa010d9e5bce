"""Progress never runs ahead of the bars that it speaks of."""

from dataclasses import replace

from bar.kafka.held_progress import HeldProgress
from tests.bars.test_store import PROGRESS

BARS, TOLD = ("bars", 0), ("progress", 0)


def test_a_word_waits_until_the_bars_before_it_are_read() -> None:
    held = HeldProgress()
    assert not held.asks_for_ends
    held.arrive([PROGRESS], {TOLD: 4})
    assert held.asks_for_ends
    held.hold_until({BARS: 10, ("bars", 1): 0})
    assert held.due({}) == ([], {})
    assert held.due({BARS: 9}) == ([], {})
    assert held.due({BARS: 10}) == ([PROGRESS], {TOLD: 4})
    assert held.due({BARS: 10}) == ([], {})


def test_later_words_wait_for_later_bars() -> None:
    held, later = HeldProgress(), replace(PROGRESS, next_sequence=99)
    held.arrive([PROGRESS], {TOLD: 1})
    held.hold_until({BARS: 5})
    held.arrive([later], {TOLD: 2})
    assert not held.asks_for_ends
    assert held.due({BARS: 6}) == ([PROGRESS], {TOLD: 1})
    assert held.asks_for_ends
    held.hold_until({BARS: 7})
    assert held.due({BARS: 7}) == ([later], {TOLD: 2})


def test_of_one_shard_the_last_word_counts() -> None:
    held, other = HeldProgress(), replace(PROGRESS, shard=1)
    held.arrive([PROGRESS, other], {TOLD: 2})
    held.arrive([replace(PROGRESS, read=7)], {TOLD: 3})
    held.hold_until({})
    assert held.due({}) == ([replace(PROGRESS, read=7), other], {TOLD: 3})
