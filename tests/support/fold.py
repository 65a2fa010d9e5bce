"""Helpers of test_fold.py that other tests use too."""

from hypothesis import strategies as st

PRICES = st.integers(1, 10**7).map(lambda cents: cents / 100)


VOLUMES = st.none() | st.integers(0, 10**12).map(lambda units: units / 10**8)


TICKS = st.lists(
    st.tuples(st.integers(0, 7_200_000), st.sampled_from(["A/USD", "B/USD", "C/USD"]), PRICES, VOLUMES),
    min_size=1,
    max_size=60,
)
