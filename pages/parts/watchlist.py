"""The watchlist on the page: a table that changes in place, whose rows open charts and whose stars are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from charts.watchlist import Columns, Lines
from control.freshness.judge import Freshness
from pages.parts.browser_code import browser_code
from pages.parts.update import update

_KEY = "watchlist"
_HEADS = {
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
        for name, (head, order) in _HEADS.items()
    )
    + "</tr></thead><tbody></tbody></table></div></section>"
)

_table = st.components.v2.component(
    "barmill_watchlist",
    html=_HTML,
    css=browser_code("watchlist/watchlist.css"),
    js=browser_code("lasting.js", "numbers.js", "watchlist/watchlist.js"),
    isolate_styles=False,
)


@dataclass(frozen=True)
class Watchlist:
    """What the table shows: where each instrument stands, and whether that still moves."""

    read_ms: int
    columns: Columns
    lines: Lines
    fresh: Freshness


def watchlist_table(
    shown: Watchlist, favourites: Sequence[str], frame: str, on_starred: Callable[[list[str], list[str]], None]
) -> str | None:
    """Put the table on the page; return the instrument whose row was clicked, once.

    frame: of the charts that its rows open. on_starred: called with what became a favourite, and what no longer is one.
    """

    def starred() -> None:
        changed = st.session_state[_KEY]["starred"]
        on_starred([name for name in changed if changed[name]], [name for name in changed if not changed[name]])

    data = _message(shown) | {"favourites": list(favourites), "frame": frame}
    opened = _table(key=_KEY, data=data, on_opened_change=_rerun, on_starred_change=starred).opened
    return None if opened is None else str(opened)


def watchlist_update(shown: Watchlist) -> None:
    """Send the table what it shows now; call this every second, in a fragment."""
    update(_KEY, _message(shown))


def _message(shown: Watchlist) -> dict[str, object]:
    status = {"stale": shown.fresh.stale, "sentence": shown.fresh.sentence}
    return {"read_ms": shown.read_ms, "columns": shown.columns, "lines": shown.lines, "status": status}


def _rerun() -> None:
    """Do nothing: that there is a listener makes a click run the page again."""
