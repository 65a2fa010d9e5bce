"""Progress never runs ahead of the bars that it speaks of."""

from dataclasses import replace

from barmill.kafka.materialiser import HeldProgress
from tests.support.store import PROGRESS

BARS, PROGRESS_TOPIC = ("bars", 0), ("progress", 0)


def test_a_word_waits_until_the_bars_before_it_are_read() -> None:
    held = HeldProgress()
    assert not held.needs_ends
    held.add([PROGRESS], {PROGRESS_TOPIC: 4})
    assert held.needs_ends
    held.hold_until({BARS: 10, ("bars", 1): 0})
    assert held.release({}) == ([], {})
    assert held.release({BARS: 9}) == ([], {})
    assert held.release({BARS: 10}) == ([PROGRESS], {PROGRESS_TOPIC: 4})
    assert held.release({BARS: 10}) == ([], {})


def test_later_words_wait_for_later_bars() -> None:
    held, later = HeldProgress(), replace(PROGRESS, next_sequence=99)
    held.add([PROGRESS], {PROGRESS_TOPIC: 1})
    held.hold_until({BARS: 5})
    held.add([later], {PROGRESS_TOPIC: 2})
    assert not held.needs_ends
    assert held.release({BARS: 6}) == ([PROGRESS], {PROGRESS_TOPIC: 1})
    assert held.needs_ends
    held.hold_until({BARS: 7})
    assert held.release({BARS: 7}) == ([later], {PROGRESS_TOPIC: 2})


def test_of_one_shard_the_last_word_counts() -> None:
    held, other = HeldProgress(), replace(PROGRESS, shard=1)
    held.add([PROGRESS, other], {PROGRESS_TOPIC: 2})
    held.add([replace(PROGRESS, read=7)], {PROGRESS_TOPIC: 3})
    held.hold_until({})
    assert held.release({}) == ([replace(PROGRESS, read=7), other], {PROGRESS_TOPIC: 3})
