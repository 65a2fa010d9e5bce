import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from bar.sqlite_file import open_for_writing


def test_a_new_file_that_another_process_works_on_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.rollback)
        release.start()
        with closing(open_for_writing(path).conn) as opened:
            assert opened.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        release.join()
