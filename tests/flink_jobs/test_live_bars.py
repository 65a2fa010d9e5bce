"""Few ticks in plain Python and many by queries, in any order, publish the same bars."""

from collections.abc import Iterator
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.fold_few import table_of
from tests.support.open_bars import BAR_KEY, late_sequences, open_bars
from tests.support.ticks import START_MS, ticks

rows = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 300, 900, 2_000, 8_000, 30_000, -400, -1_200, -9_000, -11_000]),
        st.sampled_from(["A", "B", "s:C"]),
        st.integers(1, 9).map(float),
        st.one_of(st.none(), st.integers(1, 5).map(float)),
    ),
    max_size=9,
)
complete = st.one_of(st.none(), st.integers(-2_000, 40_000))
batches = st.lists(st.tuples(rows, complete, complete, st.booleans()), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(batches, st.sampled_from([1, 3, 6]))
def test_few_and_many_ticks_in_any_order_publish_what_queries_alone_do(
    batches: list[tuple[list[tuple[int, str, float, float]], int, int, bool]], few: int
) -> None:
    mixed, by_queries = open_bars("1s,5s,1m"), open_bars("1s,5s,1m")
    at_ms, sequence = 0, 1
    for rows, complete_ms, of_s_ms, settle in batches:
        table = ticks((0, "A", 1.0)).clear()
        if rows:
            steps = [*accumulated(at_ms, [row[0] for row in rows])]
            at_ms = max(at_ms, *steps)
            table = ticks(*((at, *row[1:]) for at, row in zip(steps, rows, strict=True)), first_sequence=sequence)
            sequence += len(rows)
        complete_to = {
            prefix: None if moment is None else START_MS + moment
            for prefix, moment in (("", complete_ms), ("s:", of_s_ms))
        }
        seen = []
        for bars, limit in ((mixed, few), (by_queries, -1)):
            # The few bars in memory are soon dropped, so that their values are looked up again.
            with patch("flink_jobs.open_bars._FEW_TICKS", limit), patch("flink_jobs.live_bars._MAX_BARS", 4):
                added = bars.add(table) if rows else None
                partials = added.partials if added else table_of([])
                changed = bars.changed(partials, complete_to).sort(BAR_KEY)
            settled = bars.settle(now=settle)
            seen.append(
                (
                    partials.sort(BAR_KEY).rows(),
                    changed.rows(),
                    late_sequences(added) if added else [],
                    (bars.forming, bars.newest_ms),
                    [bars.may_close_bars({"": START_MS + n, "s:": START_MS + n}) for n in (500, 5_000, 50_000)],
                    [part.sort(BAR_KEY).rows() for part in settled or ()],
                )
            )
        assert seen[0] == seen[1]


def accumulated(at_ms: int, steps_ms: list[int]) -> Iterator[int]:
    """Yield times, each so much later than the newest before it."""
    for step_ms in steps_ms:
        yield at_ms + step_ms
        at_ms = max(at_ms, at_ms + step_ms)
