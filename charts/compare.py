"""Several instruments on one scale: each price in percent of the instrument's own price at the start of the range."""

from collections.abc import Mapping

import plotly.graph_objects as go
import polars as pl

from bar.model import BarState
from bar.number_text import number_text
from charts.candles import price_decimals
from charts.texts import change

INDEXED_SCHEMA = {"time_ms": pl.Int64(), "value": pl.Float64()}
_HEIGHT_PX = 460
_DAY_MS = 86_400_000
_START = 100.0
_SIGNIFICANT = 7
_NUMBERS = ("Start", "Last", "Change", "High", "Low")
_MARGIN = 0.06

Indexed = Mapping[str, pl.DataFrame]  # by instrument: INDEXED_SCHEMA, oldest first; empty where it has no bars


def indexed(bars: pl.DataFrame) -> pl.DataFrame:
    """Return how the price went (INDEXED_SCHEMA), 100 being where the first of these bars (BAR_SCHEMA) opened.

    A closing price stands at the end of its bar; that of a bar still forming at its last tick.
    """
    if not bars.height:
        return pl.DataFrame(schema=INDEXED_SCHEMA)
    forming = pl.col("state") == BarState.FORMING.value
    closes = bars.select(
        time_ms=pl.when(forming).then(pl.col("last_tick_ms")).otherwise(pl.col("end_ms")),
        value=(pl.col("close") / bars["open"][0] * _START).round_sig_figs(_SIGNIFICANT),
    )
    first = pl.DataFrame({"time_ms": bars["start_ms"][:1], "value": [_START]}, INDEXED_SCHEMA)
    return pl.concat([first, closes])


def compare_figure(lines: Indexed, from_ms: int, to_ms: int) -> go.Figure:
    """Draw the lines from `from_ms` to `to_ms`. A zoom lasts: Plotly keeps the range of time, but for its least."""
    values = [_START, *(value for line in lines.values() for value in line["value"])]
    margin = _MARGIN * (max(values) - min(values)) or 0.1
    figure = go.Figure(
        [
            go.Scatter(
                x=line["time_ms"].to_list(),
                y=line["value"].to_list(),
                name=instrument,
                mode="lines",
                line={"width": 1.75},
                hovertemplate="%{y:.3f}",
            )
            for instrument, line in lines.items()
        ]
    )
    figure.add_hline(y=_START, line_width=1, line_dash="dot", line_color="#7c8794")
    return figure.update_layout(
        height=_HEIGHT_PX,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        hovermode="x unified",
        uirevision="compare",
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        xaxis={
            "type": "date",
            "autorangeoptions": {"include": [from_ms, to_ms]},
            "tickformat": "%H:%M" if to_ms - from_ms <= _DAY_MS else "%b %-d",
            "hoverformat": "%b %-d, %H:%M:%S",
            "showspikes": True,
            "spikemode": "across",
            "spikesnap": "cursor",
            "spikethickness": 1,
            "spikedash": "dot",
        },
        yaxis={
            "title": "Start = 100",
            "range": [min(values) - margin, max(values) + margin],
            "fixedrange": True,
            "automargin": True,
            "side": "right",
        },
    )


def compare_in_words(lines: Indexed) -> str:
    """Say in a sentence how much each instrument moved, the best first."""
    moved = {instrument: line["value"][-1] / _START - 1 for instrument, line in lines.items() if line.height}
    if not moved:
        return "Prices of several instruments; none of them has bars in this time."
    ranked = sorted(moved, key=lambda instrument: moved[instrument], reverse=True)
    said = ", ".join(f"{name} {'up' if moved[name] >= 0 else 'down'} {abs(moved[name]):.2%}" for name in ranked)
    return f"Prices since the start of the range: {said.replace('%', ' percent')}."


def compare_table(bars: Mapping[str, pl.DataFrame]) -> list[dict[str, str]]:
    """Return a row for each instrument from its bars (BAR_SCHEMA): where it began, where it is, how it moved."""
    return [_row(instrument, of_one) for instrument, of_one in bars.items()]


def _row(instrument: str, bars: pl.DataFrame) -> dict[str, str]:
    if not bars.height:
        return {"Instrument": instrument} | dict.fromkeys(_NUMBERS, "–")
    decimals, first, last = price_decimals(bars), bars["open"][0], bars["close"][-1]
    prices = {"Start": first, "Last": last, "High": max(bars["high"]), "Low": min(bars["low"])}
    printed = {name: number_text(price, decimals) for name, price in prices.items()}
    return {
        "Instrument": instrument,
        "Start": printed["Start"],
        "Last": printed["Last"],
        "Change": change(last / first - 1),
        "High": printed["High"],
        "Low": printed["Low"],
    }
