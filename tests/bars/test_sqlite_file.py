import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bar.sqlite import Database, Migrations
from bar.sqlite_file import open_for_reading, open_for_writing


def test_a_new_file_that_another_process_works_on_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.rollback)
        release.start()
        with closing(open_for_writing(path).conn) as opened:
            assert opened.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        release.join()


def test_a_reader_brings_a_file_of_an_earlier_version_up_to_date(tmp_path: Path) -> None:
    first, both = Migrations("test"), Migrations("test")

    def make(db: Database) -> None:
        db.execute("CREATE TABLE one (value INTEGER)")

    def extend(db: Database) -> None:
        db.execute("ALTER TABLE one ADD COLUMN more INTEGER")

    first()(make)
    both()(make)
    both()(extend)
    open_for_writing(tmp_path / "x.sqlite", first).conn.close()
    with closing(open_for_reading(tmp_path / "x.sqlite", both).conn) as connection:
        assert connection.execute("SELECT more FROM one").fetchall() == []
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO one VALUES (1, 2)")


def test_many_processes_that_open_an_old_file_at_once_find_it_up_to_date(tmp_path: Path) -> None:
    schema = Migrations("test")

    @schema()
    def make(db: Database) -> None:
        db.execute("CREATE TABLE one (value INTEGER)")
        db.execute("INSERT INTO one VALUES (1)")

    open_for_writing(tmp_path / "x.sqlite").conn.close()

    def look(_: int) -> int:
        with closing(open_for_reading(tmp_path / "x.sqlite", schema).conn) as connection:
            return len(connection.execute("SELECT value FROM one").fetchall())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(16))) == [1] * 16
