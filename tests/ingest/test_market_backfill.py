"""The days before a demo market opened: plausible, the same again from the same seed, and joined to the live edge."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barmill.simulator.backfill import activity_at, backfill
from barmill.simulator.exchange import Exchange
from barmill.simulator.history import Block, History
from barmill.simulator.prices import INSTRUMENTS, TickArray

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
END_MS = 1_764_072_000_000  # a Tuesday at 12:00 UTC
START_MS = END_MS - 7 * DAY_MS
FIRST_ID = 1_000


def week(seed: int = 7) -> TickArray:
    return backfill(INSTRUMENTS, START_MS, END_MS, FIRST_ID, np.random.default_rng(seed))[1]


@pytest.fixture(scope="module")
def ticks() -> TickArray:
    return week()


def each(ticks: TickArray) -> Iterator[tuple[str, TickArray]]:
    for place, instrument in enumerate(INSTRUMENTS):
        yield instrument.name, ticks[ticks["instrument"] == place]


def test_the_same_seed_gives_the_same_days() -> None:
    assert week(3).tobytes() == week(3).tobytes() != week(4).tobytes()


def test_ticks_are_in_order_of_time_and_their_ids_rise_without_gaps(ticks: TickArray) -> None:
    assert ticks["time_ms"][0] >= START_MS
    assert ticks["time_ms"][-1] < END_MS
    assert (np.diff(ticks["time_ms"]) >= 0).all()
    assert (ticks["arrival_ms"] == ticks["time_ms"]).all()
    for name, mine in each(ticks):
        assert (mine["id"] == FIRST_ID + np.arange(mine.size)).all(), name


def test_the_market_continues_where_they_end(ticks: TickArray) -> None:
    state, again = backfill(INSTRUMENTS, START_MS, END_MS, FIRST_ID, np.random.default_rng(7))
    assert again.tobytes() == ticks.tobytes()
    assert state.clock_ms == END_MS
    for place, (name, mine) in enumerate(each(ticks)):
        instrument = INSTRUMENTS[place]
        assert state.next_id[place] == mine["id"][-1] + 1, name
        price = instrument.start_price * np.exp(state.deviation[place]) * 10**instrument.price_decimals
        assert abs(price - mine["close"][-1]) <= instrument.price_step, name


def test_every_instrument_has_most_hours_and_some_pauses(ticks: TickArray) -> None:
    for name, mine in each(ticks):
        assert np.unique(mine["time_ms"] // HOUR_MS).size >= 150, name
    busiest = next(mine for _, mine in each(ticks))
    assert (np.diff(busiest["time_ms"]) > 30 * 60_000).any()


def test_ticks_are_denser_towards_the_end_and_few_enough(ticks: TickArray) -> None:
    per_day = np.histogram(ticks["time_ms"], np.arange(START_MS, END_MS + 1, DAY_MS))[0]
    last_hour = (ticks["time_ms"] >= END_MS - HOUR_MS).sum()
    assert last_hour > 3 * per_day[0] / 24
    assert 100_000 < ticks.size < 250_000


def test_nights_and_the_weekend_are_quieter(ticks: TickArray) -> None:
    busy = next(mine for _, mine in each(ticks))
    old = busy[busy["time_ms"] < END_MS - DAY_MS]
    hour, day = old["time_ms"] % DAY_MS // HOUR_MS, (old["time_ms"] // DAY_MS + 3) % 7
    weekday = day < 5
    volume = {
        name: old["volume"][weekday & (hour >= first) & (hour < end)].sum()
        for name, first, end in (("night", 1, 5), ("day", 13, 17))
    }
    assert 2 * volume["night"] < volume["day"]
    saturday, friday = (old["volume"][day == number].sum() for number in (5, 4))
    assert 1.5 * saturday < friday
    assert activity_at(np.array([START_MS])).shape == (1,)


def test_volumes_meet_those_of_the_live_market() -> None:
    instrument = INSTRUMENTS[0]
    busiest = next(mine for _, mine in each(week(5)))
    last_hour = busiest[busiest["time_ms"] >= END_MS - HOUR_MS]
    live_per_hour = instrument.typical_volume * 1.5 * instrument.ticks_per_s * 3_600
    assert 0.6 < last_hour["volume"].sum() / live_per_hour < 1.6


def test_prices_move_as_wide_as_live_ones_and_stay_on_the_grid(ticks: TickArray) -> None:
    for place, (name, mine) in enumerate(each(ticks)):
        instrument = INSTRUMENTS[place]
        for side in ("open", "close"):
            assert (mine[side] > 0).all(), name
            assert (mine[side] % instrument.price_step == 0).all(), name
        assert ((mine["volume"] > 0) if instrument.has_volume else (mine["volume"] == -1)).all(), name
        moved = mine["close"].max() / mine["close"].min() - 1
        usual = instrument.volatility_ppm / 1e6 * np.sqrt(DAY_MS / 1_000)
        assert usual / 2 < moved < 12 * usual, name


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History.open(tmp_path / "history.sqlite")
    yield history
    history.close()


def offered(exchange: Exchange) -> list[dict[str, Any]]:
    lines = exchange.read(exchange.oldest_cursor, 10_000_000).lines
    return [json.loads(line) for line in lines.splitlines()]


def test_the_past_joins_the_live_edge_without_gap_or_repeat(history: History) -> None:
    exchange = Exchange(history, np.random.default_rng(1), past_ms=120_000, backfill_ms=DAY_MS)
    exchange.step(exchange.clock_ms + 1_000)
    rows = offered(exchange)
    cursors = [row["cursor"] for row in rows]
    assert cursors == list(range(exchange.oldest_cursor + 1, exchange.newest_cursor + 1))
    past_ms = exchange.clock_ms - 125_000
    for instrument in INSTRUMENTS[:8]:
        own = {row["id"]: row for row in rows if row["instrument"] == instrument.name}  # without repeats
        in_order = [own[number] for number in sorted(own)]
        assert in_order[0]["time"] < past_ms - 0.9 * DAY_MS
        assert all(before["time"] <= after["time"] for before, after in itertools.pairwise(in_order))
        edge = next(place for place, row in enumerate(in_order) if row["time"] >= past_ms)
        jump = abs(in_order[edge]["price_open"] / in_order[edge - 1]["price_close"] - 1)
        assert jump < 0.02, instrument.name
        meeting = in_order[edge]["time"] - in_order[edge - 1]["time"]
        assert meeting < 15 * 60_000, instrument.name


def test_what_is_called_complete_has_been_sent(history: History) -> None:
    exchange = Exchange(history, np.random.default_rng(1), backfill_ms=DAY_MS)
    after, complete_ms = exchange.oldest_cursor, 0
    while after < exchange.newest_cursor:
        kept = exchange.read(after, 1_000)
        times = [json.loads(line)["time"] for line in kept.lines.splitlines()]
        assert times[0] > complete_ms
        after, complete_ms = kept.cursor, kept.to_ms
    assert complete_ms == exchange.clock_ms


def test_asked_again_it_is_the_same_and_a_market_with_a_past_gets_no_other(history: History) -> None:
    first = Exchange(history, np.random.default_rng(1), backfill_ms=DAY_MS)
    before = offered(first)
    again = Exchange(history, np.random.default_rng(2), backfill_ms=DAY_MS)
    assert offered(again) == before


def test_an_older_home_gets_no_backfill(history: History) -> None:
    old = Exchange(history, np.random.default_rng(1), past_ms=60_000)
    now = Exchange(history, np.random.default_rng(2), backfill_ms=DAY_MS)
    assert offered(now) == offered(old)


def test_the_backfill_is_kept_as_long_as_what_was_given_out_when_the_market_opened(tmp_path: Path) -> None:
    path, opened_ms, age_ms = tmp_path / "history.sqlite", 1_000_000, 10_000
    history = History.open(path, max_age_ms=age_ms)
    history.begin(1, [Block(2, 5_000, b"{}\n{}\n"), Block(1, 9_000, b"{}\n")], "state", opened_ms)
    assert history.load() == (3, "state")
    history.append(4, 1, opened_ms + age_ms, b"{}\n", "state")
    history.close()
    history = History.open(path, max_age_ms=age_ms)  # it knows when it opened also after a restart
    history.append(5, 1, opened_ms + age_ms, b"{}\n", "state")
    assert history.oldest_cursor(5) == 0
    history.append(6, 1, opened_ms + age_ms + 1, b"{}\n", "state")
    assert history.oldest_cursor(6) == 3
    history.close()
