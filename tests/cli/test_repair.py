"""`barmill repair` on real homes: nothing to do, a damaged store, damaged blocks, and while Barmill runs."""

import fcntl
import json
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from barmill.platform.home import Home
from barmill.platform.service import is_running
from barmill.storage.bar_blocks import BEGIN_MS
from barmill.storage.bar_damage import store_problem
from barmill.storage.bar_store import BarStore
from barmill.storage.bar_upkeep import MoveSizes, move_oldest
from barmill.storage.reader import BarReader
from cli.main import main
from tests.support.damage import damage_block, damage_leaf, damage_pages, flip_bit_of_bars, three_blocks
from tests.support.rollup import NAME, seconds, stored
from tests.support.shard import Market


@pytest.fixture
def market(home: Home, monkeypatch: pytest.MonkeyPatch) -> Market:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    market = Market(home.root, ticks_db=home.ticks_db, bars_db=home.bars_db)
    for minute in range(20):
        market.arrive(*[(minute * 60_000 + n * 500, "A", 1.0 + n) for n in range(100)])
    return market


def repaired(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    assert main(["repair", "--json", *options]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_nothing_is_changed_where_nothing_is_damaged(market: Market, capsys: pytest.CaptureFixture[str]) -> None:
    before = market.spec.bars_db.stat().st_ino
    assert repaired(capsys) == {
        "damaged_blocks": 0,
        "damaged_ticks": 0,
        "kept": None,
        "old_store": None,
        "freed_bytes": 0,
    }
    assert market.spec.bars_db.stat().st_ino == before
    assert main(["repair"]) == 0
    assert "not damaged" in capsys.readouterr().out


def test_a_damaged_store_is_replaced_and_the_old_one_kept(
    market: Market, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    market.store.close()
    damage_pages(home.bars_db, 0.2, 1)
    (home.bars_db.parent / f"{home.bars_db.name}.damaged").touch()
    assert store_problem(home.bars_db)
    found = repaired(capsys)
    assert found["kept"]
    assert (home.bars_db.parent / str(found["old_store"])).exists()
    assert store_problem(home.bars_db) == ""
    with closing(BarReader.open(home.bars_db)) as reader:
        assert reader.db.conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert reader.progress() == []


def test_a_flipped_bit_in_a_block_of_bars_is_found_and_the_block_left_out(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    for first in (0, 700):
        stored(home.bars_db, seconds(*((at, 1.0 + at) for at in range(first, first + 700)))).close()
        with closing(BarStore.open(home.bars_db)) as store:
            from_ms: int | None = BEGIN_MS
            while from_ms is not None:
                _, from_ms = move_oldest(store.db, NAME, "1s", from_ms, 0, MoveSizes(keep=100, least=2, block=300))
    assert repaired(capsys)["kept"] is None
    assert repaired(capsys)["freed_bytes"] == 0  # the first repair has compacted the store
    with closing(BarReader.open(home.bars_db)) as reader:
        blocks = reader.db.conn.execute("SELECT bars FROM bar_blocks ORDER BY first_start_ms").fetchall()
    assert len(blocks) > 2
    flip_bit_of_bars(home.bars_db)
    assert store_problem(home.bars_db) == ""
    kept = repaired(capsys)["kept"]
    assert isinstance(kept, dict)
    assert kept["bar_blocks"] == len(blocks) - 1
    with closing(BarReader.open(home.bars_db)) as reader:
        assert reader.bars(NAME, "1s").height == 1_400 - blocks[0][0]
    assert repaired(capsys)["kept"] is None


def test_a_store_of_a_version_without_blocks_of_bars_is_not_damaged(
    market: Market, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    market.store.close()
    with closing(sqlite3.connect(home.bars_db)) as connection, connection:
        connection.execute("DROP TABLE bar_blocks")
    assert repaired(capsys)["kept"] is None


def test_a_store_that_cannot_be_made_again_is_left_as_it_is(
    market: Market, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    market.store.close()
    before = home.bars_db.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a full disk or a quota
    try:
        code = main(["repair", "--store"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "could not be rebuilt and is unchanged" in capsys.readouterr().err
    assert home.bars_db.read_bytes() == before
    assert not [*home.root.glob("bars.sqlite.*")]


def test_a_store_that_cannot_be_compacted_does_not_hide_the_report(
    market: Market, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    three_blocks(market)
    damage_block(market, 2_001)
    monkeypatch.setattr("cli.repair.compact", fail)
    assert main(["repair"]) == 1
    printed = capsys.readouterr()
    assert "1 damaged blocks with 2 ticks are quarantined" in printed.out
    assert "could not be compacted (database or disk is full)" in printed.err


def test_damaged_blocks_are_counted_once(market: Market, capsys: pytest.CaptureFixture[str]) -> None:
    three_blocks(market)
    damage_block(market, 2_001)
    assert main(["verify"]) == 1
    assert "2 ticks are in damaged blocks" in capsys.readouterr().out
    assert repaired(capsys)["damaged_ticks"] == 2
    assert repaired(capsys)["damaged_ticks"] == 0


def test_a_log_whose_own_pages_are_damaged_is_made_again_and_the_old_one_kept(
    market: Market, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    market.log.close()
    damage_leaf(home.ticks_db, "blocks", 1)
    assert repaired(capsys)["damaged_ticks"] in (100, 200, 300)
    assert len([*home.ticks_db.parent.glob("ticks.sqlite.*.old")]) == 1
    assert repaired(capsys)["damaged_ticks"] == 0


def test_verify_says_in_a_sentence_that_the_store_is_damaged(
    market: Market, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    market.store.close()
    damage_pages(home.bars_db, 0.5, 1)
    assert main(["verify"]) == 1
    assert "run ./barmill repair" in capsys.readouterr().err


def test_a_log_that_is_no_database_is_said_to_be(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    home.ticks_db.write_bytes(b"no database" * 1_000)
    assert main(["repair"]) == 1


@pytest.mark.usefixtures("market")
def test_a_running_barmill_is_not_repaired(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with (home.run / "ingest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the feed does
        assert is_running(home, "ingest")
        assert main(["repair"]) == 1
    assert "./barmill down" in capsys.readouterr().err


@pytest.mark.usefixtures("market")
def test_another_jobs_rows_survive(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(home.bars_db)) as connection, connection:
        connection.execute("INSERT INTO written VALUES ('other', 7)")
    repaired(capsys, "--store")
    with closing(BarReader.open(home.bars_db)) as reader:
        assert reader.bars_written()["other"] == 7
    assert Path(home.bars_db).exists()


def test_the_space_of_bars_that_moved_into_blocks_is_returned(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    stored(home.bars_db, seconds(*((at, 1.0 + at) for at in range(1_500)))).close()
    size = home.bars_db.stat().st_size
    with closing(BarStore.open(home.bars_db)) as store:
        move_oldest(store.db, NAME, "1s", BEGIN_MS, 0, MoveSizes(keep=100, least=2, block=4_096))
    with closing(BarReader.open(home.bars_db)) as reader:
        before = reader.bars(NAME, "1s")
    found = repaired(capsys)
    assert found["kept"] is None
    assert size - home.bars_db.stat().st_size == found["freed_bytes"]
    assert home.bars_db.stat().st_size < 0.6 * size
    assert home.bars_db.stat().st_mode & 0o777 == 0o600
    with closing(BarReader.open(home.bars_db)) as reader:
        assert reader.bars(NAME, "1s").equals(before)
        assert reader.db.conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert main(["repair"]) == 0
    assert "compacted" not in capsys.readouterr().out
