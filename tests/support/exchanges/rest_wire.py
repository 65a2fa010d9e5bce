"""Providers as their public documentation shows them on the wire: what each answers, in its own format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from barmill.ingest.providers.rest import ready_made
from barmill.ingest.providers.rest.settings import RestFeed
from barmill.platform.clock import NS_PER_S
from tests.support.exchanges.rest_server import Asked, Reply

KEY_ID, KEY_SECRET = "PKTEST0123456789", "s3cr3t-s3cr3t-s3cr3t"
BOTH_PARTS = f"{KEY_ID}:{KEY_SECRET}"
_MINUTE_NS = 60_000_000_000


@dataclass(frozen=True)
class Trade:
    """One trade at the source. close: of its minute, for the provider that has no single trades."""

    time_ns: int
    price: float
    size: float = 1.0
    number: int = 0
    close: float = 0.0


@dataclass
class Market:
    """What a stand-in has to give, and how it is feeling. page: how many trades it gives at once."""

    trades: dict[str, list[Trade]] = field(default_factory=dict)
    key: str = BOTH_PARTS
    page: int = 3
    ahead_s: float = 0.0
    trouble: Reply | None = None

    def since(self, name: str, from_ns: int, skip: int = 0) -> list[Trade]:
        """Return the trades of an instrument from a time on, with those of the first pages left out."""
        return [trade for trade in self.trades[name] if trade.time_ns >= from_ns][skip:]


Answers = Callable[[Market, Asked], Reply]


def _iso(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _ns(text: str) -> int:
    whole, _, rest = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * NS_PER_S + int((rest or "0").ljust(9, "0"))


def finnhub(market: Market, asked: Asked) -> Reply:
    """/quote: the last price, time in seconds."""
    if asked.headers.get("x-finnhub-token") != market.key:
        return Reply({"error": "Invalid API key"}, 401)
    own = market.trades.get(asked.query["symbol"])
    if not own:
        return Reply({"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0})
    last = own[-1]
    return Reply(
        {"c": last.price, "d": 0.5, "dp": 0.1, "h": 9.0, "l": 1.0, "o": 2.0, "pc": 3.0, "t": last.time_ns // NS_PER_S}
    )


def twelve_data(market: Market, asked: Asked) -> Reply:
    """/time_series: minutes as texts, and its own statuses within answers of status 200."""
    if asked.headers.get("authorization") != f"apikey {market.key}":
        return Reply({"code": 401, "message": "**apikey** parameter is incorrect or not specified.", "status": "error"})
    own = market.trades.get(asked.query["symbol"])
    if own is None:
        return Reply(
            {"code": 404, "message": "**symbol** or **figi** parameter is missing or invalid.", "status": "error"}
        )
    values = [
        {
            "datetime": f"{datetime.fromtimestamp(trade.time_ns // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S}",
            "open": f"{trade.price:.5f}",
            "high": "9.99000",
            "low": "0.01000",
            "close": f"{trade.close:.5f}",
            "volume": f"{trade.size:.0f}",
        }
        for trade in market.since(asked.query["symbol"], _ns(asked.query["start_date"]))
    ]
    meta = {"symbol": asked.query["symbol"], "interval": "1min", "type": "Common Stock", "exchange_timezone": "UTC"}
    return Reply({"meta": meta, "values": values, "status": "ok"})


def _alpaca_trade(trade: Trade) -> dict[str, object]:
    return {
        "t": _iso(trade.time_ns), "x": "V", "p": trade.price, "s": trade.size, "c": ["@", "I"], "i": trade.number,
        "z": "C",
    }  # fmt: skip


def _alpaca_knows(market: Market, asked: Asked) -> bool:
    sent = asked.headers.get("apca-api-key-id"), asked.headers.get("apca-api-secret-key")
    return f"{sent[0]}:{sent[1]}" == market.key


def alpaca_trades(market: Market, asked: Asked) -> Reply:
    """/stocks/{symbol}/trades: pages by token; no trades are null."""
    if not _alpaca_knows(market, asked):
        return Reply({"message": "forbidden."}, 403)
    name = asked.path.split("/")[-2]
    skip = int(asked.query.get("page_token", "0"))
    rest = market.since(name, _ns(asked.query["start"]), skip)
    shown = [_alpaca_trade(trade) for trade in rest[: market.page]]
    more = str(skip + market.page) if len(rest) > market.page else None
    return Reply({"trades": shown or None, "symbol": name, "next_page_token": more})


def alpaca_latest(market: Market, asked: Asked) -> Reply:
    """/stocks/trades/latest: one trade of each instrument, under its name."""
    if not _alpaca_knows(market, asked):
        return Reply({"message": "forbidden."}, 403)
    names = [name for name in asked.query["symbols"].split(",") if market.trades.get(name)]
    return Reply({"trades": {name: _alpaca_trade(market.trades[name][-1]) for name in names}})


def oanda(market: Market, asked: Asked) -> Reply:
    """/accounts/{id}/pricing: prices as texts, newer than asked, with both sides of the book."""
    if asked.headers.get("authorization") != f"Bearer {market.key}":
        return Reply({"errorMessage": "Insufficient authorization to perform request."}, 401)
    since = _ns(asked.query["since"])
    prices = [
        {
            "type": "PRICE",
            "time": _iso(last.time_ns),
            "bids": [{"price": f"{last.price - 0.25:.2f}", "liquidity": 1_000_000}],
            "asks": [{"price": f"{last.price + 0.25:.2f}", "liquidity": 1_000_000}],
            "closeoutBid": "1.0",
            "closeoutAsk": "2.0",
            "status": "tradeable",
            "tradeable": True,
            "instrument": name,
        }
        for name in asked.query["instruments"].split(",")
        for last in market.trades.get(name, [])[-1:]
        if last.time_ns > since or not since
    ]
    return Reply({"time": _iso(since), "prices": prices})


def massive_trades(market: Market, asked: Asked) -> Reply:
    """/v3/trades/{ticker}: pages by the whole address of the next one, which lacks the key."""
    if asked.headers.get("authorization") != f"Bearer {market.key}":
        return Reply({"status": "ERROR", "request_id": "a1", "error": "Unknown API Key"}, 401)
    name = asked.path.split("/")[-1]
    from_ns, skip = int(asked.query.get("timestamp.gte", "0")), 0
    if "cursor" in asked.query:
        from_ns, skip = (int(part) for part in asked.query["cursor"].split("-"))
    rest = market.since(name, from_ns, skip)
    results = [
        {
            "conditions": [12, 37], "exchange": 11, "id": str(trade.number),
            "participant_timestamp": trade.time_ns - 99, "price": trade.price, "sequence_number": trade.number,
            "sip_timestamp": trade.time_ns, "size": trade.size, "tape": 1,
        }
        for trade in rest[: market.page]
    ]  # fmt: skip
    said: dict[str, object] = {"status": "OK", "request_id": "a1", "results": results}
    if len(rest) > market.page:
        said["next_url"] = f"http://{asked.headers['host']}{asked.path}?cursor={from_ns}-{skip + market.page}"
    return Reply(said)


def massive_last_trade(market: Market, asked: Asked) -> Reply:
    """/v2/last/trade/{ticker}: one trade with short names."""
    if asked.headers.get("authorization") != f"Bearer {market.key}":
        return Reply({"status": "ERROR", "request_id": "a1", "error": "Unknown API Key"}, 401)
    name = asked.path.split("/")[-1]
    own = market.trades.get(name)
    if not own:
        return Reply({"status": "NOT_FOUND", "request_id": "a1", "message": "Data not found."}, 404)
    last = own[-1]
    found = {
        "T": name, "c": [37], "f": last.time_ns, "i": str(last.number), "p": last.price, "q": 1, "r": 202,
        "s": last.size, "t": last.time_ns, "x": 4, "y": last.time_ns - 99, "z": 3,
    }  # fmt: skip
    return Reply({"status": "OK", "request_id": "a1", "results": found})


@dataclass(frozen=True)
class Wire:
    """A ready-made feed and the stand-in that speaks its format.

    every: it has every trade, and not only the last one. both: its key has two parts. open_close: ticks have two
    prices. sizes: it says how much was traded.
    """

    settings: RestFeed
    answers: Answers
    every: bool = False
    both: bool = False
    open_close: bool = False
    sizes: bool = True

    @property
    def key(self) -> str:
        """Return a key that the stand-in knows."""
        return BOTH_PARTS if self.both else KEY_SECRET

    @property
    def step_ns(self) -> int:
        """Return how far apart trades have to be for this provider to tell them apart."""
        return _MINUTE_NS if self.open_close else NS_PER_S

    def near(self, url: str, **changes: object) -> RestFeed:
        """Return the settings with the stand-in in the provider's place, and quick."""
        quick = {"base_url": url, "period_s": 0.1, "requests_per_minute": None, "hold_s": 0.0}
        return RestFeed.model_validate(self.settings.model_copy(update={**quick, **changes}).model_dump())

    def market(self, **given: object) -> Market:
        """Return an empty market that knows the key."""
        return replace(Market(key=self.key), **given)  # type: ignore[arg-type]


WIRES: Mapping[str, Wire] = {
    "finnhub-quotes": Wire(ready_made.FINNHUB_QUOTES, finnhub, sizes=False),
    "twelve-data-minutes": Wire(ready_made.TWELVE_DATA_MINUTES, twelve_data, every=True, open_close=True),
    "alpaca-trades": Wire(ready_made.ALPACA_TRADES, alpaca_trades, every=True, both=True),
    "alpaca-latest": Wire(ready_made.ALPACA_LATEST, alpaca_latest, both=True),
    "oanda-prices": Wire(ready_made.OANDA_PRICES, oanda, sizes=False),
    "massive-trades": Wire(ready_made.MASSIVE_TRADES, massive_trades, every=True),
    "massive-last-trade": Wire(ready_made.MASSIVE_LAST_TRADE, massive_last_trade),
}
