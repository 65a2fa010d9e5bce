"""The tick log: sequences, blocks, cursors, and what upkeep may change under a reader."""

import sqlite3
from pathlib import Path

import polars as pl
import pytest

from barmill.model.tick import REJECT_SCHEMA, as_rejects
from barmill.platform.clock import now_ms
from barmill.platform.sqlite_file import StoreMissingError
from barmill.storage.maintenance import compact, drop_beyond, drop_older
from barmill.storage.tick_damage import decode_block, encode_block
from barmill.storage.tick_log import TickLog
from tests.support.ticks import ticks

NO_REJECTS = pl.DataFrame(schema=REJECT_SCHEMA)


@pytest.fixture
def log(tmp_path: Path) -> TickLog:
    log = TickLog.open(tmp_path / "ticks.sqlite")
    log.start_source("one", live=True)
    return log


def append(log: TickLog, count: int, source: str = "one", at_ms: int = 0) -> pl.DataFrame:
    added = ticks(*((at_ms + n, "A", 1.0 + n) for n in range(count))).drop("sequence")
    log.append(source, added, NO_REJECTS, read=count, cursor=str(at_ms), complete_to_ms=at_ms)
    return added


def everything(log: TickLog, step: int) -> pl.DataFrame:
    at, parts = 1, list[pl.DataFrame]()
    while True:
        backlog = log.read_from(at, step)
        if backlog.ticks is None:
            return pl.DataFrame(pl.concat(parts))
        assert backlog.first_sequence == at
        parts.append(backlog.ticks)
        at = backlog.next_sequence


@pytest.mark.parametrize("optional", [None, 5])
@pytest.mark.parametrize("same_price", [True, False])
def test_a_block_gives_back_what_was_packed(optional: int | None, same_price: bool) -> None:
    packed = ticks((0, "A", 1.5, optional, optional), (1, "Ä", 2.5)).drop("sequence")
    packed = packed if same_price else packed.with_columns(price_close=pl.lit(9.0))
    assert decode_block(encode_block(packed)).equals(packed)


def test_sequences_go_on_from_block_to_block(log: TickLog) -> None:
    written = pl.concat([append(log, 3), append(log, 5, at_ms=100)])
    assert log.end_sequence() == 9
    for step in (1, 4, 100):
        assert everything(log, step).equals(written)


def test_a_reader_that_has_everything_gets_nothing(log: TickLog) -> None:
    append(log, 3)
    backlog = log.read_from(4, 100)
    assert backlog.ticks is None
    assert backlog.caught_up


def test_one_read_never_mixes_sources(log: TickLog) -> None:
    log.start_source("two", live=False)
    append(log, 2)
    append(log, 2, "two")
    backlog = log.read_from(1, 100)
    assert (backlog.source, backlog.next_sequence, backlog.caught_up) == ("one", 3, False)


def test_cursor_counts_and_completeness_move_with_the_ticks(log: TickLog) -> None:
    append(log, 3, at_ms=50)
    refused = as_rejects(pl.DataFrame({"line": [9], "reason": ["bad_time"]}))
    log.append("one", ticks((0, "A", 1.0)).drop("sequence").clear(), refused, read=1, cursor="60", complete_to_ms=None)
    source = log.sources()[0]
    assert (source.cursor, source.read, source.accepted, source.rejected, source.complete_to_ms) == ("60", 4, 3, 1, 50)
    assert log.start_source("one", live=True) == "60"
    assert log.rejects_by_reason() == {"bad_time": 1}
    assert log.rejects().select("source", "line", "reason").rows() == [("one", 9, "bad_time")]


def test_a_failed_append_moves_nothing(log: TickLog) -> None:
    append(log, 3)
    log.db.execute("CREATE TRIGGER broken BEFORE UPDATE OF cursor ON sources BEGIN SELECT raise(ABORT, 'disk'); END")
    with pytest.raises(sqlite3.IntegrityError, match="disk"):
        append(log, 2)
    assert log.end_sequence() == 4
    assert everything(log, 100).height == 3


def test_there_is_a_sentence_when_no_log_exists(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match=r"There is no ticks.sqlite yet; start Barmill with ./barmill up"):
        TickLog.read_only(tmp_path / "ticks.sqlite")


def test_compaction_changes_blocks_and_no_sequence(log: TickLog) -> None:
    log.start_source("two", live=True)
    written = [append(log, 2, at_ms=n) for n in range(5)] + [append(log, 2, "two")] + [append(log, 2)]
    assert compact(log.db, now_ms() + 1) == 5
    assert everything(log, 1_000).equals(pl.concat(written))
    # A reader whose cursor is inside a joined block continues inside it.
    assert log.read_from(4, 1).first_sequence == 4
    assert compact(log.db, now_ms() + 1) == 0


def test_what_is_read_block_by_block_is_of_one_moment(log: TickLog, tmp_path: Path) -> None:
    written = pl.concat([append(log, 3, at_ms=n * 100) for n in range(4)])
    with TickLog.read_only(tmp_path / "ticks.sqlite") as reader:
        blocks = reader.blocks()
        parts = [next(blocks)[1]]
        assert compact(log.db, now_ms() + 1) == 4
        drop_older(log.db, now_ms() + 1)
        assert pl.concat([*parts, *(ticks for _, ticks in blocks)]).equals(written)


def test_recent_blocks_are_left_alone(log: TickLog) -> None:
    append(log, 2)
    append(log, 2)
    assert compact(log.db, now_ms() - 60_000) == 0


def test_retention_drops_whole_blocks_and_remembers_up_to_when(log: TickLog) -> None:
    first = append(log, 3)
    assert drop_older(log.db, now_ms() + 1) == 3
    append(log, 2, at_ms=1_000)
    assert log.dropped_to_ns() == first["time_ns"].max()
    assert log.read_from(1, 100).first_sequence == 4
    assert log.end_sequence() == 6


def test_the_oldest_go_when_the_log_is_too_large(log: TickLog) -> None:
    append(log, 50)
    size = log.db.execute("SELECT length(data) FROM blocks").fetchone()[0]
    assert drop_beyond(log.db, size) == 0
    log.db.execute("UPDATE blocks SET received_ms = 1")
    log.db.conn.commit()
    append(log, 50, at_ms=1_000)
    assert drop_beyond(log.db, size + 10) == 50
    assert everything_from(log, 51).height == 50


def everything_from(log: TickLog, sequence: int) -> pl.DataFrame:
    ticks = log.read_from(sequence, 1_000).ticks
    assert ticks is not None
    return ticks


def test_a_log_of_an_earlier_version_opens_and_continues(tmp_path: Path) -> None:
    path = tmp_path / "earlier.sqlite"
    with TickLog.open(path) as log:
        log.start_source("one", live=True)
        append(log, 3)
        # Before ids were kept as sent there were numbers only, and those that came again were not counted.
        log.db.execute("ALTER TABLE sources DROP COLUMN reused_ids")
        log.db.execute("DELETE FROM _sqlite_migrations WHERE name = 'count_reused_ids'")
        block = pl.read_ipc_stream(log.db.execute("SELECT data FROM blocks").fetchone()[0])
        assert "id_text" not in block.columns
    with TickLog.open(path) as log:
        added = ticks((9, "A", 1.0, None, "x")).drop("sequence")
        log.append("one", added, NO_REJECTS, read=1, cursor="9", complete_to_ms=9, reused_ids=1)
        assert log.newest(10)["id_text"].to_list() == [None, None, None, "x"]
        assert [source.reused_ids for source in log.sources()] == [1]
