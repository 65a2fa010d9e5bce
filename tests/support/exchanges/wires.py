"""The wire formats of the ready-made WebSocket feeds, by their public documentation and recorded messages."""

from collections.abc import Mapping
from datetime import UTC, datetime

from tests.support.exchanges.exchange import Trade, Wire


def iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time_us % 10**6:06d}Z"


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


class Binance(Wire):
    """Spot, raw streams: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams."""

    name = "binance"
    instruments = ("BTCUSDT", "ETHUSDT", "DOTUSDT")

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        streams = _texts(message["params"])
        assert all(stream == stream.lower().replace("@aggtrade", "@aggTrade") for stream in streams)
        names = [stream.removesuffix("@aggTrade").upper() for stream in streams]
        return (names, []) if message["method"] == "SUBSCRIBE" else ([], names)

    def answers(self, message: Mapping[str, object], _now_us: int) -> list[object]:
        return [{"result": None, "id": message["id"]}]

    def trades(self, trades: list[Trade], now_us: int) -> list[object]:
        return [{"e": "aggTrade", "E": now_us // 1_000, "s": trade.instrument, **self._row(trade)} for trade in trades]

    def page(self, path: str, query: Mapping[str, str], trades: Mapping[str, list[Trade]]) -> object:
        assert path == "/api/v3/aggTrades"
        found, limit = trades[query["symbol"]], int(query["limit"])
        if "fromId" not in query:
            return [self._row(trade) for trade in found[-limit:]]
        return [self._row(trade) for trade in found if trade.id >= int(query["fromId"])][:limit]

    def _row(self, trade: Trade) -> dict[str, object]:
        last = {"f": trade.id * 2, "l": trade.id * 2 + 1, "T": trade.time_us // 1_000, "m": True, "M": True}
        return {"a": trade.id, "p": trade.price, "q": trade.size, **last}


class Coinbase(Wire):
    """Exchange, channels matches and heartbeat: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels."""

    name = "coinbase"
    instruments = ("BTC-USD", "ETH-USD", "SOL-USD")
    history = 1
    unit_us = 1

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        assert message["channels"] == ["matches", "heartbeat"]
        names = _texts(message["product_ids"])
        return (names, []) if message["type"] == "subscribe" else ([], names)

    def answers(self, message: Mapping[str, object], _now_us: int) -> list[object]:
        channels = [{"name": name, "product_ids": message["product_ids"]} for name in ("matches", "heartbeat")]
        return [{"type": "subscriptions", "channels": channels}]

    def trades(self, trades: list[Trade], _now_us: int) -> list[object]:
        return [self._match("match", trade) for trade in trades]

    def snapshot(self, trades: list[Trade]) -> list[object]:
        return [self._match("last_match", trades[-1])] if trades else []

    def heartbeats(self, newest: list[Trade], now_us: int) -> list[object]:
        return [
            {
                "type": "heartbeat",
                "sequence": trade.id * 3,
                "last_trade_id": trade.id,
                "product_id": trade.instrument,
                "time": iso(now_us),
            }
            for trade in newest
        ]

    def page(self, path: str, query: Mapping[str, str], trades: Mapping[str, list[Trade]]) -> object:
        _, products, name, last = path.split("/")
        assert (products, last) == ("products", "trades")
        found = [trade for trade in trades[name] if trade.id < int(query.get("after", 2**62))]
        newest_first = found[-int(query["limit"]) :][::-1]
        return [
            {"trade_id": trade.id, "side": "buy", "size": trade.size, "price": trade.price, "time": iso(trade.time_us)}
            for trade in newest_first
        ]

    def _match(self, kind: str, trade: Trade) -> object:
        maker, taker = "ac928c66-ca53-498f-9c13-a110027a60e8", "132fb6ae-456b-4654-b4e0-d681ac05cea1"
        return {
            "type": kind,
            "trade_id": trade.id,
            "sequence": trade.id * 3,
            "maker_order_id": maker,
            "taker_order_id": taker,
            "time": iso(trade.time_us),
            "product_id": trade.instrument,
            "size": trade.size,
            "price": trade.price,
            "side": "sell",
        }


class Kraken(Wire):
    """Spot v2, channel trade with its snapshot: https://docs.kraken.com/api/docs/websocket-v2/trade."""

    name = "kraken"
    instruments = ("BTC/USD", "ETH/USD", "MATIC/USD")
    history = 50
    unit_us = 1

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        names = self._names(message)
        return (names, []) if message["method"] == "subscribe" else ([], names)

    def answers(self, message: Mapping[str, object], now_us: int) -> list[object]:
        clock = {"time_in": iso(now_us), "time_out": iso(now_us + 40)}
        if message["method"] == "ping":
            return [{"method": "pong", "req_id": message["req_id"], **clock}]
        return [
            {
                "method": message["method"],
                "req_id": message["req_id"],
                "result": {"channel": "trade", "snapshot": True, "symbol": name},
                "success": True,
                **clock,
            }
            for name in self._names(message)
        ]

    def trades(self, trades: list[Trade], _now_us: int) -> list[object]:
        return [{"channel": "trade", "type": "update", "data": [self._row(trade) for trade in trades]}]

    def snapshot(self, trades: list[Trade]) -> list[object]:
        return [{"channel": "trade", "type": "snapshot", "data": [self._row(trade) for trade in trades[-50:]]}]

    def heartbeats(self, _newest: list[Trade], _now_us: int) -> list[object]:
        return [{"channel": "heartbeat"}]

    def page(self, path: str, query: Mapping[str, str], trades: Mapping[str, list[Trade]]) -> object:
        assert path == "/0/public/Trades"
        [name] = [name for name in trades if name.replace("/", "") == query["pair"]]
        since_us = int(query.get("since", "0")) / 1_000
        found = [trade for trade in trades[name] if trade.time_us > since_us][: int(query["count"])]
        rows = ",".join(
            f'["{trade.price}","{trade.size}",{trade.time_us // 10**6}.{trade.time_us % 10**6:06d}'
            f',"b","m","",{trade.id}]'
            for trade in found
        )
        last = found[-1].time_us * 1_000 if found else query.get("since", "0")
        return f'{{"error":[],"result":{{"X{query["pair"]}":[{rows}],"last":"{last}"}}}}'

    def _names(self, message: Mapping[str, object]) -> list[str]:
        parameters = message.get("params")
        return _texts(parameters["symbol"]) if isinstance(parameters, dict) else []

    def _row(self, trade: Trade) -> dict[str, object]:
        # Kraken writes prices as JSON numbers.
        side = {"side": "sell", "ord_type": "market"}
        numbers = {"price": float(trade.price), "qty": float(trade.size)}
        return {"symbol": trade.instrument, **side, **numbers, "trade_id": trade.id, "timestamp": iso(trade.time_us)}


class KrakenFutures(Wire):
    """Futures v1, feed trade with its snapshot, newest first, as in a recorded session."""

    name = "kraken-futures"
    instruments = ("PI_XBTUSD", "PI_ETHUSD", "PI_XRPUSD")
    archive = False

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        assert message["feed"] == "trade"
        names = _texts(message["product_ids"])
        return (names, []) if message["event"] == "subscribe" else ([], names)

    def answers(self, message: Mapping[str, object], _now_us: int) -> list[object]:
        event = f"{message['event']}d"
        return [{"event": event, "feed": "trade", "product_ids": [name]} for name in _texts(message["product_ids"])]

    def trades(self, trades: list[Trade], _now_us: int) -> list[object]:
        return [self._row(trade) for trade in trades]

    def snapshot(self, trades: list[Trade]) -> list[object]:
        rows = [self._row(trade) for trade in trades[-100:][::-1]]
        return [{"feed": "trade_snapshot", "product_id": trades[0].instrument, "trades": rows}] if trades else []

    def _row(self, trade: Trade) -> dict[str, object]:
        numbers = {
            "seq": trade.id,
            "time": trade.time_us // 1_000,
            "qty": float(trade.size),
            "price": float(trade.price),
        }
        uid = f"8b3e7e72-950c-4c4e-8ab8-{trade.id:012d}"
        return {"feed": "trade", "product_id": trade.instrument, "uid": uid, "side": "buy", "type": "fill", **numbers}


class Finnhub(Wire):
    """Trades of everything: https://finnhub.io/docs/api/websocket-trades."""

    name = "finnhub"
    instruments = ("AAPL", "BINANCE:BTCUSDT", "OANDA:EUR_USD")
    ids = archive = False
    refusal = '{"msg":"Invalid API key","type":"error"}'

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        names = [str(message["symbol"])]
        return (names, []) if message["type"] == "subscribe" else ([], names)

    def trades(self, trades: list[Trade], _now_us: int) -> list[object]:
        rows = [
            {
                "c": None,
                "p": float(trade.price),
                "s": trade.instrument,
                "t": trade.time_us // 1_000,
                "v": float(trade.size),
            }
            for trade in trades
        ]
        return [{"data": rows, "type": "trade"}]

    def heartbeats(self, _newest: list[Trade], _now_us: int) -> list[object]:
        return [{"type": "ping"}]
