"""Is the app well? For whoever watches over it, without a session; it gives nothing away."""

import sqlite3
from contextlib import closing
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from streamlit import runtime

from bar.damage import store_problem
from bar.sqlite_file import StoreMissingError, open_for_reading
from control.home import Home

_THREADS = 2
_MISSING = "not there yet"


class Health:
    """The handler over one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._threads = CapacityLimiter(_THREADS)  # used for nothing else, so that no other request keeps it waiting

    async def answer(self, _request: Request) -> Response:
        """Say how the app and its stores are; the status is 200 only if all is well."""
        stores = {"control": self._home.control_db, "ticks": self._home.ticks_db, "bars": self._home.bars_db}
        found = {name: await to_thread.run_sync(_store, path, limiter=self._threads) for name, path in stores.items()}
        serving = runtime.exists() and (await runtime.get_instance().is_ready_for_browser_connection)[0]
        if found["bars"] != _MISSING and store_problem(self._home.bars_db):
            found["bars"] = "damaged"
        well = serving and "damaged" not in found.values() and "unreadable" not in found.values()
        content = {"status": "ok" if well else "failing", "app": "ok" if serving else "failing", "stores": found}
        return JSONResponse(content, 200 if well else 503, {"Cache-Control": "no-store"})


def _store(path: Path) -> str:
    """Say how a store is. That nobody has written into it yet is no failure."""
    try:
        with closing(open_for_reading(path).conn) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except StoreMissingError:
        return _MISSING
    except (sqlite3.Error, OSError):
        return "unreadable"
    return "ok"
