"""A tick log or bar store that was restored from a backup: the job notices, reads the log again and says why."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from barmill.platform.home import Home
from barmill.storage.bar_store import BarStore
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.ingest import end_of_bars
from flink_jobs.shard import FoldResult
from tests.support.shard import Market

Row = tuple[int, str, float]
BEFORE: list[Row] = [(100, "A", 1.0), (1_100, "A", 2.0)]
# What only the part after the backup held, and what the feed fetches again after it was restored.
AFTER: list[Row] = [(2_100, "A", 3.0), (2_200, "B", 4.0), (3_100, "A", 5.0)]


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market(tmp_path)
    market.log.begin_epoch()
    yield market
    market.assert_true_to_the_log()


def _file(path: Path, market: Market) -> Path:
    """Copy a database as a backup does."""
    copy = path.with_suffix(".backup")
    store = market.log.db if path == market.spec.ticks_db else market.store.db
    store.conn.execute("VACUUM INTO ?", (str(copy),))
    return copy


def _restore_log(market: Market, copy: Path) -> None:
    """Put a backup in the place of the log: under another name, since readers of this test hold the old file open."""
    market.log.close()
    market.spec = market.spec.model_copy(update={"ticks_db": copy})
    market.log = TickLog.open(copy)


def _restore_store(market: Market, copy: Path) -> None:
    market.store.close()
    market.spec = market.spec.model_copy(update={"bars_db": copy})
    market.store = BarStore.open(copy)


def _reasons(market: Market) -> list[str]:
    return [entry.reason for entry in BarReader.open(market.spec.bars_db).last_rereads(market.spec.name, 9)]


@pytest.mark.parametrize("read_before_the_feed_starts", [False, True])
@pytest.mark.parametrize("numbers_go_on", [False, True])
def test_a_log_from_a_backup_is_read_again(
    market: Market, *, read_before_the_feed_starts: bool, numbers_go_on: bool
) -> None:
    market.arrive(*BEFORE)
    backup = _file(market.spec.ticks_db, market)
    market.arrive(*AFTER[:2])
    reached = market.taken.cursor.next_sequence
    _restore_log(market, backup)
    if read_before_the_feed_starts:
        market.restart()
        market.poll()
    market.log.begin_epoch(reached if numbers_go_on else 1)
    if not read_before_the_feed_starts:
        # Other ticks get the numbers of those that were lost, and more.
        for row in [*AFTER, (4_100, "A", 6.0), (4_200, "B", 7.0)]:
            market.append(row)
        market.restart()
    else:
        market.arrive(*AFTER, (4_100, "A", 6.0), (4_200, "B", 7.0))
    while not market.caught_up():
        market.poll()
    assert [ticks for _, _, ticks, _ in market.bars()] == [1, 1, 1, 1, 1]
    assert [ticks for _, _, ticks, _ in market.bars(instrument="B")] == [1, 1]
    (reason,) = _reasons(market)
    assert "replaced by an older one" in reason


def test_other_ticks_with_the_numbers_of_lost_ones_are_not_skipped(tmp_path: Path) -> None:
    market = Market(tmp_path)
    market.log.begin_epoch()
    market.arrive(*BEFORE)
    backup = _file(market.spec.ticks_db, market)
    market.arrive(*AFTER[:2])
    _restore_log(market, backup)
    market.log.begin_epoch(1)
    for row in [(3_100, "A", 5.0), (3_500, "A", 5.5), (4_100, "A", 6.0)]:
        market.append(row)
    market.restart()
    while not market.caught_up():
        market.poll()
    # The bar of second 2, whose tick the log no longer has, is kept.
    assert [(second, ticks) for second, _, ticks, _ in market.bars()] == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 1)]
    (reason,) = _reasons(market)
    assert "replaced by an older one" in reason


def test_a_feed_that_starts_again_is_no_other_log(market: Market) -> None:
    market.arrive(*BEFORE)
    market.log.begin_epoch(market.taken.cursor.next_sequence)
    market.restart()
    market.arrive(*AFTER)
    market.log.begin_epoch()
    market.restart()
    market.poll()
    assert _reasons(market) == []
    assert market.taken.cursor.read == len(BEFORE + AFTER)


def test_a_store_from_a_backup_gets_its_bars_from_the_log(market: Market) -> None:
    market.arrive(*BEFORE)
    backup = _file(market.spec.bars_db, market)
    market.arrive(*AFTER)
    _restore_store(market, backup)
    market.restart()
    market.poll()
    assert [ticks for _, _, ticks, _ in market.bars()] == [1, 1, 1, 1]
    (reason,) = _reasons(market)
    assert "bar store lacks" in reason


def test_a_lost_store_is_made_again(market: Market) -> None:
    market.arrive(*BEFORE, *AFTER)
    _restore_store(market, market.spec.bars_db.with_suffix(".new"))
    market.restart()
    market.poll()
    assert len(market.bars()) == 4


def test_an_older_savepoint_does_not_make_the_store_look_incomplete(
    market: Market, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.arrive(*BEFORE)
    older = market.taken, list(market.kept)
    for row in AFTER:
        market.arrive(row)
    newer = market.taken, list(market.kept)
    monkeypatch.setattr("flink_jobs.sources.MAX_ROWS_PER_POLL", 1)
    _start_from(market, older)
    market.poll()
    [progress] = BarReader.open(market.spec.bars_db).progress()
    assert progress.next_sequence < newer[0].cursor.next_sequence
    shutil.copy(_file(market.spec.bars_db, market), home.bars_db)
    assert end_of_bars(home) == newer[0].cursor.next_sequence
    _start_from(market, newer)
    market.poll()
    assert _reasons(market) == []
    assert market.shard.next_sequence == market.log.end_sequence()


def test_coverage_of_other_frames_does_not_hide_that_bars_are_lost(market: Market) -> None:
    """The name belonged to another job before, which had read further but made fewer frames."""
    market.restart(frames="1s")
    market.arrive(*BEFORE, *AFTER)
    backup = _file(market.spec.bars_db, market)
    market.spec = market.spec.model_copy(update={"frames": "1s,1m"})
    market.shard, market.source = market.begin()
    market.poll()
    _restore_store(market, backup)
    market.restart()
    market.poll()
    (reason,) = _reasons(market)
    assert "bar store lacks" in reason
    assert len(market.bars("1m")) == 1


def _start_from(market: Market, state: tuple[FoldResult, list[pl.DataFrame]]) -> None:
    market.taken, market.kept = state[0], list(state[1])
    market.restart()


def test_no_sequence_is_given_out_twice_against_one_store(market: Market, home: Home) -> None:
    market.arrive(*BEFORE)
    backup = _file(market.spec.ticks_db, market)
    market.arrive(*AFTER)
    shutil.copy(_file(market.spec.bars_db, market), home.bars_db)
    _restore_log(market, backup)
    market.log.begin_epoch(end_of_bars(home))
    assert market.log.end_sequence() == len(BEFORE + AFTER) + 1
    market.restart()
    market.arrive(*AFTER)
    while not market.caught_up():
        market.poll()


def test_a_damaged_store_does_not_keep_the_feeds_from_starting(home: Home) -> None:
    assert end_of_bars(home) == 0
    home.bars_db.write_bytes(b"not a database" * 1_000)
    assert end_of_bars(home) == 0


def test_a_log_from_before_there_were_epochs_opens(tmp_path: Path) -> None:
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        log.db.execute("DROP TABLE epochs")
        log.db.execute("DELETE FROM _sqlite_migrations WHERE name = 'tell_epochs_apart'")
    with TickLog.open(tmp_path / "ticks.sqlite") as log:
        assert log.db.execute("SELECT first_sequence, id FROM epochs").fetchall() == [(1, log.id())]
