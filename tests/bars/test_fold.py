"""The fold: exact values, any order, frames that agree, and the same as a plain recomputation."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bar import recompute
from bar.fold import finish, fold_ticks, merge, roll_up
from bar.frames import Frame, parse_frames
from tests.bars.ticks import START_MS, bars_of, ticks

FRAMES = parse_frames("1s,1m,1h")
PRICES = st.integers(1, 10**7).map(lambda cents: cents / 100)
VOLUMES = st.none() | st.integers(0, 10**12).map(lambda units: units / 10**8)
TICKS = st.lists(
    st.tuples(st.integers(0, 7_200_000), st.sampled_from(["A/USD", "B/USD", "C/USD"]), PRICES, VOLUMES),
    min_size=1,
    max_size=60,
)


def test_one_bar_has_every_value() -> None:
    table = ticks((0, "A/USD", 10.0, 1.5), (400, "A/USD", 12.0, 0.5), (900, "A/USD", 9.0, 2.0))
    assert bars_of(table, "1s").rows() == [
        ("A/USD", "1s", START_MS, START_MS + 1_000, 10.0, 12.0, 9.0, 9.0, 4.0, 9.75, 3, START_MS, START_MS + 900)
    ]


def test_a_tick_at_the_end_belongs_to_the_next_bar() -> None:
    table = ticks((999.999999, "A/USD", 1.0), (1_000, "A/USD", 2.0))
    assert bars_of(table, "1s")["start_ms"].to_list() == [START_MS, START_MS + 1_000]


def test_both_prices_of_a_tick_count() -> None:
    table = ticks((0, "A/USD", 10.0)).with_columns(price_open=pl.lit(8.0), price_close=pl.lit(11.0))
    bar = bars_of(table, "1s").row(0, named=True)
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (8.0, 11.0, 8.0, 11.0)


def test_without_volume_there_is_no_volume_and_no_vwap() -> None:
    bar = bars_of(ticks((0, "A/USD", 10.0)), "1s").row(0, named=True)
    assert bar["volume"] is None
    assert bar["vwap"] is None


def test_a_volume_of_zero_is_a_volume() -> None:
    bar = bars_of(ticks((0, "A/USD", 10.0, 0.0)), "1s").row(0, named=True)
    assert bar["volume"] == 0.0
    assert bar["vwap"] is None


def test_volumes_add_up_to_the_decimal_sum() -> None:
    table = ticks(*((n, "A/USD", 1.0, 0.1) for n in range(1_000)), (1, "A/USD", 1.0, 12345678.1))
    assert bars_of(table, "1h")["volume"].to_list() == [12345778.1]


@pytest.mark.parametrize(("first_id", "second_id", "expected"), [(1, 2, (10.0, 20.0)), (2, 1, (20.0, 10.0))])
def test_at_one_time_the_id_orders(first_id: int, second_id: int, expected: tuple[float, float]) -> None:
    table = ticks((0, "A/USD", 10.0, None, first_id), (0, "A/USD", 20.0, None, second_id))
    bar = bars_of(table, "1s").row(0, named=True)
    assert (bar["open"], bar["close"]) == expected


def test_at_one_time_without_ids_the_sequence_orders() -> None:
    bar = bars_of(ticks((0, "A/USD", 10.0), (0, "A/USD", 20.0)), "1s").row(0, named=True)
    assert (bar["open"], bar["close"]) == (10.0, 20.0)


def test_time_orders_to_the_nanosecond() -> None:
    bar = bars_of(ticks((0.000002, "A/USD", 10.0), (0.000001, "A/USD", 20.0)), "1s").row(0, named=True)
    assert (bar["open"], bar["close"]) == (20.0, 10.0)


@settings(max_examples=60, deadline=None)
@given(TICKS, st.randoms(use_true_random=False), st.integers(1, 20))
def test_any_order_and_any_batches_give_the_same_bars(rows: list[tuple], random, size: int) -> None:  # type: ignore[type-arg, no-untyped-def]
    table = ticks(*((*row, number) for number, row in enumerate(rows)))
    order = list(range(table.height))
    random.shuffle(order)
    # Sequences follow arrival; the ids keep the order at the source.
    arrived = table[order].with_columns(sequence=pl.int_range(1, table.height + 1, dtype=pl.Int64))
    parts = [fold_ticks(arrived.slice(at, size), 1_000) for at in range(0, arrived.height, size)]
    merged = finish(roll_up(merge(pl.concat(parts)), FRAMES)).sort("instrument", "frame", "start_ms")
    assert merged.equals(bars_of(table))


@settings(max_examples=60, deadline=None)
@given(TICKS)
def test_the_fold_is_the_recomputation(rows: list[tuple]) -> None:  # type: ignore[type-arg]
    table = ticks(*rows)
    for frame in FRAMES:
        folded = bars_of(table).filter(pl.col("frame") == frame.text)
        assert list(recompute.differences(recompute.bars(table, frame), folded)) == []


@settings(max_examples=30, deadline=None)
@given(TICKS)
def test_frames_agree(rows: list[tuple]) -> None:  # type: ignore[type-arg]
    seconds = fold_ticks(ticks(*rows), 1_000)
    minutes = roll_up(seconds, [Frame(60_000)])
    key = ["instrument", "start_ms"]
    assert roll_up(minutes, [Frame(3_600_000)]).sort(key).equals(roll_up(seconds, [Frame(3_600_000)]).sort(key))


def test_a_difference_is_found() -> None:
    table = ticks((0, "A/USD", 10.0), (2_000, "B/USD", 5.0))
    right = recompute.bars(table, Frame(1_000))
    wrong = pl.concat(
        [right.head(1).with_columns(high=pl.lit(99.0)), right.tail(1).with_columns(instrument=pl.lit("C"))]
    )
    assert [(at["instrument"], problem) for at, problem in recompute.differences(right, wrong)] == [
        ("A/USD", "high is 99.0, should be 10.0"),
        ("B/USD", "is not published, but 1 ticks of the log belong to it"),
        ("C", "is published, but no tick of the log belongs to it"),
    ]
