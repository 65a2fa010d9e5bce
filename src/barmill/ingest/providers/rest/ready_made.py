"""Predefined REST feeds, based on the public documentation of their providers.

Periods and request rates stay within the limits of a provider's free plan, if that plan includes the prices.
"""

import json
from collections.abc import Mapping

from barmill.ingest.connection.provider import ReadyMade
from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.ingest.providers.rest.settings import Catalogue, Pages, RestFeed

FINNHUB_QUOTES = RestFeed(
    base_url="https://finnhub.io/api/v1",
    path="/quote",
    query={"symbol": "{instrument}"},
    headers={"X-Finnhub-Token": "{key}"},
    instruments=("AAPL",),
    period_s=5,
    requests_per_minute=55,
    rows=RowMapping(time="t", price="c", time_format="s"),
    settle_s=20,
)

TWELVE_DATA_MINUTES = RestFeed(
    base_url="https://api.twelvedata.com",
    path="/time_series",
    query={
        "symbol": "{instrument}",
        "interval": "1min",
        "order": "asc",
        "timezone": "UTC",
        "start_date": "{since_utc}",
        "outputsize": "5000",
    },
    headers={"Authorization": "apikey {key}"},
    instruments=("AAPL",),
    period_s=60,
    requests_per_minute=8,
    start_back_s=1_800,
    hold_s=65,
    rows=RowMapping(
        rows="values",
        time="datetime",
        price_open="open",
        price_close="close",
        volume="volume",
        time_format="%Y-%m-%d %H:%M:%S",
        zone="UTC",
    ),
    code="code",
    said="message",
)

ALPACA_TRADES = RestFeed(
    base_url="https://data.alpaca.markets/v2",
    path="/stocks/{instrument}/trades",
    query={"feed": "iex", "start": "{since_iso}", "limit": "1000", "sort": "asc", "page_token": "{cursor}"},
    headers={"APCA-API-KEY-ID": "{key_id}", "APCA-API-SECRET-KEY": "{key_secret}"},
    instruments=("AAPL",),
    period_s=2,
    requests_per_minute=180,
    rows=RowMapping(rows="trades", time="t", price="p", volume="s", id=("x", "z", "i"), time_format="iso"),
    pages=Pages(cursor="next_page_token"),
)

ALPACA_LATEST = RestFeed(
    base_url="https://data.alpaca.markets/v2",
    path="/stocks/trades/latest",
    query={"symbols": "{instruments}", "feed": "iex"},
    headers={"APCA-API-KEY-ID": "{key_id}", "APCA-API-SECRET-KEY": "{key_secret}"},
    instruments=("AAPL", "MSFT"),
    period_s=1,
    requests_per_minute=180,
    rows=RowMapping(
        rows="trades.*", instrument="{key}", time="t", price="p", volume="s", id=("x", "z", "i"), time_format="iso"
    ),
)

OANDA_PRICES = RestFeed(
    base_url="https://api-fxpractice.oanda.com/v3",
    path="/accounts/ACCOUNT/pricing",
    query={"instruments": "{instruments}", "since": "{since_iso}"},
    headers={"Authorization": "Bearer {key}", "Accept-Datetime-Format": "RFC3339"},
    instruments=("EUR_USD", "USD_JPY"),
    period_s=1,
    rows=RowMapping(
        rows="prices",
        instrument="instrument",
        time="time",
        price_bid="bids[0].price",
        price_ask="asks[0].price",
        time_format="iso",
    ),
    catalogue=Catalogue(
        path="/accounts/ACCOUNT/instruments", rows="instruments", instrument="name", description="displayName"
    ),
)

MASSIVE_TRADES = RestFeed(
    base_url="https://api.massive.com",
    path="/v3/trades/{instrument}",
    query={"timestamp.gte": "{since_ns}", "order": "asc", "sort": "timestamp", "limit": "1000"},
    headers={"Authorization": "Bearer {key}"},
    instruments=("AAPL",),
    period_s=2,
    rows=RowMapping(
        rows="results",
        time="sip_timestamp",
        price="price",
        volume="size",
        id=("exchange", "trf_id", "id"),
        time_format="ns",
    ),
    pages=Pages(url="next_url"),
)

MASSIVE_LAST_TRADE = RestFeed(
    base_url="https://api.massive.com",
    path="/v2/last/trade/{instrument}",
    headers={"Authorization": "Bearer {key}"},
    instruments=("AAPL",),
    period_s=2,
    rows=RowMapping(
        rows="results", instrument="T", time="t", price="p", volume="s", id=("x", "r", "i"), time_format="ns"
    ),
)


def _ready_made(label: str, settings: RestFeed, note: str) -> ReadyMade:
    values = settings.model_dump(mode="json", exclude_defaults=True)
    return ReadyMade(label, "rest", json.dumps(values, indent=2), needs_key=True, note=note)


READY_MADE_REST: Mapping[str, ReadyMade] = {
    "finnhub-quotes": _ready_made(
        "Finnhub, last prices",
        FINNHUB_QUOTES,
        "The last price of each instrument, to the second, without volume. Each instrument needs its own request; the"
        " free plan allows 60 a minute, which is enough for five instruments every five seconds. Trades between two"
        " polls are not seen; the WebSocket feed of Finnhub delivers them all.",
    ),
    "twelve-data-minutes": _ready_made(
        "Twelve Data, minutes",
        TWELVE_DATA_MINUTES,
        "One tick for each completed minute, with its opening and closing price and its volume. High and low are lost,"
        " because the provider has no single trades. The free plan allows 8 requests a minute.",
    ),
    "alpaca-trades": _ready_made(
        "Alpaca, all trades",
        ALPACA_TRADES,
        "Every trade, page by page. Store the key as ID:SECRET. The free plan covers the exchange IEX; for all"
        ' exchanges, set "feed": "sip".',
    ),
    "alpaca-latest": _ready_made(
        "Alpaca, latest trades",
        ALPACA_LATEST,
        "The latest trade of many instruments in one request. Trades between two polls are not seen. Store the key as"
        " ID:SECRET.",
    ),
    "oanda-prices": _ready_made(
        "OANDA, prices",
        OANDA_PRICES,
        "The midpoint of the best bid and ask. Replace ACCOUNT with the number of your account, such as"
        " 101-004-1234567-001; for a live account, use api-fxtrade.oanda.com.",
    ),
    "massive-trades": _ready_made(
        "Massive (Polygon), all trades",
        MASSIVE_TRADES,
        "Every trade, page by page, with the times of the consolidated tape. Requires a plan that includes trades.",
    ),
    "massive-last-trade": _ready_made(
        "Massive (Polygon), last trade",
        MASSIVE_LAST_TRADE,
        "The last trade of each instrument. Trades between two polls are not seen.",
    ),
}
