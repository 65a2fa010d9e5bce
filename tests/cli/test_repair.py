"""`barmill repair` on real homes: nothing to do, a damaged store, damaged blocks, and while Barmill runs."""

import fcntl
import json
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bar.damage import store_problem
from bar.reader import BarReader
from cli.main import main
from control.home import Home
from control.machine.service import is_at_work
from tests.bars.test_damage import damage_block, damage_pages, three_blocks
from tests.bars.test_shard import Market


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
    assert repaired(capsys) == {"damaged_blocks": 0, "damaged_ticks": 0, "kept": None, "old_store": None}
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
    assert "is as it was" in capsys.readouterr().err
    assert home.bars_db.read_bytes() == before
    assert not [*home.root.glob("bars.sqlite.*")]


def test_damaged_blocks_are_counted_once(market: Market, capsys: pytest.CaptureFixture[str]) -> None:
    three_blocks(market)
    damage_block(market, 2_001)
    assert main(["verify"]) == 1
    assert "2 ticks are in damaged blocks" in capsys.readouterr().out
    assert repaired(capsys)["damaged_ticks"] == 2
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
        assert is_at_work(home, "ingest")
        assert main(["repair"]) == 1
    assert "./barmill down" in capsys.readouterr().err


@pytest.mark.usefixtures("market")
def test_another_jobs_rows_survive(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(home.bars_db)) as connection, connection:
        connection.execute("INSERT INTO written VALUES ('other', 7)")
    repaired(capsys, "--store")
    with closing(BarReader.open(home.bars_db)) as reader:
        assert reader.written()["other"] == 7
    assert Path(home.bars_db).exists()
