"""The watchlist: a table that updates in place, with rows that open charts and stars that mark favourites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from barmill.charts.watchlist import Columns, Sparklines
from control.freshness.judge import Freshness
from pages.parts.shared.browser_code import browser_code, update

_KEY = "watchlist"
_HEADERS = {
    "instrument": ("Instrument", "ascending"),
    "last": ("Last", "none"),
    "change_1m": ("1 m", "none"),
    "change_1h": ("1 h", "none"),
    "change_1d": ("1 d", "none"),
    "rate": ("Ticks/s", "none"),
    "age_ms": ("Last tick", "none"),
}
_HTML = (
    '<section class="barmill-watchlist" aria-label="Watchlist"><div class="barmill-watchlist-tools">'
    '<input type="search" placeholder="Filter" aria-label="Filter the watchlist"><output></output>'
    '<p role="alert" hidden></p></div><div class="barmill-watchlist-rows"><table><thead><tr>'
    '<th scope="col"><span class="barmill-unseen">Favourite</span></th>'
    + "".join(
        f'<th scope="col" data-column="{name}" aria-sort="{order}"><button type="button">{head}</button></th>'
        for name, (head, order) in _HEADERS.items()
    )
    + "</tr></thead><tbody></tbody></table></div></section>"
)

_table = st.components.v2.component(
    "barmill_watchlist",
    html=_HTML,
    css=browser_code("watchlist/watchlist.css"),
    js=browser_code("cleanup.js", "numbers.js", "watchlist/watchlist.js"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Watchlist:
    """The content of the table: the latest prices, and their freshness."""

    read_ms: int
    columns: Columns
    lines: Sparklines
    freshness: Freshness


def watchlist_table(
    watchlist: Watchlist, favourites: Sequence[str], frame: str, on_starred: Callable[[list[str], list[str]], None]
) -> str | None:
    """Add the table to the page; return the instrument of a clicked row, once.

    frame: the frame of the charts that its rows open. on_starred: called with the added and the removed favourites.
    """

    def starred() -> None:
        changed = st.session_state[_KEY]["starred"]
        on_starred([name for name in changed if changed[name]], [name for name in changed if not changed[name]])

    data = _message(watchlist) | {"favourites": list(favourites), "frame": frame}
    opened = _table(key=_KEY, data=data, on_opened_change=_rerun, on_starred_change=starred).opened
    return None if opened is None else str(opened)


def watchlist_update(watchlist: Watchlist) -> None:
    """Send the table its current content; call this every second, in a fragment."""
    update(_KEY, _message(watchlist))


def _message(watchlist: Watchlist) -> dict[str, object]:
    status = {"stale": watchlist.freshness.stale, "sentence": watchlist.freshness.sentence}
    return {"read_ms": watchlist.read_ms, "columns": watchlist.columns, "lines": watchlist.lines, "status": status}


def _rerun() -> None:
    """Do nothing: the listener itself makes a click rerun the page."""
