"""Up to when the sources of each instrument are complete, and whose word closes whose bars."""

import pickle
from pathlib import Path

import polars as pl
import pytest

from barmill.kafka.messages import NO_TICKS, SourceState, TickMessage, decode, encode
from barmill.model.frames import parse_frames
from barmill.model.progress import FOREVER_MS, by_instrument, complete_to
from flink_jobs.open_bars import OpenBars
from flink_jobs.shard import Cursor
from tests.support.shard import Market
from tests.support.ticks import START_MS, ticks


def source(prefix: str, complete_to_ms: int | None, *, ended: bool = False) -> SourceState:
    return SourceState("any", True, complete_to_ms, ended, prefix)


def test_of_the_sources_with_one_prefix_the_one_that_is_furthest_behind_counts() -> None:
    assert complete_to([source("", 5), source("", 3), source("", 1, ended=True), source("b:", 9)]) == {"": 3, "b:": 9}


def test_a_source_that_says_nothing_leaves_only_its_own_prefix_unknown() -> None:
    assert complete_to([source("", 5), source("b:", 9), source("b:", None)]) == {"": 5, "b:": None}


def test_where_all_have_ended_it_is_complete_for_good() -> None:
    assert complete_to([source("b:", None, ended=True)]) == {"b:": FOREVER_MS}
    assert complete_to([]) == {}


def test_an_instrument_belongs_to_the_longest_prefix_that_fits() -> None:
    names = pl.DataFrame({"name": ["b:A", "A", "b:c:A", "bA"]})
    values = {"": 1, "b:c:": 3, "b:": None}
    assert names.select(by_instrument(values, pl.col("name"))).to_series().to_list() == [None, 1, 3, 1]
    assert names.select(by_instrument({"x:": 1}, pl.col("name"))).to_series().to_list() == [None] * 4


def test_the_open_bars_of_a_source_that_is_stuck_give_no_work() -> None:
    bars = OpenBars(parse_frames("1s"), 10_000, 0)
    stuck = {"": START_MS + 500, "b:": None}
    bars.changed(bars.add(ticks((100, "A", 1.0), (100, "b:A", 1.0))).partials, stuck)
    assert bars.may_close_bars({"": START_MS + 1_000, "b:": None})
    nothing = bars.add(ticks((200, "A", 1.0))).partials.clear()
    closed = bars.changed(nothing, {"": START_MS + 1_000, "b:": None})
    assert closed["instrument"].to_list() == ["A"]
    assert not bars.may_close_bars({"": START_MS + 60_000, "b:": None})
    assert not bars.may_close_bars({"": START_MS + 60_000, "b:": START_MS + 999})
    assert bars.may_close_bars({"": START_MS + 60_000, "b:": START_MS + 1_000})


def test_a_source_that_comes_takes_over_what_bears_its_name() -> None:
    bars = OpenBars(parse_frames("1s"), 10_000, 0)
    bars.changed(bars.add(ticks((100, "b:A", 1.0))).partials, {"": START_MS})
    assert bars.may_close_bars({"": START_MS + 1_000})
    assert not bars.may_close_bars({"": START_MS + 1_000, "b:": START_MS})


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """A market whose log has a second source, of which nothing was ever heard."""
    market = Market(tmp_path)
    market.log.start_source("stuck", live=True, prefix="stuck:")
    return market


def test_a_source_that_is_stuck_keeps_no_bar_of_the_others_open(market: Market) -> None:
    market.arrive((100, "A", 1.0), (100, "stuck:A", 1.0), complete_to=200)
    market.arrive(complete_to=2_000)
    assert market.bars() == [(0, "closed", 1, 0)]
    assert market.bars(instrument="stuck:A") == [(0, "forming", 1, 0)]


def test_the_bars_of_a_source_that_was_taken_away_close(market: Market) -> None:
    market.arrive((100, "A", 1.0), (100, "stuck:A", 1.0), complete_to=200)
    market.log.end_source("stuck")
    market.poll()
    assert market.bars() == [(0, "forming", 1, 0)]
    assert market.bars(instrument="stuck:A") == [(0, "closed", 1, 0)]


def test_a_restart_knows_whose_bars_had_closed(market: Market) -> None:
    market.arrive((100, "A", 1.0), (100, "stuck:A", 1.0), complete_to=2_000)
    market.restart()
    assert market.shard._open.forming == 3  # of A the minute, of the other both


def test_a_checkpoint_from_before_there_were_prefixes_goes_on(market: Market) -> None:
    market.arrive((100, "A", 1.0), (100, "B", 1.0), complete_to=2_000)
    old = Cursor(3, 2, 0, START_MS + 2_000, False, "1s,1m", market.spec.lateness_ms)
    vars(old).pop("complete_to")
    restored = pickle.loads(pickle.dumps(old))
    assert restored.completeness == {"": START_MS + 2_000}
    market.shard, market.source = market.begin()
    market.shard.restore(restored, market.kept)
    assert market.shard._open.forming == 2
    market.arrive((200, "A", 2.0), complete_to=2_100)
    assert market.bars() == [(0, "revised", 2, 1)]
    market.assert_true_to_the_log()


def test_a_message_from_before_there_were_prefixes_can_be_read() -> None:
    sources = (SourceState("market", True, 5, False), SourceState("b", True, 5, False, "b:"))
    value = encode(TickMessage(NO_TICKS, 1, 1, 1, None, sources))
    assert decode(value).sources == sources
    text = b',"prefix":""'
    length = int.from_bytes(value[-4:], "big") - len(text)
    old = value[:-4].replace(text, b"") + length.to_bytes(4, "big")
    assert decode(old).sources == sources
