"""Comparison of several instruments: each price in percent of the instrument's price at the start of the range."""

from collections.abc import Mapping

import plotly.graph_objects as go
import polars as pl

from barmill.charts.candles import price_decimals
from barmill.model.bar import BarState
from barmill.platform.clock import MS_PER_DAY
from barmill.platform.texts import change, number_text

INDEXED_SCHEMA = {"time_ms": pl.Int64(), "value": pl.Float64()}
_HEIGHT_PX = 460
_START_VALUE = 100.0
_SIGNIFICANT_DIGITS = 7
_NUMBER_COLUMNS = ("Start", "Last", "Change", "High", "Low")
_MARGIN = 0.06

IndexedPrices = Mapping[str, pl.DataFrame]  # by instrument: INDEXED_SCHEMA, oldest first; empty if it has no bars


def index_prices(bars: pl.DataFrame) -> pl.DataFrame:
    """Return the price over time (INDEXED_SCHEMA), where 100 is the opening price of the first bar (BAR_SCHEMA).

    A closing price is at the end of its bar; the price of a forming bar is at its last tick.
    """
    if not bars.height:
        return pl.DataFrame(schema=INDEXED_SCHEMA)
    forming = pl.col("state") == BarState.FORMING.value
    closes = bars.select(
        time_ms=pl.when(forming).then(pl.col("last_tick_ms")).otherwise(pl.col("end_ms")),
        value=(pl.col("close") / bars["open"][0] * _START_VALUE).round_sig_figs(_SIGNIFICANT_DIGITS),
    )
    first = pl.DataFrame({"time_ms": bars["start_ms"][:1], "value": [_START_VALUE]}, INDEXED_SCHEMA)
    return pl.concat([first, closes])


def compare_figure(lines: IndexedPrices, from_ms: int, to_ms: int) -> go.Figure:
    """Return a figure that shows at least `from_ms` to `to_ms`; a zoom persists, because no fixed range is set."""
    values = [_START_VALUE, *(value for line in lines.values() for value in line["value"])]
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
    figure.add_hline(y=_START_VALUE, line_width=1, line_dash="dot", line_color="#7c8794")
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
            "tickformat": "%H:%M" if to_ms - from_ms <= MS_PER_DAY else "%b %-d",
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


def describe_comparison(lines: IndexedPrices) -> str:
    """Return a sentence about how much each instrument moved, the largest gain first."""
    changes = {instrument: line["value"][-1] / _START_VALUE - 1 for instrument, line in lines.items() if line.height}
    if not changes:
        return "Prices of several instruments; none of them has bars in this range."
    ranked = sorted(changes, key=lambda instrument: changes[instrument], reverse=True)
    text = ", ".join(f"{name} {'up' if changes[name] >= 0 else 'down'} {abs(changes[name]):.2%}" for name in ranked)
    return f"Prices since the start of the range: {text.replace('%', ' percent')}."


def compare_table(bars: Mapping[str, pl.DataFrame]) -> list[dict[str, str]]:
    """Return one row per instrument from its bars (BAR_SCHEMA): start, last, change, high and low."""
    return [_row(instrument, instrument_bars) for instrument, instrument_bars in bars.items()]


def _row(instrument: str, bars: pl.DataFrame) -> dict[str, str]:
    if not bars.height:
        return {"Instrument": instrument} | dict.fromkeys(_NUMBER_COLUMNS, "–")
    decimals, first, last = price_decimals(bars), bars["open"][0], bars["close"][-1]
    prices = {"Start": first, "Last": last, "High": max(bars["high"]), "Low": min(bars["low"])}
    texts = {name: number_text(price, decimals) for name, price in prices.items()}
    return {
        "Instrument": instrument,
        "Start": texts["Start"],
        "Last": texts["Last"],
        "Change": change(last / first - 1),
        "High": texts["High"],
        "Low": texts["Low"],
    }
