"""Picks while prices stream: what is enabled comes whole, what is disabled does not come, and nothing is restarted."""

import threading
from typing import Any

import polars as pl

from barmill.ingest.connection.provider import Batch
from barmill.ingest.providers.market import MarketProvider
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.support.feeds import TIMEOUT_S, RunningFeed, running_feed
from tests.support.market_process import KEY, running_market
from tests.support.market_provider import fields_of, rows_of

LEFT_OUT = ("OAKR/USD", "GLFN/USD")
ALONE = "FLRN/GRTS"


def test_at_each_switch_nothing_wanted_is_lost_or_doubled_and_nothing_else_taken(home: Home) -> None:
    phases = [
        None,
        frozenset({"OAKR/USD", "GLFN/USD"}),
        frozenset({"GLFN/USD", "ZEFK/USD"}),
        frozenset[str](),
        frozenset({"OAKR/USD"}),
        frozenset[str](),
        None,
    ]
    expected: list[dict[str, Any]] = []
    taken: list[Batch] = []
    stop = threading.Event()
    with running_market(home, "--rate", "40") as market:
        at = market.page()["newest_cursor"]
        provider = MarketProvider(market.url, lambda: KEY, lambda: phases[0])
        for batch in provider.batches(str(at), stop):
            taken.append(batch)
            wanted, cursor = phases[0], int(batch.cursor)
            given_out = market.ticks_after(at, cursor) if cursor > at else []
            expected += [tick for tick in given_out if wanted is None or tick["instrument"] in wanted]
            at = cursor
            if len(taken) % 5 == 0 and len(phases) > 1:
                del phases[0]
            elif len(taken) % 5 == 0:
                stop.set()
    assert len(expected) > 500
    assert rows_of(taken) == fields_of(expected)
    complete = [batch.complete_to_ms for batch in taken if batch.complete_to_ms is not None]
    assert complete == sorted(complete)


def test_what_is_read_when_the_picks_change_is_asked_for_again_not_taken(home: Home) -> None:
    """The picks change while a batch is on its way: of it, the disabled must not come, and the enabled must."""
    answers = iter([None, None, frozenset({"ZEFK/USD"})])  # connect, first batch, and from the second on
    stop = threading.Event()
    taken: list[Batch] = []
    with running_market(home, "--rate", "40") as market:
        provider = MarketProvider(market.url, lambda: KEY, lambda: next(answers, frozenset({"ZEFK/USD"})))
        start = market.page()["newest_cursor"]
        for batch in provider.batches(str(start), stop):
            taken.append(batch)
            if sum(next_batch.ticks.height for next_batch in taken[1:]) > 100:
                stop.set()
        first = int(taken[0].cursor)
        later = market.ticks_after(first, int(taken[-1].cursor))
    assert rows_of(taken[1:]) == fields_of([tick for tick in later if tick["instrument"] == "ZEFK/USD"])


def test_a_running_feed_follows_every_change(home: Home) -> None:
    with running_feed(home, "--rate", "20") as feed:
        names = {tick["instrument"] for tick in feed.market.get("/v1/instruments").json()}
        feed.wait_for_ticks(500)
        feed.pick(",".join(LEFT_OUT), enable=False)
        feed.wait_until_only(names - set(LEFT_OUT))
        feed.pick("\n".join(names), enable=False)
        # Bars can close and the feed does not count as silent, although it reads nothing.
        assert wait_until(lambda: _goes_on_without_ticks(feed), TIMEOUT_S)
        assert feed.source().problem is None
        feed.pick(ALONE, enable=True)
        feed.wait_for_ticks(200)
        feed.pick("\n".join(names), enable=True)
        feed.wait_until_only(names)
        feed.wait_for_ticks(500)
        feed.process.terminate()
        assert feed.process.wait(30) == 0
        taken, source = feed.ticks(), feed.source()
        given_out = pl.DataFrame(feed.market.ticks_after(None, int(source.cursor or 0)))
    _compare(given_out, taken)
    assert not source.ended
    assert (home.log / "ingest.log").read_text().count("Traceback") == 0


def _goes_on_without_ticks(feed: RunningFeed) -> bool:
    """Tell whether the source is complete for another second, of which the log has no tick."""
    before = feed.source()
    second_later_ms = (before.complete_to_ms or 0) + 1_000
    assert wait_until(lambda: (feed.source().complete_to_ms or 0) > second_later_ms, TIMEOUT_S)
    after = feed.source()
    return after.accepted == before.accepted and after.updated_ms > before.updated_ms


def _compare(given_out: pl.DataFrame, taken: pl.DataFrame) -> None:
    """Find the four switches by what is missing, and with them compare every tick the market gave out."""
    assert not taken.select("instrument", "id").is_duplicated().any()
    # The market gives some out twice on purpose; those that it gave out once say all there is to know.
    once = given_out.filter(~given_out.select("instrument", "id").is_duplicated())
    key = ["instrument", "id"]
    missing = once.join(taken, on=key, how="anti")
    cursor, instrument = pl.col("cursor"), pl.col("instrument")
    of_left_out = missing.filter(instrument.is_in(LEFT_OUT))["cursor"]
    of_alone = missing.filter(instrument == ALONE)["cursor"]
    of_all_but_left_out = missing.filter(~instrument.is_in(LEFT_OUT))["cursor"]
    some_out, all_out = min(of_left_out), min(of_all_but_left_out)
    one_in, all_in = max(of_alone) + 1, max(missing["cursor"]) + 1
    assert some_out < all_out < one_in < all_in
    wanted = (
        pl.when(instrument.is_in(LEFT_OUT))
        .then((cursor < some_out) | (cursor >= all_in))
        .when(instrument == ALONE)
        .then((cursor < all_out) | (cursor >= one_in))
        .otherwise((cursor < all_out) | (cursor >= all_in))
    )
    columns = [*key, "price_open", "price_close", "volume"]
    expected = once.filter(wanted).select(columns)
    assert taken.join(once, on=key, how="semi", maintain_order="left").select(columns).rows() == expected.rows()
