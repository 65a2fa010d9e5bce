"""The store of a replay: every bar is found once and in order, even after restarts from earlier checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.model.bar import BAR_KEY, BAR_SCHEMA, BAR_VALUES
from barmill.storage import bar_runs
from barmill.storage.reader import BarReader
from flink_jobs import open_bars, sources
from tests.support.shard import LATENESS_MS, Market
from tests.support.ticks import bars_of, ticks

# In the order of their UTF-8 bytes, which is not that of UTF-16.
NAMES = ("", "A", "A ", "B", "a", "\uffee", "\U0001f4c8")
_ticks = st.tuples(st.integers(0, 2 * LATENESS_MS), st.sampled_from(NAMES))
_steps = st.one_of(
    st.lists(_ticks, min_size=1, max_size=8), st.lists(_ticks, min_size=1, max_size=8), st.integers(1, 4)
)


def replayed(folder: Path, steps: Sequence[list[tuple[int, str]] | int]) -> tuple[Market, pl.DataFrame]:
    """Append batches of ticks (ms since the tick before, instrument); a number returns to an earlier checkpoint."""
    market = Market(folder, final_only=True)
    checkpoints, rows, at_ms = [(market.taken.cursor, list(market.kept))], list[tuple[object, ...]](), 0
    for step in steps:
        if isinstance(step, int):
            checkpoints = checkpoints[: max(1, len(checkpoints) - step)]
            market.shard, market.source = market.begin()
            cursor, kept = checkpoints[-1]
            market.shard.restore(cursor, kept)
            market.kept = list(kept)
            continue
        batch = list[tuple[object, ...]]()
        for after_ms, name in step:
            at_ms += after_ms
            batch.append((at_ms, name, 1.0 + len(rows) + len(batch)))
        rows += batch
        market.arrive(*batch)
        checkpoints.append((market.taken.cursor, list(market.kept)))
    market.log.end_source("market")
    while not market.taken.cursor.final:
        market.poll()
    return market, bars_of(ticks(*rows), "1s,1m") if rows else pl.DataFrame(schema=BAR_VALUES)


@settings(max_examples=40, deadline=None)
@given(st.lists(_steps, max_size=8), st.integers(1, 4), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30))
def test_every_bar_is_found_once_whatever_is_published_again(
    steps: list[list[tuple[int, str]] | int], run_bars: int, rows_per_poll: int, chunk_bars: int, in_memory_bars: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_bars, "_SETTLE_ROWS", 4)
        patch.setattr(bar_runs, "_RUN_BARS", run_bars)
        patch.setattr(bar_runs, "_IN_MEMORY_BARS", in_memory_bars)
        patch.setattr(sources, "MAX_ROWS_PER_POLL", rows_per_poll)
        market, expected = replayed(Path(folder), steps)
        chunks = [*bar_runs.all_bars(market.store.db, chunk_bars)]
        assert pl.concat(chunks).select(BAR_VALUES.keys()).equals(expected)
        assert all(chunk.schema == BAR_SCHEMA for chunk in chunks)
        assert all(chunk.height for chunk in chunks) or len(chunks) == 1
        with BarReader.open(market.spec.bars_db) as reader:
            assert pl.concat(reader.all_bars()).equals(pl.concat(chunks))
            assert reader.totals() == {
                str(frame): (of_frame.height, of_frame["ticks"].sum())
                for (frame,), of_frame in expected.partition_by("frame", as_dict=True).items()
            }
        market.store.close()
        market.log.close()


def test_bars_that_were_published_again_at_other_times_replace_the_first_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_bars, "_SETTLE_ROWS", 1)
    market = Market(tmp_path, final_only=True)
    cursor = market.taken.cursor
    market.arrive((0, "A", 1.0), (2 * LATENESS_MS, "A", 2.0))
    first = pl.concat(BarReader.open(market.spec.bars_db).all_bars())
    assert first.select(BAR_KEY).height == 2  # the second and the minute of the first tick
    market.shard, market.source = market.begin()
    market.shard.restore(cursor, [])
    monkeypatch.setattr(open_bars, "_SETTLE_ROWS", 1_000)  # the same ticks are settled later than before
    market.poll()
    assert BarReader.open(market.spec.bars_db).totals() == {}
    market.log.end_source("market")
    market.poll()
    found = pl.concat(BarReader.open(market.spec.bars_db).all_bars())
    assert found.height == 4
    assert found.join(first, on=BAR_KEY, how="semi").height == 2
