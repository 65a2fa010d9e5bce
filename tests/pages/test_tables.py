import polars as pl

from barmill.charts.watchlist import newest_bars_table
from tests.support.page_bars import NOON_MS, THREE_BARS, of


def test_the_bars_that_changed_last_come_first_and_keep_their_decimals() -> None:
    table = newest_bars_table(pl.concat([THREE_BARS, of("BBB", 9.5, changed_ms=NOON_MS + 190_000)]), count=2)
    assert table.to_dicts() == [
        {
            "Instrument": "AAA/USD",
            "Start, UTC": "12:02:00",
            "Open": "11.000",
            "High": "11.000",
            "Low": "10.125",
            "Close": "10.250",
            "Volume": "2.5",
            "VWAP": "10.500",
            "Ticks": "2",
            "State": "revised",
            "Revision": "2",
            "Changed, UTC": "12:03:20",
        },
        {
            "Instrument": "BBB",
            "Start, UTC": "12:00:00",
            "Open": "10.0",
            "High": "12.0",
            "Low": "8.0",
            "Close": "9.5",
            "Volume": "–",
            "VWAP": "–",
            "Ticks": "4",
            "State": "closed",
            "Revision": "0",
            "Changed, UTC": "12:03:10",
        },
    ]
