import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from barmill.platform.sqlite_file import (
    Database,
    Migrations,
    StoreMissingError,
    data_version,
    if_ready,
    open_for_reading,
    open_for_writing,
    wait_for_change,
)


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


def test_the_data_version_changes_only_when_another_connection_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    own, other = open_for_writing(path).conn, open_for_writing(path).conn
    before = data_version(own)
    own.execute("CREATE TABLE mine (value)")
    assert data_version(own) == before
    stopped = threading.Event()
    stopped.set()
    assert not wait_for_change(own, before, 60, every_s=0.01, stop=stopped)
    other.execute("CREATE TABLE theirs (value)")
    assert wait_for_change(own, before, 60, every_s=0.01, stop=threading.Event())
    own.close()
    other.close()


def _value(path: Path, query: str = "SELECT value FROM one") -> object:
    """Return the result of a query, or None if the store is not ready."""
    with if_ready(), closing(open_for_reading(path).conn) as connection:
        return connection.execute(query).fetchone()[0]
    return None


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with closing(open_for_writing(tmp_path / "store.sqlite").conn) as connection:
        connection.execute("CREATE TABLE one (value)")
        connection.execute("INSERT INTO one VALUES (1)")
        connection.commit()
    return tmp_path / "store.sqlite"


def test_a_store_that_is_missing_or_not_fully_created_reads_as_not_ready(store: Path) -> None:
    assert _value(store.with_name("missing.sqlite")) is None
    store.with_name("empty.sqlite").touch()
    assert _value(store.with_name("empty.sqlite")) is None
    assert _value(store, "SELECT value FROM two") is None  # its tables come later
    assert _value(store, "SELECT added FROM one") is None  # written by an earlier version
    assert _value(store) == 1


def test_a_busy_store_reads_as_not_ready(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("barmill.platform.sqlite_file.BUSY_TIMEOUT_S", 0)
    with closing(sqlite3.connect(store)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO one VALUES (2)")
        assert _value(store) is None
    assert _value(store) == 1


def test_errors_that_waiting_does_not_solve_are_raised(store: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        _value(store, "SELECT FROM one")
    with pytest.raises(sqlite3.OperationalError, match="no such function"):
        _value(store, "SELECT no_function(value) FROM one")
    folder = store.with_name("folder.sqlite")
    (folder / "file").mkdir(parents=True)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        _value(folder)
    store.write_bytes(b"not a database" * 1_000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        _value(store)
    with pytest.raises(ValueError, match="another error"), if_ready():
        raise ValueError("another error")


def test_a_file_deleted_while_it_is_opened_is_missing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def delete_first(*args: object, **options: object) -> object:
        store.unlink()
        return connect(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(sqlite3, "connect", delete_first)
    with pytest.raises(StoreMissingError, match=r"There is no store\.sqlite yet"):
        open_for_reading(store)
