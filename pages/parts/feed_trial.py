"""Trying the settings of a feed before they are saved: the raw answer, and what would become of it, side by side."""

from collections.abc import Callable

import polars as pl
import streamlit as st

from bar.number_text import number_text
from charts.texts import plain
from control.home import Home
from control.people.roles import Permission
from feed.trial import Trial
from feed.trial_on_behalf import Triable, tried
from pages.parts.told import attempt, tell
from pages.parts.visitor import require

_FOUND, _SAID = "feed_trial_found", "feed_trial_said"
_NUMBERS = {"price_open": "Open", "price_close": "Close", "volume": "Volume"}
_ROWS_SHOWN = 100


# What is to be tried, read when it is asked for: settings and the name of a key.
Given = Callable[[], tuple[object, str | None]]


def feed_trial(home: Home, given: Given) -> None:
    """Offer to try these settings, and show what the last trial of just these found."""
    st.button("Try it", icon=":material/bolt:", key="feed_trial", on_click=_try, args=(home, given))
    tell(_SAID)
    tried_settings, found = st.session_state.get(_FOUND, (None, None))
    if found is not None and tried_settings == given():
        _show(found)


def _try(home: Home, given: Given) -> None:
    actor = require(Permission.MANAGE_FEEDS).actor

    def work() -> str:
        settings, key_name = given()
        if isinstance(settings, Triable):
            st.session_state[_FOUND] = ((settings, key_name), tried(home, actor, settings, key_name))
        return ""

    st.session_state.pop(_FOUND, None)
    attempt(_SAID, work)


def _show(found: Trial) -> None:
    if found.problem:
        st.error(plain(found.problem), icon=":material/error:")
    else:
        st.success(found.outcome, icon=":material/check:")
    for note in found.notes:
        st.info(plain(note), icon=":material/info:")
    raw, mapped = st.columns(2)
    with raw:
        st.subheader("What came", anchor=False)
        st.caption(f"In {found.took_ms:.0f} ms, after this was sent:")
        st.code(found.request_shown_without_key, language="http", wrap_lines=True)
        st.code(found.raw_text or "Nothing.", language="json", height=420)
    with mapped:
        st.subheader("What it becomes", anchor=False)
        _table("Ticks", _shown_ticks(found.ticks))
        _table("Rejects", _shown_rejects(found.rejects))


def _table(title: str, rows: pl.DataFrame) -> None:
    st.caption(f"{title}: {rows.height:,}" if rows.height <= _ROWS_SHOWN else f"{title}: the first {_ROWS_SHOWN}")
    if rows.height:
        st.dataframe(rows.head(_ROWS_SHOWN), hide_index=True, key=f"feed_trial_{title.lower()}", placeholder="–")


def _exact(numbers: pl.Series, label: str) -> pl.Series:
    """Return numbers as texts, since a table rounds what it takes for a number."""
    return pl.Series(label, [None if one is None else number_text(one) for one in numbers], pl.String)


def _shown_ticks(ticks: pl.DataFrame) -> pl.DataFrame:
    if ticks.is_empty():
        return ticks
    return ticks.select(
        pl.from_epoch("time_ns", time_unit="ns").dt.strftime("%Y-%m-%d %H:%M:%S%.3f").alias("Time (UTC)"),
        pl.col("instrument").alias("Instrument"),
        *(_exact(ticks[name], label) for name, label in _NUMBERS.items()),
        pl.coalesce(pl.col("id").cast(pl.String), "id_text").alias("Id"),
    )


def _shown_rejects(rejects: pl.DataFrame) -> pl.DataFrame:
    if rejects.is_empty():
        return rejects
    return rejects.select(
        pl.col("detail").alias("Why"),
        pl.col("time").alias("Time"),
        pl.col("instrument").alias("Instrument"),
        pl.col("price_open").alias("Price"),
        pl.col("volume").alias("Volume"),
        pl.col("id").alias("Id"),
    )
