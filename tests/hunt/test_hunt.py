"""A short hunt in each kind finds nothing, and the hunt shows what there is to find."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.hunt.__main__ import Part, hunt, is_clean, parts, table
from tests.hunt.bars import Trade, bar_differences
from tests.hunt.kinds import KINDS
from tests.hunt.result import Found, compared, in_order
from tests.support.ticks import START_MS, ticks


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_hunt_finds_nothing(kind: str) -> None:
    found = KINDS[kind](200, 1)
    assert (found.differences, found.lost) == ((), ())
    assert found.rows >= 100


def test_every_problem_is_counted_and_shown_with_its_call(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(rows: int, _: int) -> Found:
        return Found(rows, ("7 is not 8",), ("9 is missing",))

    def broken(_: int, __: int) -> Found:
        raise ValueError("unforeseen")

    kinds: dict[str, Callable[[int, int], Found]] = {"wrong": wrong, "broken": broken, "good": lambda r, _: Found(r)}
    with ThreadPoolExecutor(1) as executor:
        lines = hunt(list(parts(list(kinds), 9_000, 5)), kinds, executor)
        good = hunt([Part("good", 10, 0)], kinds, executor)
    assert [line.split() for line in table(lines, 5).splitlines()[1:]] == [
        ["wrong", "3,000", "2", "2", "0", "5"],
        ["broken", "0", "0", "0", "2", "5"],
        ["good", "3,000", "0", "0", "0", "5"],
        ["all", "6,000", "2", "2", "2", "5"],
    ]
    said = capsys.readouterr().out
    assert "python -m tests.hunt --kind wrong --rows 500 --seed 6\n    9 is missing\n" in said
    assert "--kind broken --rows 2500 --seed 5\n    ValueError: unforeseen\n" in said
    assert (is_clean(lines), is_clean(good)) == (False, True)


def test_what_is_missing_wrong_or_out_of_order_is_found() -> None:
    assert compared(2, "x", [1, 1, 2], [1, 3]) == Found(2, ("x: too much: 3",), ("x: missing: 1", "x: missing: 2"))
    assert in_order(2, "x", [1, 2], [1, 2]) == Found(2)
    assert in_order(2, "x", [1, 2], [2, 1]) == Found(2, ("x: position 0 holds 2, not 1",))


def test_a_wrong_bar_is_found() -> None:
    table = ticks((0, "A", 10.0, 1.0), (0, "A", 12.0, 3.0))
    trades = [(Decimal(10), Decimal(1)), (Decimal(12), Decimal(3))]
    right = [Trade(START_MS * 10**6, "A", price, volume, place) for place, (price, volume) in enumerate(trades)]
    assert list(bar_differences(right, table)) == []
    turned = [Trade(trade.time_ns, "A", trade.price, trade.volume, -trade.place) for trade in right]
    problems = [text.split(": ")[1] for text in bar_differences(turned, table)]
    assert problems[:2] == ["open is 10.0, not 12", "close is 12.0, not 10"]
    assert any("ticks is 2, not 1" in text for text in bar_differences(right[:1], table))
