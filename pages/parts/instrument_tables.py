"""The tables of the instruments page: worked out here, placed by the page. Pure."""

import hashlib
import json
from collections.abc import Sequence
from urllib.parse import quote

import polars as pl

from bar.number_text import number_text
from charts.texts import age
from control.instruments.listing import Listing
from control.instruments.report import Line
from control.instruments.store import CatalogueState, Instrument

# So long after it was asked for, a catalogue that has not come needs an explanation.
_PATIENCE_MS = 15_000


def pick_table(catalogue: Sequence[Instrument]) -> pl.DataFrame:
    """Return what there is to pick; nothing in it moves by itself, so that rows stay where somebody selected them."""
    return pl.DataFrame(
        [(one.instrument, one.enabled, one.description, one.price_decimals, one.has_volume) for one in catalogue],
        {
            "Instrument": pl.String(),
            "Enabled": pl.Boolean(),
            "Description": pl.String(),
            "Decimals": pl.Int64(),
            "Volume": pl.Boolean(),
        },
        orient="row",
    )


def version(catalogue: Sequence[Instrument]) -> str:
    """Return a short name of what pick_table shows: another one as soon as a row would be another."""
    shown = [[one.instrument, one.enabled] for one in catalogue]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:12]


def live_table(listings: Sequence[Listing], decimals: dict[str, int | None], now_ms: int, most: int) -> pl.DataFrame:
    """Return what moves, the busiest first, `most` rows at most; silence is in seconds, so that it can be sorted."""
    busiest = sorted(listings, key=lambda one: (-one.ticks_per_s, -(one.last_tick_ms or 0), one.instrument))
    return pl.DataFrame(
        [
            (
                one.instrument,
                number_text(one.last_price, decimals.get(one.instrument) or 0),
                one.ticks_per_s,
                None if one.last_tick_ms is None else max(0, now_ms - one.last_tick_ms) / 1_000,
                _state(one),
                f"chart?instrument={quote(one.instrument, safe='')}",
            )
            for one in busiest[:most]
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


def report_table(report: Sequence[Line]) -> pl.DataFrame:
    """Return what becomes of each name of a list, what is wrong first."""
    lines = sorted(report, key=lambda line: not line.outcome.wrong)
    return pl.DataFrame(
        [(line.number, line.text[:64], line.instrument or "", line.outcome.value) for line in lines],
        {"Line": pl.Int64(), "Name": pl.String(), "Instrument": pl.String(), "Outcome": pl.String()},
        orient="row",
    )


def catalogue_line(catalogue: Sequence[Instrument], state: CatalogueState, now_ms: int) -> str:
    """Say in one line how much of the catalogue is enabled, how old it is, and what is on its way or wrong."""
    enabled = sum(one.enabled for one in catalogue)
    said = [f"{enabled:,} of {len(catalogue):,} enabled"]
    if state.fetched_ms is not None:
        said.append(f"catalogue fetched {age(now_ms - state.fetched_ms)} ago")
    if state.requested_ms is not None:
        waited_ms = now_ms - state.requested_ms
        late = "; the feed has not answered, see Overview" if waited_ms > _PATIENCE_MS else ""
        said.append(f"asked for a new one {age(waited_ms)} ago{late}")
    return ", ".join(said) + "."


def _state(one: Listing) -> str:
    if not one.enabled:
        return "disabled"
    if one.last_tick_ms is None:
        return "no tick yet"
    return "stale" if one.stale else "live"
