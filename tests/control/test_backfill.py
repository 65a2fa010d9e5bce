"""The days before a first start: who is offered them, and how far they are received by the feed and in bars."""

from contextlib import closing
from dataclasses import replace

import pytest

from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import Ports
from barmill.storage.tick_log import OldestBlock, TickLog
from control.freshness.flow import Flow, backfill_of
from control.system.readiness import backfill_days, programs
from tests.support.flows import NOW_MS, flow, progress, source
from tests.support.stores import Stores

DAY_MS = 86_400_000
OLDEST = OldestBlock(1, "market", NOW_MS - 7 * DAY_MS, NOW_MS)


def seen(oldest: OldestBlock | None, *, logged_ms: int, tick_age_ms: int | None, name: str = "market") -> Flow:
    """Return the stores' word: the feed is complete up to `logged_ms`, and bars hold ticks of that age."""
    changed = replace(source(name), complete_to_ms=logged_ms)
    found = flow(changed, job=progress(tick_age_ms=tick_age_ms or 0))
    return replace(found, oldest=oldest, progress=() if tick_age_ms is None else found.progress)


def test_progress_is_the_share_of_the_time() -> None:
    found = backfill_of(seen(OLDEST, logged_ms=NOW_MS - DAY_MS, tick_age_ms=int(3.5 * DAY_MS)))
    assert found is not None
    assert found.bars_share == 0.5
    assert found.sentence == "Demo history of 7 d: 85 % received, 50 % in the bars."
    assert found.as_json() == {"from_ms": NOW_MS - 7 * DAY_MS, "to_ms": NOW_MS, "logged": 0.857, "in_bars": 0.5}
    assert not found.is_complete


def test_without_bars_nothing_is_in_them() -> None:
    found = backfill_of(seen(OLDEST, logged_ms=NOW_MS, tick_age_ms=None))
    assert found is not None
    assert (found.logged_share, found.bars_share, found.is_complete) == (1.0, 0.0, False)


def test_it_is_done_when_bars_have_reached_the_start_and_stays_done() -> None:
    for later_ms in (0, DAY_MS):
        now = seen(OLDEST, logged_ms=NOW_MS + later_ms, tick_age_ms=-later_ms)
        found = backfill_of(now)
        assert found is not None
        assert (found.logged_share, found.bars_share, found.is_complete) == (1.0, 1.0, True)


def test_what_is_almost_in_the_bars_is_not_called_all() -> None:
    found = backfill_of(seen(OLDEST, logged_ms=NOW_MS - 1_000, tick_age_ms=1_000))
    assert found is not None
    assert "99 % received, 99 % in the bars" in found.sentence


@pytest.mark.parametrize(
    "oldest",
    [
        None,
        replace(OLDEST, first_sequence=2),  # retention has dropped the first ticks
        replace(OLDEST, oldest_ms=NOW_MS - 1_800_000),  # the half hour that a market always comes with
    ],
)
def test_a_log_that_begins_otherwise_has_no_backfill(oldest: OldestBlock | None) -> None:
    assert backfill_of(seen(oldest, logged_ms=NOW_MS, tick_age_ms=0)) is None


def test_a_recording_of_old_prices_is_no_backfill() -> None:
    oldest = replace(OLDEST, source="replay")
    assert backfill_of(seen(oldest, logged_ms=NOW_MS, tick_age_ms=0, name="replay")) is None


def test_only_a_home_without_ticks_is_offered_a_backfill(home: Home) -> None:
    assert backfill_days(home) == 7
    home.ticks_db.touch()
    assert backfill_days(home) == 7
    TickLog.open(home.ticks_db).close()
    assert backfill_days(home) == 7
    with closing(Stores(home)) as stores:
        stores.write([(NOW_MS, "AAA/USD", 19.5, 2.0)], closed_to_ms=NOW_MS)
    assert backfill_days(home) == 0


def test_a_market_backfills_only_where_it_is_asked_to(home: Home) -> None:
    ports, feed = Ports(1, 2, 3, 4), FeedSettings()
    for days, found in ((0, programs(home, ports, feed)), (7, programs(home, ports, feed, market_days=7))):
        [market] = [program.command for program in found if program.name == "market"]
        assert market[market.index("--backfill-days") + 1] == str(days)
