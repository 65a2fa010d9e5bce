"""What somebody with the control database's file in their hands could do to it."""

import sqlite3
from contextlib import closing

from control.home import Home


def execute(home: Home, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run one statement on the file, past all that guards it."""
    with closing(sqlite3.connect(home.control_db)) as connection, connection:
        return connection.execute(statement, values).fetchall()
