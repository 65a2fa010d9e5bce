"""The tables of feeds and instruments on the pages; without I/O."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

import polars as pl

from barmill.ingest.connection.state import Phase
from barmill.ingest.feeds.instrument_listing import Listing
from barmill.ingest.feeds.views import FeedView
from barmill.ingest.instruments.names import NameOutcome
from barmill.ingest.instruments.store import CatalogueState, Instrument
from barmill.platform.texts import age, number_text

# A catalogue that has not arrived this long after the request needs an explanation.
_CATALOGUE_TIMEOUT_MS = 15_000


def instrument_table(catalogue: Sequence[Instrument]) -> pl.DataFrame:
    """Return the table of instruments; its rows keep their order, so a user's selection remains valid."""
    return pl.DataFrame(
        [
            (
                instrument.instrument,
                instrument.enabled,
                instrument.description,
                instrument.price_decimals,
                instrument.has_volume,
            )
            for instrument in catalogue
        ],
        {
            "Instrument": pl.String(),
            "Enabled": pl.Boolean(),
            "Description": pl.String(),
            "Decimals": pl.Int64(),
            "Volume": pl.Boolean(),
        },
        orient="row",
    )


def catalogue_hash(catalogue: Sequence[Instrument]) -> str:
    """Return a short hash of the instruments' names and of which are enabled, to detect changes of the catalogue."""
    enabled_by_name = [[instrument.instrument, instrument.enabled] for instrument in catalogue]
    return hashlib.sha256(json.dumps(enabled_by_name).encode()).hexdigest()[:12]


def live_table(listings: Sequence[Listing], decimals: dict[str, int | None], now_ms: int, limit: int) -> pl.DataFrame:
    """Return the table of activity, busiest first, at most `limit` rows; silence is in seconds so that it sorts."""
    busiest = sorted(
        listings, key=lambda listing: (-listing.ticks_per_s, -(listing.last_tick_ms or 0), listing.instrument)
    )
    return pl.DataFrame(
        [
            (
                listing.instrument,
                number_text(listing.last_price, decimals.get(listing.instrument) or 0),
                listing.ticks_per_s,
                None if listing.last_tick_ms is None else max(0, now_ms - listing.last_tick_ms) / 1_000,
                _activity_state(listing),
                f"chart?instrument={quote(listing.instrument, safe='')}",
            )
            for listing in busiest[:limit]
        ],
        {
            "Instrument": pl.String(),
            "Last price": pl.String(),
            "Ticks/s": pl.Float64(),
            "Silent for": pl.Float64(),
            "State": pl.String(),
            "Chart": pl.String(),
        },
        orient="row",
    )


def report_table(report: Sequence[NameOutcome]) -> pl.DataFrame:
    """Return the outcome of each name in a list, problems first."""
    lines = sorted(report, key=lambda line: not line.outcome.is_error)
    return pl.DataFrame(
        [(line.number, line.text[:64], line.instrument or "", line.outcome.value) for line in lines],
        {"Line": pl.Int64(), "Name": pl.String(), "Instrument": pl.String(), "Outcome": pl.String()},
        orient="row",
    )


def catalogue_line(catalogue: Sequence[Instrument], state: CatalogueState, now_ms: int) -> str:
    """Return one line on the enabled share of the catalogue, its age, and pending or overdue requests."""
    enabled = sum(instrument.enabled for instrument in catalogue)
    facts = [f"{enabled:,} of {len(catalogue):,} enabled"]
    if state.fetched_ms is not None:
        facts.append(f"catalogue fetched {age(now_ms - state.fetched_ms)} ago")
    if state.requested_ms is not None:
        waited_ms = now_ms - state.requested_ms
        overdue_text = "; the feed has not responded, see Overview" if waited_ms > _CATALOGUE_TIMEOUT_MS else ""
        facts.append(f"new catalogue requested {age(waited_ms)} ago{overdue_text}")
    return ", ".join(facts) + "."


def _activity_state(listing: Listing) -> str:
    if not listing.enabled:
        return "disabled"
    if listing.last_tick_ms is None:
        return "no tick yet"
    return "stale" if listing.stale else "live"


_MAX_STALE_NAMES = 3
_HEALTHY_PHASES = frozenset({Phase.RECEIVING.value, Phase.IDLE.value})


def feed_table(views: Sequence[FeedView], now_ms: int) -> pl.DataFrame:
    """Return one row per feed."""
    return pl.DataFrame([_feed_row(view, now_ms) for view in views])


def state_color(view: FeedView) -> Literal["green", "orange", "red", "gray"]:
    """Return the colour of a feed's state."""
    if not view.feed.enabled:
        return "gray"
    return "red" if view.needs_action or view.state is None else "green" if view.phase in _HEALTHY_PHASES else "orange"


def _feed_row(view: FeedView, now_ms: int) -> dict[str, object]:
    state = view.state
    return {
        "Feed": view.feed.name,
        "Kind": view.feed.kind,
        "State": view.phase,
        "In state for": _age(state.since_ms if state else None, now_ms),
        "Last message": _age(state.heard_ms if state else None, now_ms),
        "Ticks/s": round(view.ticks_per_s, 1),
        "Rejected": view.source.rejected if view.source else 0,
        "Clock, ms": None if state is None or state.skew_ms is None else round(state.skew_ms),
        "Connections": state.connects if state else None,
        "Gaps": state.gaps if state else None,
        "Backfilled": state.backfilled if state else None,
        "Missing": state.missing if state else None,
        "Reused ids": view.source.reused_ids if view.source else 0,
        "Stale": _stale_names_text(state.stale) if state else "",
        "Details": view.sentence,
    }


def _age(at_ms: int | None, now_ms: int) -> str:
    return "–" if at_ms is None else age(now_ms - at_ms)


def _stale_names_text(names: Sequence[str]) -> str:
    remaining_text = f" and {len(names) - _MAX_STALE_NAMES:,} more" if len(names) > _MAX_STALE_NAMES else ""
    return ", ".join(names[:_MAX_STALE_NAMES]) + remaining_text
