"""A few ticks folded in plain Python are the same partial bars as those of the queries, to the last bit."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.fold import PARTIAL_SCHEMA, fold_ticks, merge, roll_up
from barmill.model.fold_few import Partial, fold_few, merge_pair, table_of
from barmill.model.frames import parse_frames, partial_length_ms
from barmill.model.tick import TICK_SCHEMA
from tests.support.ticks import START_MS

FRAMES = parse_frames("1s,7s,1m,1h,1w")
KEY = ["instrument", "frame_ms", "start_ms"]

prices = st.one_of(st.integers(1, 999_999).map(lambda n: n / 100), st.floats(1e-9, 1e9))
volumes = st.one_of(st.none(), st.integers(0, 10**7).map(lambda n: n / 1_000), st.floats(0, 1e6), st.just(9.1e18))
rows = st.tuples(
    st.integers(-5_000_000_000, 5_000_000_000),
    st.sampled_from(["A", "B", "ü/USD"]),
    prices,
    prices,
    volumes,
    st.one_of(st.none(), st.integers(0, 3)),
)


def table(rows: list[tuple[object, ...]], first_sequence: int = 1) -> pl.DataFrame:
    ticks = pl.DataFrame(
        [(START_MS * 1_000_000 + row[0], *row[1:], None, None) for row in rows],  # type: ignore[operator]
        TICK_SCHEMA,
        orient="row",
    )
    # The price of the largest volume is small, so that its turnover is one that a tick may have.
    fits = pl.when(pl.col("volume") > 1e12).then(1.0)
    return ticks.with_columns(
        price_open=fits.otherwise("price_open"),
        price_close=fits.otherwise("price_close"),
        sequence=pl.int_range(first_sequence, first_sequence + pl.len(), dtype=pl.Int64),
    )


def by_queries(ticks: pl.DataFrame) -> pl.DataFrame:
    return roll_up(fold_ticks(ticks, partial_length_ms(FRAMES)), FRAMES)


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), st.lists(rows, min_size=1, max_size=12))
def test_a_few_ticks_make_the_same_partials_either_way(
    some: list[tuple[object, ...]], others: list[tuple[object, ...]]
) -> None:
    first, second = table(some), table(others, first_sequence=len(some) + 1)
    few = [fold_few(ticks, FRAMES) for ticks in (first, second)]
    for ticks, partials in zip((first, second), few, strict=True):
        assert table_of(partials.values()).sort(KEY).equals(by_queries(ticks).sort(KEY))
    both = dict(few[0])
    for key, partial in few[1].items():
        both[key] = merge_pair(both[key], partial) if key in both else partial
    expected = merge(pl.concat(map(by_queries, (first, second)))).sort(KEY)
    assert table_of(both.values()).sort(KEY).equals(expected)


def test_a_partial_has_the_columns_of_its_table() -> None:
    assert [*Partial._fields] == [*PARTIAL_SCHEMA]
