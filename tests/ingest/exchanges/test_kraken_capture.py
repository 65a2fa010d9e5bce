"""A recorded session of Kraken Futures: on connect, the newest hundred trades of each product, newest first."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from barmill.ingest.connection.guard import Guard
from barmill.ingest.connection.state import ConnectionState
from barmill.ingest.providers.websocket.provider import WebSocketProvider
from barmill.ingest.providers.websocket.ready_made import FEEDS
from tests.support.exchanges.captures import KRAKEN_FUTURES, Bars, messages, needs_captures
from tests.support.exchanges.run import HOLDING, LOOPBACK_ALLOWED, QUICK, TIMEOUT_S

LATENESS_MS = 300_000
_OTHER_FEEDS = ("book", "book_snapshot", "ticker_lite")


@contextmanager
def replayed(recorded: list[dict[str, Any]]) -> Iterator[str]:
    """Serve a recorded session to any client that connects and subscribes."""

    def play(connection: ServerConnection) -> None:
        try:
            connection.recv()
            for message in recorded:
                connection.send(json.dumps(message))
            connection.recv()
        except ConnectionClosed:
            pass

    with serve(play, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(TIMEOUT_S)


def as_sent(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return recorded


def live_first(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(recorded, key=lambda message: message.get("feed") != "trade" or "event" in message)


@needs_captures
@pytest.mark.parametrize("order", [as_sent, live_first])
def test_history_on_connect_poisons_nothing_and_loses_no_live_tick(
    tmp_path: Path, order: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    recorded = [message for message in messages(KRAKEN_FUTURES) if message.get("feed") not in _OTHER_FEEDS]
    live = {(m["product_id"], m["seq"]) for m in recorded if m.get("feed") == "trade" and "seq" in m}
    history = [row for m in recorded if m.get("feed") == "trade_snapshot" for row in m["trades"]]
    everything = live | {(row["product_id"], row["seq"]) for row in history}
    assert (len(live), len(history), len(everything)) == (3, 1_000, 1_003)
    products = frozenset(product for product, _ in everything)
    bars, stop, states = Bars(tmp_path, LATENESS_MS), threading.Event(), list[ConnectionState]()
    newest = dict(sorted(everything))

    def enough() -> None:
        if bars.ticks().height >= len(everything):
            stop.set()

    with replayed(order(recorded)) as url:
        settings = FEEDS["kraken-futures"].model_copy(update={"url": url})
        provider = WebSocketProvider(
            "kraken-futures",
            settings,
            None,
            lambda: products,
            states.append,
            guard=Guard(LOOPBACK_ALLOWED),
            reconnect_delays=QUICK,
            hold_limits=HOLDING,
        )
        give_up = threading.Timer(TIMEOUT_S, stop.set)
        give_up.start()
        bars.take(provider, stop, enough)
        give_up.cancel()
    bars.fold()
    ticks = bars.ticks()
    assert set(ticks.select("instrument", "id").rows()) == everything
    assert ticks.height == len(everything)
    assert states[-1].missing == 0
    late = bars.reader.rejects()
    assert not live & set(late.select("instrument", pl.col("id").cast(pl.Int64)).rows())
    verdict = bars.verdict()
    assert (verdict.different, verdict.ticks, verdict.late) == (0, len(everything), late.height)
    # Nothing is late by the newest tick of others: each product goes by its own.
    for product in products:
        newest_ms = bars.reader.bars(product, "1s")["last_tick_ms"].max()
        mine = ticks.filter(pl.col("instrument") == product)
        assert mine.filter(pl.col("id") == newest[product])["time_ns"].item() // 1_000_000 == newest_ms
    if order is as_sent:
        assert late.is_empty()  # put in order, none of it came after a newer one
        return
    expected = {}
    live_ms = {m["product_id"]: m["time"] for m in recorded if m.get("feed") == "trade" and "seq" in m}
    for row in history:
        behind_ms = live_ms.get(row["product_id"], 0) - row["time"]
        if behind_ms > LATENESS_MS:
            expected[row["product_id"], row["seq"]] = behind_ms
    found = late.select("instrument", pl.col("id").cast(pl.Int64), "late_ms", "reason").rows()
    assert {(product, seq): late_ms for product, seq, late_ms, _ in found} == expected
    assert {reason for *_, reason in found} == {"too_late"}
    assert max(expected.values()) > 4 * 3_600_000
