"""`barmill repair`: makes a damaged bar store again, and puts damaged blocks of the tick log aside."""

import argparse
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bar.damage import forget_damage, is_damage, store_problem
from bar.salvage import salvage
from bar.sqlite_file import StoreMissingError, open_for_reading
from cli.errors import UserError
from control.home import Home
from control.machine.processes import Supervisor
from control.machine.service import is_at_work
from feed.damage import mark_seen
from feed.ticklog import TickLog

# Those that note themselves; in containers there is no supervisor.
_WRITERS = ("ingest", "controller", "materialiser", "shipper")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("--store", action="store_true", help="make the bar store again even if no damage is found")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Check both stores, repair what is damaged, and say what was found."""
    home = Home.find()
    if Supervisor(home).running or any(is_at_work(home, name) for name in _WRITERS):
        raise UserError("Barmill is running; stop it with ./barmill down, then run ./barmill repair again.")
    blocks, ticks = _tick_log(home)
    kept, old = _bar_store(home, anyway=args.store)
    if args.json:
        print(json.dumps({"damaged_blocks": blocks, "damaged_ticks": ticks, "kept": kept, "old_store": old}))
    else:
        print(_as_text(blocks, ticks, kept, old))
    return 0


def _tick_log(home: Home) -> tuple[int, int]:
    """Read every block, put damaged ones aside, and return how many blocks and ticks are."""
    if not home.ticks_db.exists():
        return 0, 0
    try:
        with TickLog.open(home.ticks_db) as log:
            for _ in log.blocks():
                pass
            return mark_seen(log.db)
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"The file of the tick log cannot be read ({error}); put it back from a backup, or move"
            f" {home.ticks_db.name} away, and the feeds begin a new one."
        ) from error


def _bar_store(home: Home, *, anyway: bool) -> tuple[dict[str, int] | None, str | None]:
    """Make the store again where it is damaged; return the rows kept by table, and the name of the old file."""
    path = home.bars_db
    if not path.exists() or not (anyway or store_problem(path) or not _is_whole(path)):
        return None, None
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    try:
        kept = salvage(path, new)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):  # a full disk, say: then what is salvaged is not all there is
            _remove(new)
            raise UserError(f"The bar store could not be made again, and is as it was ({error}).") from error
        kept = {}  # not even its list of tables can be read
    aside = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}.old")
    for one, other in zip(_files(path), _files(aside), strict=True):
        if one.exists():
            one.replace(other)
    if new.exists():
        new.replace(path)
    forget_damage(path)
    return kept, aside.name


def _is_whole(path: Path) -> bool:
    try:
        with closing(open_for_reading(path).conn) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except StoreMissingError:
        return True
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return False
        raise UserError(f"The bar store could not be checked, and is as it was ({error}).") from error


def _remove(path: Path) -> None:
    for one in _files(path):
        one.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("", "-wal", "-shm")]


def _as_text(blocks: int, ticks: int, kept: dict[str, int] | None, old: str | None) -> str:
    lines = ["tick log   every block can be read"]
    if blocks:
        lines = [
            f"tick log   {blocks:,} damaged blocks with {ticks:,} ticks are put aside; get these ticks again from their"
            " source"
        ]
    if kept is None:
        return "\n".join([*lines, "bar store  not damaged"])
    rows = ", ".join(f"{count:,} {table}" for table, count in kept.items() if count) or "nothing"
    return "\n".join(
        [
            *lines,
            f"bar store  made again, with what can be read of the old one: {rows}",
            f"           the old one is kept as {old}; delete it when all is well",
            "           Start Barmill with ./barmill up, so that jobs read the tick log again; then ./barmill verify.",
        ]
    )
