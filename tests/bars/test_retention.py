"""Old short bars go, longer ones hold what they added up to, and nobody takes them for missing."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from bar.frames import Frame
from bar.model import BAR_VALUES
from bar.reader import BarQuery, BarReader
from bar.retention import remove_some
from bar.store import BarStore, Removed
from bar.verification import verify
from tests.bars.test_rollup import MINUTE_MS, NAME, progress, seconds, stored
from tests.bars.test_shard import Market
from tests.bars.ticks import START_MS

SECOND, MINUTE = Frame(1_000), Frame(60_000)
MANY = 1_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Bars of 1s in four minutes, the first of them revised; no minutes."""
    path = tmp_path / "bars.sqlite"
    stored(path, seconds((0, 1.0))).close()
    stored(path, seconds((0, 1.0), (0.5, 2.0), (59, 3.0), (60, 4.0), (61, 5.0), (125, 6.0), (180, 7.0))).close()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[BarStore]:
    with closing(BarStore.open(path)) as store:
        yield store


def starts(store: BarStore, frame: str = "1s") -> list[int]:
    return [(at - MINUTE_MS) // 1_000 for at in BarReader(store.db).bars(NAME, frame)["start_ms"]]


def remove(store: BarStore, before_s: float, most: int = MANY) -> int:
    return remove_some(store.db, NAME, SECOND, MINUTE, MINUTE_MS + round(before_s * 1_000), most)


def test_what_goes_is_written_into_longer_bars_first(store: BarStore) -> None:
    expected = BarReader(store.db).read(BarQuery(NAME, MINUTE, to_ms=MINUTE_MS + 120_000))
    assert remove(store, 121) == 4  # up to a whole minute
    assert starts(store) == [125, 180]
    made = BarReader(store.db).bars(NAME, "1m")
    assert made.select(BAR_VALUES.keys()).equals(expected.select(BAR_VALUES.keys()))
    assert made["state"].to_list() == ["closed", "closed"]
    assert BarReader(store.db).removed() == [Removed("1s", MINUTE_MS + 120_000, 4, 5)]
    assert BarReader(store.db).revisions(NAME, "1s", MINUTE_MS).height == 0
    assert remove(store, 121) == 0


def test_little_goes_at_once_but_whole_longer_bars(store: BarStore) -> None:
    assert [remove(store, 180, most=1) for _ in range(4)] == [2, 2, 1, 0]
    assert starts(store) == [180]
    assert starts(store, "1m") == [0, 60, 120]
    assert BarReader(store.db).ticks_in("1s") == 7


def test_a_longer_bar_that_holds_as_many_ticks_is_left_alone(store: BarStore) -> None:
    made = BarReader(store.db).read(BarQuery(NAME, MINUTE)).select(*BAR_VALUES, "state")
    known = made.with_columns(
        state=pl.lit("closed"), vwap=pl.lit(9.0), ticks=pl.col("ticks") - (pl.col("start_ms") > MINUTE_MS)
    )
    store.publish(progress(), known)
    remove(store, 120)
    found = BarReader(store.db).bars(NAME, "1m").head(2)
    assert found["vwap"].to_list() == [9.0, 4.5]
    assert found["state"].to_list() == ["closed", "revised"]


def test_what_still_forms_stays_with_all_after_it(store: BarStore) -> None:
    forming = seconds((62, 9.0)).with_columns(state=pl.lit("forming"))
    store.publish(progress(), forming)
    assert remove(store, 180) == 2
    assert starts(store) == [60, 61, 62, 125, 180]
    assert remove(store, 180) == 0


def test_what_went_does_not_come_back(store: BarStore) -> None:
    remove(store, 120)
    store.publish(progress(), seconds((1, 1.0), (119, 1.0), (120, 1.0)).with_columns(state=pl.lit("closed")))
    assert starts(store) == [120, 125, 180]


def test_other_instruments_and_frames_are_left_alone(store: BarStore) -> None:
    others = seconds((0, 1.0)).with_columns(instrument=pl.lit("B"), state=pl.lit("closed"))
    fives = seconds((0, 1.0)).with_columns(frame=pl.lit("5s"), state=pl.lit("closed"))
    store.publish(progress(), pl.concat([others, fives]))
    remove(store, 180)
    assert BarReader(store.db).bars("B", "1s").height == 1
    assert starts(store, "5s") == [0]


def test_verification_does_not_take_removed_bars_for_missing(tmp_path: Path) -> None:
    market = Market(tmp_path)
    market.arrive((100, "A", 1.0, 2.0), (1_200, "A", 2.0, 1.0), (90_000, "A", 3.0, 1.0), complete_to=200_000)
    market.arrive((150_000, "A", 4.0, 1.0), (210_000, "A", 5.0, 1.0), complete_to=220_000)
    before = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    minutes = BarReader.open(market.spec.bars_db).bars("A", "1m")
    assert remove_some(market.store.db, "A", SECOND, MINUTE, START_MS + 120_000, MANY) == 3
    after = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert (before.different, after.different, after.bars) == (0, 0, before.bars - 3)
    assert BarReader.open(market.spec.bars_db).bars("A", "1m").equals(minutes)
    market.arrive((151_000, "A", 9.0, 1.0), complete_to=230_000)  # a late tick after the removal
    market.assert_true_to_the_log()
    market.log.close()
    market.store.close()
