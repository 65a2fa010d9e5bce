"""REST feeds that are ready to be added, written from the public documentation of their providers.

What differs from the provider's own default, such as a slower period, keeps within what its free plan allows.
"""

import json
from collections.abc import Mapping

from feed.mapping.row_mapping import RowMapping
from feed.providers.ready_made import ReadyMade
from feed.providers.rest.settings import Catalogue, Pages, RestFeed

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


def _ready(label: str, settings: RestFeed, note: str) -> ReadyMade:
    given = settings.model_dump(mode="json", exclude_defaults=True)
    return ReadyMade(label, "rest", json.dumps(given, indent=2), needs_key=True, note=note)


READY_MADE_REST: Mapping[str, ReadyMade] = {
    "finnhub-quotes": _ready(
        "Finnhub, last prices",
        FINNHUB_QUOTES,
        "The last price of each instrument, to the second, without volume. One question for each, so with the 60 a"
        " minute of the free plan, five instruments are asked for every five seconds. Finnhub's trades by WebSocket"
        " are complete, and these are not.",
    ),
    "twelve-data-minutes": _ready(
        "Twelve Data, minutes",
        TWELVE_DATA_MINUTES,
        "One tick for each minute that is over, from its opening to its closing price, with its volume; its high and"
        " low are lost, since the provider has no single trades. The free plan has 8 questions a minute.",
    ),
    "alpaca-trades": _ready(
        "Alpaca, all trades",
        ALPACA_TRADES,
        "Every trade, page by page. Store the key as ID:SECRET. The free plan has the exchange IEX; with all exchanges,"
        ' write "feed": "sip".',
    ),
    "alpaca-latest": _ready(
        "Alpaca, latest trades",
        ALPACA_LATEST,
        "The latest trade of each of many instruments in one question; trades between two polls are not seen. Store the"
        " key as ID:SECRET.",
    ),
    "oanda-prices": _ready(
        "OANDA, prices",
        OANDA_PRICES,
        "The middle of the best bid and ask. Write your account's number, such as 101-004-1234567-001, in place of"
        " ACCOUNT, and api-fxtrade.oanda.com for a live account.",
    ),
    "massive-trades": _ready(
        "Massive (Polygon), all trades",
        MASSIVE_TRADES,
        "Every trade, page by page, with the times of the consolidated tape; needs a plan with trades.",
    ),
    "massive-last-trade": _ready(
        "Massive (Polygon), last trade",
        MASSIVE_LAST_TRADE,
        "The last trade of each instrument; trades between two polls are not seen.",
    ),
}
