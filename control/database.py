"""The control database: one SQLite file, private to this user, in which every room keeps its own tables."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlite_utils import Database, Migrations

from bar.sqlite_file import open_for_reading, open_for_writing
from control.home import Home


def open_control_db(home: Home, *rooms: Migrations) -> Database:
    """Open the control database for writing, with the tables of these rooms brought up to date."""
    db = open_for_writing(home.control_db)
    home.control_db.chmod(0o600)
    # Several processes may open a new home at once: whoever is second must find the tables finished.
    if any(room.pending(db) for room in rooms):
        with immediate(db):
            for room in rooms:
                room.apply(db)
    return db


def read_control_db(home: Home) -> Database:
    """Open the control database for reading; raise StoreMissingError where there is none."""
    return open_for_reading(home.control_db)


@contextmanager
def immediate(db: Database) -> Iterator[None]:
    """Run a block in one transaction that holds the write lock from its start, so that what it reads stays true.

    Inside another transaction it is a part of that one.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.rollback()
        raise
    db.conn.execute("COMMIT")
