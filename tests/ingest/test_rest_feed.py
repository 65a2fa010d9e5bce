"""A REST feed as people make it: typed in, read by the feed, its ticks in the log under its name."""

import json
import threading
import time

import pytest

from barmill.audit.roles import Actor
from barmill.ingest.connection.state import Phase, read_feed_states
from barmill.ingest.feeds.changes import add, enable
from barmill.ingest.feeds.feed import FeedError, Feeds
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.secrets.store import KeyStore
from barmill.storage.tick_log import TickLog
from control.ingest import run_feeds
from tests.support.exchanges.rest_server import Reply, always, standing_in

ADA = Actor("ada")
TIMEOUT_S = 60
ROWS = {"rows": "d", "time": "t", "price": "p", "instrument": "s"}


def ticks(home: Home) -> list[tuple[str, float]]:
    with TickLog.read_only(home.ticks_db) as log:
        return [row for _, block in log.blocks() for row in block.select("instrument", "price_open").rows()]


def test_a_feed_that_was_typed_in_delivers_under_its_name(home: Home) -> None:
    (home.root / "feeds-access.json").write_text('{"allow": ["127.0.0.1"]}')
    answer = Reply({"d": [{"t": time.time_ns() // 1_000_000, "p": "1.25", "s": "EUR/USD"}]})
    stop = threading.Event()
    with standing_in(always(answer)) as server, KeyStore.open(home, ADA) as keys, Feeds.open(home) as feeds:
        keys.add("theirs", "rest", "a-secret-key")
        given = {"base_url": server.url, "headers": {"X-Key": "{key}"}, "rows": ROWS, "instruments": ["EUR/USD"]}
        with pytest.raises(FeedError, match="have a placeholder for a key"):
            add(feeds, ADA, "fx", "rest", json.dumps(given))
        add(feeds, ADA, "fx", "rest", json.dumps(given), "theirs")
        enable(feeds, ADA, "market", enabled=False)
        thread = threading.Thread(target=run_feeds, args=(FeedSettings.read(home), home, stop))
        thread.start()
        try:
            assert wait_until(lambda: len(server.asked) >= 2 and len(ticks(home)) >= 1, TIMEOUT_S)
            assert wait_until(lambda: read_feed_states(home).states["fx"].phase is Phase.RECEIVING, TIMEOUT_S)
        finally:
            stop.set()
            thread.join()
    assert ticks(home) == [("fx:EUR/USD", 1.25)]
    assert server.asked[0].headers["x-key"] == "a-secret-key"
