"""Open bars: forming, closing, late ticks, settling, and going on after a restart."""

from itertools import chain

import polars as pl
import pytest

from barmill.platform.clock import NS_PER_MS
from flink_jobs.open_bars import OpenBars
from tests.support.open_bars import BAR_KEY, late_sequences, open_bars
from tests.support.ticks import START_MS, ticks


@pytest.fixture(autouse=True, params=["in plain Python", "by queries"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fold few ticks either way."""
    if request.param == "by queries":
        monkeypatch.setattr("flink_jobs.open_bars._FEW_TICKS", -1)
    return str(request.param)


def published(
    bars: OpenBars, table: pl.DataFrame, complete_to_ms: int | None = None
) -> list[tuple[str, int, bool, int]]:
    """Add ticks and return (instrument, seconds after START_MS, closed, ticks) of what is to be published."""
    added = bars.add(table)
    changed = bars.changed(added.partials, {"": complete_to_ms}).sort(BAR_KEY)
    return [
        (row["instrument"], (row["start_ms"] - START_MS) // 1_000, row["closed"], row["ticks"])
        for row in changed.iter_rows(named=True)
    ]


def test_a_bar_forms_and_closes_when_its_instrument_passes_end_and_allowance() -> None:
    bars = open_bars()
    assert published(bars, ticks((100, "A", 1.0))) == [("A", 0, False, 1)]
    assert published(bars, ticks((1_400, "A", 1.0))) == [("A", 1, False, 1)]
    # 1,500 ms is the end of second 0 plus the allowance.
    assert published(bars, ticks((1_500, "A", 1.0))) == [("A", 0, True, 1), ("A", 1, False, 2)]
    assert bars.forming == 1


def test_another_instrument_does_not_close_it() -> None:
    bars = open_bars()
    published(bars, ticks((100, "A", 1.0)))
    assert published(bars, ticks((60_000, "B", 1.0))) == [("B", 60, False, 1)]


def test_a_quiet_instrument_closes_when_the_source_is_complete() -> None:
    bars = open_bars()
    published(bars, ticks((100, "A", 1.0)))
    nothing = bars.add(ticks((200, "A", 1.0))).partials.clear()
    assert bars.changed(nothing, {"": START_MS + 1_499}).height == 0
    assert bars.changed(nothing, {"": START_MS + 1_500})["closed"].to_list() == [True]
    assert bars.changed(nothing, {"": START_MS + 9_000}).height == 0


def test_a_late_tick_within_the_lateness_amends_a_closed_bar() -> None:
    bars = open_bars()
    published(bars, ticks((100, "A", 1.0), (5_000, "A", 1.0)))
    assert published(bars, ticks((200, "A", 2.0))) == [("A", 0, True, 2)]


def test_a_tick_later_than_the_lateness_is_refused_with_how_late_it_was() -> None:
    bars = open_bars(lateness_ms=10_000)
    bars.add(ticks((20_000, "A", 1.0)))
    added = bars.add(
        ticks((10_000, "A", 1.0), (9_999, "A", 1.0), (25_000, "A", 1.0), (14_999, "A", 1.0), first_sequence=2)
    )
    assert added.late is not None
    assert added.late.select("sequence", "late_ms").rows() == [(3, 10_001), (5, 10_001)]
    assert added.partials["ticks"].sum() == 2


def test_lateness_does_not_depend_on_how_ticks_are_cut_into_batches() -> None:
    times = (0, 20_000, 9_000, 30_000, 21_000, 19_000, 5_000, 31_000)
    table = ticks(*((time, "A", 1.0) for time in times), *((time + 40_000, "B", 1.0) for time in times))
    at_once = late_sequences(open_bars().add(table))
    for size in (1, 2, 3, 7):
        bars = open_bars()
        late = [late_sequences(bars.add(table.slice(at, size))) for at in range(0, table.height, size)]
        assert list(chain.from_iterable(late)) == at_once
    assert at_once == [3, 6, 7, 11, 14, 15]


def test_what_settled_is_let_go_and_the_rest_kept() -> None:
    bars = open_bars(lateness_ms=10_000)
    bars.add(ticks((500, "A", 1.0), (10_999, "A", 1.0), (500, "B", 1.0)))
    gone, kept = bars.settle(now=True) or (None, None)
    assert gone is not None
    assert kept is not None
    assert gone.height == 0  # a tick at 999 ms would still be taken
    bars.add(ticks((11_000, "A", 1.0)))
    gone, kept = bars.settle(now=True) or (None, None)
    assert gone is not None
    assert kept is not None
    assert gone.select("instrument", "start_ms").rows() == [("A", START_MS)]
    assert sorted(kept["instrument"].to_list()) == ["A", "A", "B"]


def test_a_restart_from_deltas_goes_on_as_if_nothing_had_happened() -> None:
    rows = [(at * 700 % 13_000, "AB"[at % 2], 1.0 + at) for at in range(200)]
    first, second = ticks(*rows[:120]), ticks(*rows[120:], first_sequence=121)
    straight, broken = open_bars("1s,5s"), open_bars("1s,5s")
    straight.changed(straight.add(first).partials, {"": START_MS + 6_000})
    kept = [broken.add(first.slice(at, 10)).partials for at in range(0, first.height, 10)]
    restored = open_bars("1s,5s")
    restored.restore(pl.concat(kept), {"": START_MS + 6_000})
    assert restored.forming == straight.forming
    expected = straight.changed(straight.add(second).partials, {"": START_MS + 9_000}).sort(BAR_KEY)
    assert restored.changed(restored.add(second).partials, {"": START_MS + 9_000}).sort(BAR_KEY).equals(expected)
    assert expected.filter(pl.col("close_time_ns") > 0).height == expected.height
    assert restored.newest_ms == straight.newest_ms == (first["time_ns"].max() or 0) // NS_PER_MS  # type: ignore[operator]
