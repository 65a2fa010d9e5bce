"""The control database: one SQLite file, private to this user, in which every room keeps its own tables."""

from bar.sqlite import Database, Migrations
from bar.sqlite_file import immediate, open_for_reading, open_for_writing
from control.home import Home

__all__ = ["immediate", "open_control_db", "read_control_db"]


def open_control_db(home: Home, *rooms: Migrations) -> Database:
    """Open the control database for writing, with the tables of these rooms brought up to date."""
    db = open_for_writing(home.control_db, *rooms)
    home.control_db.chmod(0o600)
    return db


def read_control_db(home: Home) -> Database:
    """Open the control database for reading; raise StoreMissingError where there is none."""
    return open_for_reading(home.control_db)
