"""`barmill repair`: rebuild a damaged bar store or compact it, and quarantine damaged blocks of the tick log."""

import argparse
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from barmill.platform.home import Home
from barmill.platform.service import is_running
from barmill.platform.sqlite_file import StoreMissingError, open_for_reading
from barmill.storage.bar_damage import are_blocks_whole, forget_damage, is_damage, salvage, store_problem
from barmill.storage.bar_upkeep import compact
from barmill.storage.tick_damage import mark_seen
from barmill.storage.tick_log import TickLog
from barmill.storage.tick_salvage import salvage_log
from cli.common import UserError
from control.processes.supervisor import Supervisor

# Processes that hold a lock while they run; in containers there is no supervisor.
_WRITERS = ("ingest", "controller", "materialiser", "shipper")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--store", action="store_true", help="rebuild the bar store even if no damage is found")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Check both stores, repair damage, compact an intact bar store, and report the result."""
    home = Home.find()
    if Supervisor(home).running or any(is_running(home, name) for name in _WRITERS):
        raise UserError("Barmill is running; stop it with ./barmill down, then run ./barmill repair again.")
    blocks, ticks = _repair_tick_log(home)
    row_counts, old_name = _repair_bar_store(home, force=args.store)
    freed_bytes, problem = _compact(home.bars_db) if row_counts is None else (0, None)
    if args.json:
        result = {"damaged_blocks": blocks, "damaged_ticks": ticks, "kept": row_counts, "old_store": old_name}
        print(json.dumps({**result, "freed_bytes": freed_bytes}))
    else:
        print(_as_text(blocks, ticks, row_counts, old_name, freed_bytes))
    if problem is not None:  # after the report, which is not repeated
        raise problem
    return 0


def _repair_tick_log(home: Home) -> tuple[int, int]:
    """Quarantine damaged blocks, rebuilding the log if necessary.

    Return how many damaged blocks no earlier repair has reported, and how many ticks these held.
    """
    if not home.ticks_db.exists():
        return 0, 0
    try:
        try:
            return _quarantine_damaged_blocks(home.ticks_db)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            _rebuild_log(home.ticks_db)
            return _quarantine_damaged_blocks(home.ticks_db)
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"The file of the tick log cannot be read ({error}); restore it from a backup, or move"
            f" {home.ticks_db.name} away, so that the feeds create a new one."
        ) from error


def _quarantine_damaged_blocks(path: Path) -> tuple[int, int]:
    with TickLog.open(path) as log:
        log.db.conn.execute("SELECT sum(length(data)) FROM blocks").fetchone()  # reads every page of the table
        for _ in log.blocks():  # records each damaged block that it reads
            pass
        return mark_seen(log.db)


def _rebuild_log(path: Path) -> None:
    """Replace a log with damaged pages by its readable content; the old file is kept."""
    new_path = path.with_name(f"{path.name}.new")
    _remove(new_path)
    try:
        salvage_log(path, new_path)
    except sqlite3.DatabaseError:
        _remove(new_path)
        raise
    _replace(path, new_path)


def _replace(path: Path, new_path: Path) -> Path:
    """Move a store away, put the new one, if it exists, in its place, and return the new path of the old one."""
    old_path = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}.old")
    for file, other in zip(_files(path), _files(old_path), strict=True):
        if file.exists():
            file.replace(other)
    if new_path.exists():
        new_path.replace(path)
    return old_path


def _repair_bar_store(home: Home, *, force: bool) -> tuple[dict[str, int] | None, str | None]:
    """Rebuild the store if it is damaged or `force` is set.

    Return the number of rows kept by table and the name of the old file, or (None, None) without a rebuild.
    """
    path = home.bars_db
    if not path.exists() or not (force or store_problem(path) or not _is_intact(path)):
        return None, None
    new_path = path.with_name(f"{path.name}.new")
    _remove(new_path)
    try:
        row_counts = salvage(path, new_path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):  # for example a full disk: the salvaged rows are incomplete
            _remove(new_path)
            raise UserError(f"The bar store could not be rebuilt and is unchanged ({error}).") from error
        row_counts = {}  # not even its list of tables is readable
    old_path = _replace(path, new_path)
    forget_damage(path)
    return row_counts, old_path.name


def _compact(path: Path) -> tuple[int, UserError | None]:
    """Compact an intact store; return by how many bytes it became smaller, and the error if it failed, or None."""
    if not path.exists():
        return 0, None
    try:
        return compact(path), None
    except sqlite3.OperationalError as error:
        return 0, UserError(
            f"The bar store is not damaged, but could not be compacted ({error}). Check that its disk and the folder"
            " for temporary files have free space and that no program uses it, then run ./barmill repair again."
        )


def _is_intact(path: Path) -> bool:
    try:
        db = open_for_reading(path)
        with closing(db.conn) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok" and are_blocks_whole(db)
    except StoreMissingError:
        return True
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return False
        raise UserError(f"The bar store could not be checked and is unchanged ({error}).") from error


def _remove(path: Path) -> None:
    for file in _files(path):
        file.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("", "-wal", "-shm")]


def _as_text(blocks: int, ticks: int, row_counts: dict[str, int] | None, old_name: str | None, freed_bytes: int) -> str:
    lines = ["tick log   all blocks are readable"]
    if blocks:
        lines = [
            f"tick log   {blocks:,} damaged blocks with {ticks:,} ticks are quarantined; fetch them again from their"
            " source"
        ]
    if row_counts is None:
        compacted = f"; compacted, now {freed_bytes / 1e6:,.1f} MB smaller" if freed_bytes else ""
        return "\n".join([*lines, f"bar store  not damaged{compacted}"])
    rows = ", ".join(f"{count:,} {table}" for table, count in row_counts.items() if count) or "nothing"
    return "\n".join(
        [
            *lines,
            f"bar store  rebuilt with the readable rows of the old one: {rows}",
            f"           the old one is kept as {old_name}; delete it once ./barmill verify passes",
            "           Start Barmill with ./barmill up; jobs read the tick log again. Then run ./barmill verify.",
        ]
    )
