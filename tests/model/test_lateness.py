import polars as pl

from barmill.charts.quality import CLASS_BOUNDS_MS, behind_ms, count_by_delay
from tests.support.ticks import ticks


def test_a_tick_is_late_behind_the_newest_of_its_own_instrument_before_it() -> None:
    log = ticks((1_000, "A", 1.0), (3_000, "B", 1.0), (500.25, "A", 1.0), (2_000, "A", 1.0), (1_999, "A", 1.0))
    assert behind_ms(log).to_list() == [0, 0, 499.75, 0, 1]
    assert behind_ms(log.clear()).to_list() == []


def test_every_late_tick_is_in_one_class_and_the_punctual_are_in_none() -> None:
    late_ms = pl.Series([0, 0, 0.5, 10, 10.5, 100, 300_000, 300_001, 3_600_000, 9e9], dtype=pl.Float64)
    found = count_by_delay(late_ms)
    assert found["over_ms"].to_list() == [0, *CLASS_BOUNDS_MS]
    assert found["ticks"].to_list() == [2, 2, 0, 0, 0, 1, 2, 1]


def test_nothing_late_is_a_row_of_zeros() -> None:
    assert count_by_delay(pl.Series([], dtype=pl.Int64))["ticks"].to_list() == [0] * (len(CLASS_BOUNDS_MS) + 1)
