"""Predefined settings for WebSocket feeds of well-known providers, based on their public documentation."""

from collections.abc import Mapping

from barmill.ingest.mapping.row_mapping import RowMapping
from barmill.ingest.providers.websocket.settings import Backfill, KeyLocation, Match, WebSocketFeed

# https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams. Aggregated trades (fills of one order at
# one price count as one), because their history is available without a key.
BINANCE = WebSocketFeed(
    url="wss://stream.binance.com:9443/ws",
    instruments=("BTCUSDT", "ETHUSDT"),
    subscribe=({"method": "SUBSCRIBE", "params": ["{instrument_lower}@aggTrade"], "id": "{number}"},),
    unsubscribe=({"method": "UNSUBSCRIBE", "params": ["{instrument_lower}@aggTrade"], "id": "{number}"},),
    per_message=100,
    per_connection=1_000,
    messages_per_s=4,
    limited=(Match(path="error.msg", contains="too many"),),
    complaints=(Match(path="error"), Match(path="code")),
    prices=(Match(path="e", equals="aggTrade"),),
    acks=(Match(path="id"),),
    ignored=(Match(path="e", equals="serverShutdown"),),
    server_time="E",
    rows=RowMapping(time="T", instrument="s", price="p", volume="q", id="a", time_format="ms"),
    consecutive_ids=True,
    limited_codes=(1008,),
    backfill=Backfill(
        url="https://api.binance.com/api/v3/aggTrades",
        parameters={"symbol": "{instrument}", "fromId": "{from_id}", "limit": "{limit}"},
        by="from_id",
        rows=RowMapping(time="T", price="p", volume="q", id="a", time_format="ms"),
    ),
)

# https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
COINBASE = WebSocketFeed(
    url="wss://ws-feed.exchange.coinbase.com",
    instruments=("BTC-USD", "ETH-USD"),
    subscribe=({"type": "subscribe", "product_ids": ["{instrument}"], "channels": ["matches", "heartbeat"]},),
    unsubscribe=({"type": "unsubscribe", "product_ids": ["{instrument}"], "channels": ["matches", "heartbeat"]},),
    per_message=50,
    per_connection=100,
    limited=(Match(path="message", contains="rate limit"), Match(path="reason", contains="rate limit")),
    complaints=(Match(path="type", equals="error"),),
    snapshots=(Match(path="type", equals="last_match"),),
    prices=(Match(path="type", equals="match"),),
    heartbeats=(Match(path="type", equals="heartbeat"),),
    acks=(Match(path="type", equals="subscriptions"),),
    server_time="time",
    rows=RowMapping(time="time", instrument="product_id", price="price", volume="size", id="trade_id"),
    consecutive_ids=True,
    backfill=Backfill(
        url="https://api.exchange.coinbase.com/products/{instrument}/trades",
        parameters={"after": "{before_id}", "limit": "{limit}"},
        by="before_id",
        rows=RowMapping(time="time", price="price", volume="size", id="trade_id"),
    ),
)

# https://docs.kraken.com/api/docs/websocket-v2/trade. Ids rise, but Kraken does not guarantee that they are
# consecutive.
KRAKEN = WebSocketFeed(
    url="wss://ws.kraken.com/v2",
    instruments=("BTC/USD", "ETH/USD"),
    subscribe=(
        {
            "method": "subscribe",
            "params": {"channel": "trade", "symbol": ["{instrument}"], "snapshot": True},
            "req_id": "{number}",
        },
    ),
    unsubscribe=(
        {"method": "unsubscribe", "params": {"channel": "trade", "symbol": ["{instrument}"]}, "req_id": "{number}"},
    ),
    per_message=100,
    per_connection=250,
    ping={"method": "ping", "req_id": "{number}"},
    ping_s=1,
    limited=(Match(path="error", contains="rate"),),
    complaints=(Match(path="success", equals=False),),
    snapshots=(Match(path="type", equals="snapshot"),),
    prices=(Match(path="channel", equals="trade"),),
    heartbeats=(Match(path="channel", equals="heartbeat"), Match(path="method", equals="pong")),
    acks=(Match(path="method", equals="subscribe"), Match(path="method", equals="unsubscribe")),
    acks_per="instrument",
    ignored=(Match(path="channel", equals="status"),),
    server_time="time_out",
    rows=RowMapping(rows="data", time="timestamp", instrument="symbol", price="price", volume="qty", id="trade_id"),
    backfill=Backfill(
        url="https://api.kraken.com/0/public/Trades",
        parameters={"pair": "{instrument_plain}", "since": "{from_ns}", "count": "{limit}"},
        by="from_time",
        rows=RowMapping(rows="result.*[*]", time="[2]", price="[0]", volume="[1]", id="[6]", time_format="s"),
        per_s=1,
        limited=(Match(path="error", contains="Rate limit"), Match(path="error", contains="Too many requests")),
        errors=(Match(path="error[0]"),),
    ),
)

# https://docs.kraken.com/api/docs/futures-api/websocket/trade. A new connection sends the newest hundred trades of each
# product.
KRAKEN_FUTURES = WebSocketFeed(
    url="wss://futures.kraken.com/ws/v1",
    instruments=("PI_XBTUSD", "PI_ETHUSD"),
    subscribe=({"event": "subscribe", "feed": "trade", "product_ids": ["{instrument}"]},),
    unsubscribe=({"event": "unsubscribe", "feed": "trade", "product_ids": ["{instrument}"]},),
    per_message=50,
    per_connection=100,
    limited=(Match(path="message", contains="limit"),),
    complaints=(Match(path="event", equals="error"), Match(path="event", equals="alert")),
    snapshots=(Match(path="feed", equals="trade_snapshot"),),
    prices=(Match(path="feed", equals="trade"),),
    acks=(Match(path="event", equals="subscribed"), Match(path="event", equals="unsubscribed")),
    acks_per="instrument",
    ignored=(Match(path="event", equals="info"),),
    rows=RowMapping(time="time", instrument="product_id", price="price", volume="qty", id="seq", time_format="ms"),
    snapshot_rows=RowMapping(
        rows="trades", time="time", instrument="product_id", price="price", volume="qty", id="seq", time_format="ms"
    ),
    snapshot_order="newest_first",
    consecutive_ids=True,
)

# https://finnhub.io/docs/api/websocket-trades
FINNHUB = WebSocketFeed(
    url="wss://ws.finnhub.io",
    instruments=("AAPL", "BINANCE:BTCUSDT"),
    subscribe=({"type": "subscribe", "symbol": "{instrument}"},),
    unsubscribe=({"type": "unsubscribe", "symbol": "{instrument}"},),
    per_message=1,
    per_connection=50,
    messages_per_s=20,
    limited=(Match(path="msg", contains="too many"), Match(path="msg", contains="limit")),
    refused=(Match(path="msg", contains="api key"), Match(path="msg", contains="access")),
    complaints=(Match(path="type", equals="error"),),
    prices=(Match(path="type", equals="trade"),),
    heartbeats=(Match(path="type", equals="ping"),),
    rows=RowMapping(rows="data", time="t", instrument="s", price="p", volume="v", time_format="ms"),
    key=KeyLocation(where="query", name="token"),
)

FEEDS: Mapping[str, WebSocketFeed] = {
    "binance": BINANCE,
    "coinbase": COINBASE,
    "kraken": KRAKEN,
    "kraken-futures": KRAKEN_FUTURES,
    "finnhub": FINNHUB,
}
