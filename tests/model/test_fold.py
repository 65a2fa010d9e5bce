"""The fold: exact values, any order, frames that agree, and the same as a plain recomputation."""

import os
from decimal import Decimal, localcontext
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model import recompute
from barmill.model.fold import PARTIAL_SCHEMA, finish, fold_ticks, merge, merge_distinct, roll_up, upgrade_partials
from barmill.model.frames import Frame, parse_frames
from barmill.model.tick import check
from tests.support.fold import TICKS
from tests.support.ticks import START_MS, bars_of, ticks

FRAMES = parse_frames("1s,1m,1h")


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
    in_turn = parts[0]
    for part in parts[1:]:
        in_turn = merge_distinct(in_turn, part)
    assert finish(roll_up(in_turn, FRAMES)).sort("instrument", "frame", "start_ms").equals(merged)


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
        ("B/USD", "is not published; number of its ticks in the log: 1"),
        ("C", "is published, but the log has no tick for it"),
    ]


def test_sums_beyond_64_bits_never_wrap() -> None:
    # 10,000 volumes of 9.9e14 once came out as -8.5e18.
    table = ticks(*((n % 900, "A/USD", 1.0, 9.9e14) for n in range(10_000)))
    assert bars_of(table)["volume"].to_list() == [9.9e18] * 3
    assert bars_of(table)["vwap"].to_list() == [1.0] * 3
    partials = pl.concat([fold_ticks(table, 1_000)] * 2_000)
    assert finish(merge(partials))["volume"].to_list() == [1.98e22]
    assert recompute.bars(table, Frame(1_000))["volume"].to_list() == [9.9e18]


def test_a_small_price_times_a_small_volume_is_not_lost() -> None:
    table = ticks((0, "A/USD", 1.5e-8, 2e-12), (1, "A/USD", 4.5e-8, 1e-12))
    assert bars_of(table, "1s").select("volume", "vwap").rows() == [(3e-12, 2.5e-8)]


EXAMPLES = int(os.environ.get("BARMILL_HUNT_EXAMPLES", "40"))
# Decimal prices and volumes of every size that a tick may have, many of them at the limits.
DECIMALS = st.tuples(st.integers(1, 10**15 - 1), st.integers(-24, 0)).map(lambda pair: Decimal(pair[0]).scaleb(pair[1]))
AMOUNTS = st.lists(
    st.tuples(DECIMALS, st.sampled_from([Decimal("9.9e14"), Decimal(0), Decimal("1e-12")]) | DECIMALS),
    min_size=1,
    max_size=30,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(AMOUNTS, st.integers(1, 400), st.randoms(use_true_random=False))
def test_sums_are_those_of_decimal_arithmetic(
    amounts: list[tuple[Decimal, Decimal]], times: int, random: Random
) -> None:
    raw = pl.DataFrame(
        {"price": [f"{price:f}" for price, _ in amounts], "volume": [f"{volume:f}" for _, volume in amounts]}
    ).with_columns(time=START_MS + pl.int_range(pl.len()), instrument=pl.lit("A"), line=pl.int_range(pl.len()))
    checked = check(raw, None)
    kept = [amounts[line] for line in checked.ticks["line"]]
    for price, volume in kept:
        assert volume == round(volume, 12)
        assert (price * volume).adjusted() >= -24 or not volume
    if not kept:
        return
    table = pl.concat([checked.ticks.with_columns(sequence=pl.int_range(pl.len()))] * times)
    parts = [fold_ticks(table.sample(fraction=1.0, shuffle=True, seed=random.randrange(99)), 1_000) for _ in range(2)]
    bar = finish(merge(pl.concat(parts))).row(0, named=True)
    assert bar["low"] <= (bar["low"] if bar["vwap"] is None else bar["vwap"]) <= bar["high"]
    with localcontext() as context:
        context.prec = 200
        volume = sum(volume for _, volume in kept) * 2 * times
        turnover = sum(price * volume for price, volume in kept) * 2 * times
        assert close(bar["volume"], volume)
        assert bar["vwap"] is None if not volume else close(bar["vwap"], turnover / volume)
    assert list(recompute.differences(recompute.bars(table, Frame(1_000)), finish(merge(parts[0])))) == []


def close(found: float, exact: Decimal) -> bool:
    """Tell whether a printed number is the exact one, to two units of its 15th digit."""
    return abs(Decimal(found) - exact) <= exact * Decimal("2e-14")


def test_partials_kept_by_earlier_versions_are_restored() -> None:
    table = ticks(*((n, "A/USD", 10.0, 0.25) for n in range(900)))
    now = fold_ticks(table, 1_000)
    earlier = now.drop("volume_high", "turnover_high", "turnover_dust").with_columns(
        volume_whole=pl.col("volume_whole") + 5 * 10**12
    )
    assert upgrade_partials(now).equals(now)
    restored = upgrade_partials(earlier)
    assert dict(restored.schema) == PARTIAL_SCHEMA
    assert restored["volume_high"].to_list() == [5]
    assert finish(merge(pl.concat([restored, now])))["volume"].to_list() == [5_000_000_000_450.0]


def test_a_vwap_of_an_earlier_version_is_right_to_verify() -> None:
    table = ticks((0, "A/USD", 0.00012345, 0.00012345), (1, "A/USD", 0.00012347, 0.00012345))
    found = recompute.bars_to_verify(table, Frame(1_000))
    published = bars_of(table, "1s")
    earlier = published.with_columns(vwap=found["earlier_vwap"])
    assert published["vwap"].to_list() == [0.00012346]
    assert earlier["vwap"].to_list() != published["vwap"].to_list()
    assert list(recompute.differences(found, earlier)) == []
    assert list(recompute.differences(found, published)) == []
    assert len(list(recompute.differences(found, published.with_columns(vwap=pl.lit(0.1))))) == 1
