"""Old short bars are removed, longer bars hold their sums, and the removed ones do not count as missing."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from barmill.model.bar import BAR_VALUES
from barmill.model.frames import Frame
from barmill.storage.bar_blocks import stored_bars
from barmill.storage.bar_damage import salvage
from barmill.storage.bar_store import BarStore, Removed
from barmill.storage.bar_upkeep import remove_oldest
from barmill.storage.reader import BarQuery, BarReader
from barmill.storage.verification import verify
from tests.support.rollup import MINUTE_MS, NAME, progress, seconds, stored
from tests.support.shard import Market
from tests.support.ticks import START_MS

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
    return remove_oldest(store.db, NAME, SECOND, MINUTE, MINUTE_MS + round(before_s * 1_000), most)


def test_what_goes_is_written_into_longer_bars_first(store: BarStore) -> None:
    expected = BarReader(store.db).read(BarQuery(NAME, MINUTE, to_ms=MINUTE_MS + 120_000))
    assert remove(store, 121) == 4  # up to a whole minute
    assert starts(store) == [125, 180]
    made = BarReader(store.db).bars(NAME, "1m")
    assert made.select(BAR_VALUES.keys()).equals(expected.select(BAR_VALUES.keys()))
    assert made["state"].to_list() == ["closed", "closed"]
    assert BarReader(store.db).removals() == [Removed("1s", MINUTE_MS + 120_000, 4, 5)]
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


def test_a_bar_has_one_version_at_each_time_even_if_the_clock_was_set_back(
    path: Path, store: BarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, known_ms = BarReader(store.db), set[int]()
    bars = reader.read(BarQuery(NAME, MINUTE)).select(*BAR_VALUES, "state").with_columns(state=pl.lit("closed"))
    for hours, ticks in ((3, 2), (1, 1), (2, 0)):
        at_ms = MINUTE_MS + hours * 3_600_000
        monkeypatch.setattr("time.time_ns", lambda at_ms=at_ms: at_ms * 1_000_000)
        store.publish(progress(), bars.with_columns(ticks=pl.lit(9, pl.Int64) - ticks))
        known_ms |= {at_ms - 1, at_ms, at_ms + 1}
    stored(path, seconds(*((n / 10, 1.0) for n in range(20)))).close()  # more ticks in the seconds of the first minute
    versions = [reader.bars(NAME, "1m")["ticks"][0]]
    remove(store, 120)
    versions.append(reader.bars(NAME, "1m")["ticks"][0])
    assert versions[0] < versions[1]
    assert reader.history(NAME, "1m", MINUTE_MS)["changed_ms"].is_sorted()
    for at_ms in sorted({*known_ms, *reader.history(NAME, "1m", MINUTE_MS)["changed_ms"]}):
        known = stored_bars(store.db, NAME, "1m", as_of_ms=at_ms)
        assert known["start_ms"].is_unique().all(), at_ms


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_the_versions_of_an_older_store_are_put_in_order(path: Path, is_rebuilt: bool) -> None:
    table, hours = seconds((0, 1.0)), (900_003, 900_001, 900_002)
    with closing(BarStore.open(path)) as store:
        db = store.db
        for number, hour in enumerate(hours):
            store.publish(progress(), table.with_columns(ticks=pl.lit(7 + number, pl.Int64), state=pl.lit("closed")))
            for table_name, column in (("bars", "changed_ms"), ("bar_revisions", "superseded_ms")):
                revision = number + 2 if table_name == "bars" else number + 1
                found = f"UPDATE {table_name} SET {column} = ? WHERE start_ms = ? AND revision = ?"
                assert db.conn.execute(found, (hour * 3_600_000, MINUTE_MS, revision)).rowcount == 1
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'order_times_of_versions'")
        db.conn.commit()
    if is_rebuilt:
        salvage(path, path.with_name("rebuilt.sqlite"))
        path = path.with_name("rebuilt.sqlite")
    with closing(BarStore.open(path)) as store:
        versions = BarReader(store.db).history(NAME, "1s", MINUTE_MS)
        starts = [stored_bars(store.db, NAME, "1s", as_of_ms=hour * 3_600_000)["start_ms"] for hour in sorted(hours)]
    assert [changed_ms // 3_600_000 for changed_ms in versions["changed_ms"][-3:]] == [900_003] * 3
    assert all(times.is_unique().all() for times in starts)


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
    assert remove_oldest(market.store.db, "A", SECOND, MINUTE, START_MS + 120_000, MANY) == 3
    after = verify(market.spec.ticks_db, market.spec.bars_db, lambda _: None)
    assert (before.different, after.different, after.bars) == (0, 0, before.bars - 3)
    assert BarReader.open(market.spec.bars_db).bars("A", "1m").equals(minutes)
    market.arrive((151_000, "A", 9.0, 1.0), complete_to=230_000)  # a late tick after the removal
    market.assert_true_to_the_log()
    market.log.close()
    market.store.close()
