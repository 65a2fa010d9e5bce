"""Stand-ins for exchanges as ccxt asks them: their instruments and clock beside trades, streamed or not."""

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from barmill.ingest.identity import hash_id
from tests.support.exchanges.exchange import Exchange, Trade, Wire
from tests.support.exchanges.wires import iso

KEY = "canary-key-of-ccxt-41:canary+secret/of=ccxt-42"


class CcxtWire(Wire, ABC):
    """A provider whose instruments are called as ccxt calls them."""

    unit_us = 1_000
    streams = True

    @abstractmethod
    def urls(self, rest: str, stream: str) -> Mapping[str, object]:
        """Return where ccxt is to ask."""

    @abstractmethod
    def other(self, path: str, now_us: int) -> object:
        """Return the answer to a question that is not for trades; None where it is."""

    def number(self, trade: Trade) -> int:
        """Return the id that a tick of this trade has."""
        return trade.id


class CcxtExchange(Exchange):
    """One exchange; key_refused: what is signed is answered as one with a wrong key, which it quotes."""

    wire: CcxtWire
    key_refused = False
    garbage: str | None = None
    asked: list[str]

    def answer(self, target: str) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        if "signature" in parse_qs(parts.query) and self.key_refused:
            said = {"code": -2015, "msg": f"Invalid API-key {KEY}, IP, or permissions for action, at {target}."}
            return 401, {}, json.dumps(said).encode()
        if self.archive_down or self.archive_limits:
            return super().answer(target)
        if self.garbage is not None:
            return 200, {"Content-Type": "application/json"}, self.garbage.encode()
        known = self.wire.other(parts.path, self.now_us)
        return super().answer(target) if known is None else (200, {}, json.dumps(known).encode())


class Binance(CcxtWire):
    """Spot: https://developers.binance.com/docs/binance-spot-api-docs."""

    name = "binance"
    instruments = ("BTC/USDT", "ETH/USDT", "DOT/USDT")

    def urls(self, rest: str, stream: str) -> Mapping[str, object]:
        places = {"public": "api/v3", "fapiPublic": "fapi/v1", "dapiPublic": "dapi/v1", "sapi": "sapi/v1"}
        return {**{name: f"{rest}/{path}" for name, path in places.items()}, "ws": {"spot": f"{stream}/stream"}}

    def other(self, path: str, now_us: int) -> object:
        if path == "/api/v3/time":
            return {"serverTime": now_us // 1_000}
        if path.startswith("/sapi/"):
            return []
        if path.endswith("/exchangeInfo"):
            return {"symbols": [self._listed(name) for name in self.instruments] if "/api/" in path else []}
        return None

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        streams = message["params"]
        assert isinstance(streams, list)
        assert all(str(stream).endswith("@aggTrade") for stream in streams)
        return [name for name in self.instruments if f"{self._id(name).lower()}@aggTrade" in streams], []

    def answers(self, message: Mapping[str, object], _now_us: int) -> list[object]:
        return [{"result": None, "id": message["id"]}]

    def trades(self, trades: list[Trade], now_us: int) -> list[object]:
        return [
            {"e": "aggTrade", "E": now_us // 1_000, "s": self._id(trade.instrument), **self._row(trade)}
            for trade in trades
        ]

    def page(self, path: str, query: Mapping[str, str], trades: Mapping[str, list[Trade]]) -> object:
        assert path == "/api/v3/aggTrades"
        [found] = [kept for name, kept in trades.items() if self._id(name) == query["symbol"]]
        if "fromId" in query:
            assert "startTime" not in query
            return [self._row(trade) for trade in found if trade.id >= int(query["fromId"])][:50]
        return [self._row(trade) for trade in found[-50:]]

    def _id(self, name: str) -> str:
        return name.replace("/", "")

    def _row(self, trade: Trade) -> dict[str, object]:
        last = {"f": trade.id * 2, "l": trade.id * 2 + 1, "T": trade.time_us // 1_000, "m": True, "M": True}
        return {"a": trade.id, "p": trade.price, "q": trade.size, **last}

    def _listed(self, name: str) -> dict[str, object]:
        base, quote = name.split("/")
        step = {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01000000"}
        kind = {"symbol": self._id(name), "status": "TRADING", "baseAsset": base, "quoteAsset": quote}
        return {**kind, "isSpotTradingAllowed": True, "filters": [step], "permissions": ["SPOT"]}


class Kraken(CcxtWire):
    """Spot, WebSocket v2 and REST: https://docs.kraken.com/api."""

    name = "kraken"
    instruments = ("BTC/USD", "ETH/USD", "SOL/USD")

    def urls(self, rest: str, stream: str) -> Mapping[str, object]:
        return {"public": rest, "ws": {"publicV2": f"{stream}/v2"}}

    def other(self, path: str, now_us: int) -> object:
        match path:
            case "/0/public/Time":
                return {"error": [], "result": {"unixtime": now_us // 1_000_000}}
            case "/0/public/Assets":
                return {"error": [], "result": {}}
            case "/0/public/AssetPairs":
                return {"error": [], "result": {self._id(name): self._listed(name) for name in self.instruments}}
        return None

    def asked(self, message: Mapping[str, object]) -> tuple[list[str], list[str]]:
        return ([*self._names(message)], []) if message["method"] == "subscribe" else ([], [])

    def answers(self, message: Mapping[str, object], now_us: int) -> list[object]:
        clock = {"time_in": iso(now_us), "time_out": iso(now_us)}
        if message["method"] == "ping":
            return [{"method": "pong", **clock}]
        ack = {"method": "subscribe", "req_id": message["req_id"], "success": True, **clock}
        return [{**ack, "result": {"channel": "trade", "symbol": name}} for name in self._names(message)]

    def snapshot(self, trades: list[Trade]) -> list[object]:
        rows = [self._row(trade) for trade in trades[-50:][::-1]]
        return [{"channel": "trade", "type": "snapshot", "data": rows}] if rows else []

    def trades(self, trades: list[Trade], _now_us: int) -> list[object]:
        return [{"channel": "trade", "type": "update", "data": [self._row(trade) for trade in trades]}]

    def page(self, path: str, query: Mapping[str, str], trades: Mapping[str, list[Trade]]) -> object:
        assert path == "/0/public/Trades"
        [found] = [kept for name, kept in trades.items() if self._id(name) == query["pair"]]
        since_us = int(query["since"]) / 1_000 if "since" in query else None
        page = found[-40:] if since_us is None else [trade for trade in found if trade.time_us > since_us][:40]
        rows = [[trade.price, trade.size, trade.time_us / 1_000_000, "b", "l", "", trade.id] for trade in page]
        return {"error": [], "result": {query["pair"]: rows, "last": str(page[-1].time_us * 1_000) if page else "0"}}

    def _names(self, message: Mapping[str, object]) -> list[str]:
        params = message.get("params")
        return [str(name) for name in params["symbol"]] if isinstance(params, dict) else []

    def _id(self, name: str) -> str:
        base, quote = name.split("/")
        return f"X{'XBT' if base == 'BTC' else base}Z{quote}"

    def _row(self, trade: Trade) -> dict[str, object]:
        numbers = {"price": float(trade.price), "qty": float(trade.size), "trade_id": trade.id}
        return {
            "symbol": trade.instrument,
            "side": "sell",
            "ord_type": "market",
            **numbers,
            "timestamp": iso(trade.time_us),
        }

    def _listed(self, name: str) -> dict[str, object]:
        base, quote = name.split("/")
        pair = {"altname": self._id(name), "wsname": name.replace("BTC", "XBT"), "base": base, "quote": f"Z{quote}"}
        sizes = {"pair_decimals": 1, "lot_decimals": 8, "leverage_buy": [], "fees": [], "ordermin": "0.1"}
        return {**pair, **sizes, "status": "online"}


class Latoken(CcxtWire):
    """Only REST, ids of text, the newest hundred trades and no way to older ones: https://api.latoken.com/doc/v2."""

    name = "latoken"
    instruments = ("BTC/USDT", "ETH/USDT")
    streams = False

    def urls(self, rest: str, stream: str) -> Mapping[str, object]:
        return {"rest": rest, "ws": stream}

    def other(self, path: str, now_us: int) -> object:
        match path:
            case "/v2/time":
                return {"serverTime": now_us // 1_000}
            case "/v2/currency":
                tags = sorted({tag for name in self.instruments for tag in name.split("/")})
                kind = {"status": "CURRENCY_STATUS_ACTIVE", "type": "CURRENCY_TYPE_CRYPTO", "decimals": 8}
                return [{"id": _uuid(tag), "tag": tag, "name": tag, **kind} for tag in tags]
            case "/v2/pair":
                return [self._listed(name) for name in self.instruments]
        return None

    def page(self, path: str, query: Mapping[str, str], trades: Mapping[str, list[Trade]]) -> object:
        assert not query
        [name] = [
            name for name in self.instruments if path == f"/v2/trade/history/{'/'.join(map(_uuid, name.split('/')))}"
        ]
        return [self._row(trade) for trade in trades[name][-100:][::-1]]

    def number(self, trade: Trade) -> int:
        return hash_id(_uuid(f"{trade.instrument} {trade.id}"))

    def _row(self, trade: Trade) -> dict[str, object]:
        base, quote = trade.instrument.split("/")
        pair = {"baseCurrency": _uuid(base), "quoteCurrency": _uuid(quote), "makerBuyer": False, "isMakerBuyer": False}
        what = {"id": _uuid(f"{trade.instrument} {trade.id}"), "price": trade.price, "quantity": trade.size}
        return {**what, "timestamp": trade.time_us // 1_000, **pair}

    def _listed(self, name: str) -> dict[str, object]:
        base, quote = name.split("/")
        pair = {"id": _uuid(name), "status": "PAIR_STATUS_ACTIVE", "baseCurrency": _uuid(base)}
        return {**pair, "quoteCurrency": _uuid(quote), "priceTick": "0.010000000000000000", "quantityTick": "0.00001"}


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))
