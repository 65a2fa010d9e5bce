"""Many feeds side by side: what people change is followed, and what one of them does disturbs no other."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

from barmill.audit.roles import Actor
from barmill.ingest import feed_runner
from barmill.ingest.connection.provider import Batch, ProviderError
from barmill.ingest.connection.state import ConnectionState, Phase, read_feed_states
from barmill.ingest.feeds.changes import add, delete, edit, enable
from barmill.ingest.feeds.feed import Feed, Feeds
from barmill.ingest.instruments.changes import change_selection
from barmill.ingest.instruments.names import parse_names
from barmill.ingest.instruments.store import Instruments
from barmill.ingest.provider_factory import provider_of
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import free_ports
from barmill.secrets.store import KeyStore
from barmill.storage.tick_log import Source, TickLog
from control.ingest import run_feeds
from tests.support.market_process import KEY, RunningMarket, running_market

ADA = Actor("ada")
TIMEOUT_S = 60


@dataclass
class Feeding:
    """The feeds of a home at work, and what people do to them."""

    home: Home
    feeds: Feeds

    def add(self, name: str, port: int, key: str = "theirs") -> None:
        add(self.feeds, ADA, name, "market", f'{{"port": {port}}}', key)

    def pick_all(self, name: str) -> None:
        """Enable everything that a feed offers, as soon as it is known."""
        with Instruments.open(self.home) as instruments:
            assert wait_until(lambda: len(instruments.catalogue(name)) > 0, TIMEOUT_S)
            names = "\n".join(instrument.instrument for instrument in instruments.catalogue(name))
            change_selection(instruments, ADA, name, parse_names(names), enable=True)

    def source(self, name: str) -> Source | None:
        with TickLog.read_only(self.home.ticks_db) as log:
            return next((source for source in log.sources() if source.name == name), None)

    def state(self, name: str) -> ConnectionState | None:
        return read_feed_states(self.home).states.get(name)

    def wait_for(self, name: str, phase: Phase) -> ConnectionState:
        def so() -> bool:
            state = self.state(name)
            return state is not None and state.phase is phase

        assert wait_until(so, TIMEOUT_S), self.state(name)
        state = self.state(name)
        assert state is not None
        return state

    def wait_for_ticks(self, name: str, count: int = 50) -> None:
        """Wait until the log has so many more ticks of a feed."""

        def accepted() -> int:
            source = self.source(name)
            return source.accepted if source else 0

        end = accepted() + count
        assert wait_until(lambda: accepted() >= end, TIMEOUT_S), self.state(name)

    def cursor(self, name: str) -> int:
        """Return the newest cursor of the market that this feed reads."""
        source = self.source(name)
        return int((source and source.cursor) or 0)

    def wait_until_gone(self, name: str) -> None:
        """Wait until the source has ended and no thread works on it."""
        self.wait_until_ended(name)
        assert wait_until(lambda: all(thread.name != f"feed {name}" for thread in threading.enumerate()), TIMEOUT_S)

    def wait_until_ended(self, name: str) -> None:
        assert wait_until(lambda: bool((source := self.source(name)) and source.ended), TIMEOUT_S)

    def ticks(self, name: str) -> pl.DataFrame:
        """Return the ticks of a feed, in the order of the log."""
        with TickLog.read_only(self.home.ticks_db) as log:
            blocks = [ticks for _, ticks in log.blocks()]
        return pl.concat(blocks).filter(pl.col("instrument").str.starts_with(f"{name}:"))


@pytest.fixture
def at_work(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feeding]:
    """A home of which the demo market is not read, and whose feeds run."""
    monkeypatch.setattr(feed_runner, "FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr(feed_runner, "MAX_PAUSE_S", 0.2)
    with KeyStore.open(home, ADA) as keys:
        keys.add("theirs", "market", KEY)
    stop = threading.Event()
    with Feeds.open(home) as feeds:
        enable(feeds, ADA, "market", enabled=False)
        thread = threading.Thread(target=run_feeds, args=(FeedSettings.read(home), home, stop))
        thread.start()
        try:
            assert wait_until(lambda: read_feed_states(home).at_ms > 0, TIMEOUT_S)
            yield Feeding(home, feeds)
        finally:
            stop.set()
            thread.join()


@contextmanager
def a_market(home: Home, name: str, port: int | None = None) -> Iterator[RunningMarket]:
    """Run a market of another Barmill."""
    with running_market(Home(home.root / name).create(), "--rate", "20", port=port) as market:
        yield market


@dataclass
class Misbehaving:
    """A provider that only does harm."""

    name: str
    harm: str
    live: bool = True
    release: threading.Event = field(default_factory=threading.Event)

    def batches(self, _cursor: str | None, _stop: threading.Event) -> Iterator[Batch]:
        if self.harm == "dies":
            raise ZeroDivisionError
        if self.harm == "hangs":
            self.release.wait()
        if self.harm == "refuses":
            raise ProviderError("It says no.")
        while self.harm == "floods":
            now_ms = time.time_ns() // 1_000_000
            yield Batch(pl.DataFrame({"time": [now_ms] * 5_000, "instrument": "X", "price": 1.0}), "")

    def catalogue(self) -> None:
        return


@pytest.fixture
def harm(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Misbehaving]]:
    """What the feeds that are in here do, instead of what their kind does."""
    harmful = dict[str, Misbehaving]()

    def provider(feed: Feed, *others: Any) -> Any:
        return harmful.get(feed.name) or provider_of(feed, *others)

    monkeypatch.setattr(feed_runner, "provider_of", provider)
    yield harmful
    for misbehaving in harmful.values():
        misbehaving.release.set()


def test_two_markets_side_by_side_and_one_is_killed(home: Home, at_work: Feeding) -> None:
    with a_market(home, "one") as running_market, a_market(home, "two") as two:
        at_work.add("a", running_market.port)
        at_work.add("b", two.port)
        for name in "ab":
            at_work.wait_for(name, Phase.IDLE)
            at_work.pick_all(name)
            at_work.wait_for_ticks(name)
        running_market.kill()
        assert "cannot be reached" in at_work.wait_for("a", Phase.WAITING).sentence
        lost_at = at_work.cursor("a")
        at_work.wait_for_ticks("b")
        assert at_work.wait_for("b", Phase.RECEIVING).heard_ms
        # It comes back where it was, and is read on from where it was lost.
        with a_market(home, "one", running_market.port) as again:
            at_work.wait_for("a", Phase.RECEIVING)
            at_work.wait_for_ticks("a")
            enable(at_work.feeds, ADA, "a", enabled=False)
            at_work.wait_until_gone("a")
            taken = at_work.ticks("a")
            given_out = pl.DataFrame(again.ticks_after(lost_at, at_work.cursor("a")))
        at_work.wait_for_ticks("b")
    key = ["instrument", "id"]
    assert not taken.select(key).is_duplicated().any()
    assert given_out.height > 50
    given_out = given_out.with_columns(instrument="a:" + pl.col("instrument"))
    assert given_out.join(taken, on=key, how="anti").height == 0
    with Instruments.open(home) as instruments:
        offered = {instrument.instrument for instrument in instruments.catalogue("b")}
    assert set(at_work.ticks("b")["instrument"]) <= offered


def test_what_people_change_is_followed(home: Home, at_work: Feeding) -> None:
    with a_market(home, "one") as running_market, a_market(home, "two") as two:
        at_work.add("a", free_ports(1)[0])
        at_work.wait_for("a", Phase.WAITING)
        edit(at_work.feeds, ADA, "a", f'{{"port": {running_market.port}}}', "theirs")
        at_work.pick_all("a")
        at_work.wait_for_ticks("a")
        enable(at_work.feeds, ADA, "a", enabled=False)
        at_work.wait_until_ended("a")
        before = at_work.cursor("a")
        enable(at_work.feeds, ADA, "a", enabled=True)
        # The old connection may still write its last batch after the feed was enabled;
        # the new one opens the source again.
        assert wait_until(lambda: bool((source := at_work.source("a")) and not source.ended), TIMEOUT_S)
        at_work.wait_for_ticks("a")
        assert at_work.cursor("a") > before
        made = at_work.source("a")
        assert made
        delete(at_work.feeds, ADA, "a")
        at_work.wait_until_ended("a")
        # Another one of that name has another beginning, and nothing of it is picked.
        at_work.add("a", two.port)
        at_work.wait_for("a", Phase.IDLE)
        assert wait_until(lambda: (at_work.source("a") or made).made_ms > made.made_ms, TIMEOUT_S)
        at_work.pick_all("a")
        at_work.wait_for_ticks("a")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("what", ["dies", "hangs", "floods", "refuses"])
def test_whatever_one_does_another_goes_on(
    home: Home, at_work: Feeding, harm: dict[str, Misbehaving], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_runner, "RESTART_AFTER_S", 0.1)
    harm["bad"] = Misbehaving("bad", what)
    with a_market(home, "one") as running_market:
        at_work.add("bad", running_market.port)
        at_work.add("good", running_market.port)
        at_work.pick_all("good")
        at_work.wait_for_ticks("good", 200)
        if what == "dies":
            assert "log/ingest.log" in at_work.wait_for("bad", Phase.BROKEN).sentence
        if what == "refuses":
            assert at_work.wait_for("bad", Phase.WAITING).sentence == "It says no."
        if what == "floods":
            assert at_work.wait_for("bad", Phase.RECEIVING)
        enable(at_work.feeds, ADA, "bad", enabled=False)
        if what != "dies":  # that one never came so far as to be a source
            at_work.wait_until_ended("bad")
        at_work.wait_for_ticks("good")
        harm.clear()
        enable(at_work.feeds, ADA, "bad", enabled=True)
        if what != "hangs":  # its thread must have ended before another one may begin
            at_work.wait_for("bad", Phase.IDLE)
            at_work.pick_all("bad")
            at_work.wait_for_ticks("bad")
        at_work.wait_for_ticks("good")


def test_settings_that_cannot_be_read_any_more_and_a_key_that_is_gone_are_told_of(home: Home, at_work: Feeding) -> None:
    with a_market(home, "one") as running_market:
        at_work.add("a", running_market.port)
        at_work.wait_for("a", Phase.IDLE)
        with at_work.feeds.db.atomic():
            at_work.feeds.write(Feed("later", "telepathy", "{}", made_ms=1))
        assert "'telepathy' is not a kind of feed" in at_work.wait_for("later", Phase.BROKEN).sentence
        with KeyStore.open(home, ADA) as keys:
            keys.revoke("theirs")
        at_work.pick_all("a")
        assert "is revoked" in at_work.wait_for("a", Phase.REFUSED).sentence
        with KeyStore.open(home, ADA) as keys:
            keys.rotate("theirs", KEY)
        at_work.wait_for_ticks("a")
        assert at_work.state("later") is not None
