"""The demo market's prices: they look like a market, and are the same again from the same seed."""

from dataclasses import fields

import numpy as np
import pytest

from barmill.simulator.prices import (
    INSTRUMENTS,
    LATE_MS,
    MAX_STEP_MS,
    TICK,
    VERY_LATE_MS,
    State,
    TickArray,
    advance,
    dump_state,
    first_state,
    load_state,
)

START_MS = 1_750_000_000_000
STEP_MS = 50
PLACE = {instrument.name: number for number, instrument in enumerate(INSTRUMENTS)}


def run(seconds: int, *, seed: int = 7, rate: float = 1.0, step_ms: int = STEP_MS) -> tuple[State, TickArray]:
    """Run a fresh market and return its last state and all ticks in order of arrival."""
    rng, state = np.random.default_rng(seed), first_state(INSTRUMENTS, START_MS, 1)
    parts = [np.empty(0, TICK)]
    for to_ms in range(START_MS + step_ms, START_MS + seconds * 1_000 + 1, step_ms):
        state, ticks = advance(state, INSTRUMENTS, to_ms, rate, rng)
        parts.append(ticks)
    return state, np.concatenate(parts)


def same(state: State, other: State) -> bool:
    return all(np.array_equal(getattr(state, field.name), getattr(other, field.name)) for field in fields(State))


@pytest.fixture(scope="module")
def half_hour() -> TickArray:
    return run(1_800, step_ms=500)[1]


def of(ticks: TickArray, name: str) -> TickArray:
    """Return each tick of an instrument once, in the order of its ids."""
    mine = ticks[ticks["instrument"] == PLACE[name]]
    once: TickArray = mine[np.unique(mine["id"], return_index=True)[1]]
    return once


def test_instruments_are_about_twenty_of_different_tempo() -> None:
    tempo = [instrument.ticks_per_s for instrument in INSTRUMENTS]
    assert len({instrument.name for instrument in INSTRUMENTS}) == len(INSTRUMENTS) == 20
    assert max(tempo) == 30
    assert min(tempo) == 1 / 60
    assert sum(tempo) == pytest.approx(120, rel=0.01)
    assert 1 <= sum(not instrument.has_volume for instrument in INSTRUMENTS) <= 2


def test_the_same_seed_gives_the_same_market() -> None:
    state, first = run(30, seed=3)
    other, second = run(30, seed=3)
    assert same(state, other)
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != run(30, seed=4)[1].tobytes()


def test_prices_are_positive_and_on_the_grid(half_hour: TickArray) -> None:
    steps = np.array([instrument.price_step for instrument in INSTRUMENTS])[half_hour["instrument"]]
    for side in ("open", "close"):
        assert (half_hour[side] > 0).all()
        assert (half_hour[side] % steps == 0).all()


def test_volumes_are_positive_with_a_heavy_tail_or_missing(half_hour: TickArray) -> None:
    for name, place in PLACE.items():
        volumes = half_hour["volume"][half_hour["instrument"] == place]
        assert ((volumes > 0) if INSTRUMENTS[place].has_volume else (volumes == -1)).all(), name
    busy = of(half_hour, "OAKR/USD")["volume"]
    assert busy.max() > 20 * np.median(busy)


def test_some_updates_move_and_most_do_not(half_hour: TickArray) -> None:
    moved = (half_hour["open"] != half_hour["close"]).mean()
    assert 0.02 < moved < 0.5


def test_opens_now_and_then_leave_a_gap_to_the_close_before(half_hour: TickArray) -> None:
    ticks = of(half_hour, "OAKR/USD")
    assert (ticks["open"][1:] != ticks["close"][:-1]).mean() > 0.05


def test_the_total_rate_is_about_what_was_asked_for(half_hour: TickArray) -> None:
    assert half_hour.size / 1_800 == pytest.approx(120, rel=0.25)
    assert run(60, rate=40, step_ms=200)[1].size / 60 == pytest.approx(4_800, rel=0.4)


def test_a_higher_rate_does_not_make_prices_wilder() -> None:
    def spread(rate: float) -> float:
        closes = of(run(600, rate=rate, step_ms=500)[1], "GLFN/USD")
        second = (closes["time_ms"] - START_MS) // 1_000
        last = np.unique(second[::-1], return_index=True)[1]
        returns = np.diff(np.log(closes["close"][::-1][last]))
        return float(np.percentile(abs(returns), 75))

    assert 0.4 < spread(10) / spread(1) < 2.5


def test_returns_have_fat_tails_and_volatility_clusters() -> None:
    calm_and_wild = of(run(7_200, seed=11, step_ms=1_000)[1], "ZEFK/USD")
    second = (calm_and_wild["time_ms"] - START_MS) // 5_000
    last = np.unique(second[::-1], return_index=True)[1]
    returns = np.diff(np.log(calm_and_wild["close"][::-1][last]))
    standard = (returns - returns.mean()) / returns.std()
    assert (standard**4).mean() > 3.5  # 3 for a plain random walk
    size = abs(standard)
    assert np.corrcoef(size[:-1], size[1:])[0, 1] > 0.1  # 0 for a plain random walk


def test_tempo_has_bursts_and_quiet_spells(half_hour: TickArray) -> None:
    per_second = np.bincount((of(half_hour, "OAKR/USD")["time_ms"] - START_MS) // 1_000, minlength=1_800)
    assert per_second.max() > 90
    assert (per_second == 0).sum() >= 5


def test_ids_rise_with_time_within_an_instrument_and_have_no_gaps(half_hour: TickArray) -> None:
    for name in ("OAKR/USD", "FLRN/GRTS", "HXMN/USD"):
        ticks = of(half_hour, name)
        assert (np.diff(ticks["time_ms"]) >= 0).all()
        missing = ticks["id"][-1] - ticks["id"][0] + 1 - ticks.size
        assert missing <= 2  # the last ones may be held back still


def test_ticks_arrive_in_order_except_late_ones(half_hour: TickArray) -> None:
    assert (np.diff(half_hour["arrival_ms"]) >= 0).all()
    firsts = half_hour[np.unique(half_hour[["instrument", "id"]], return_index=True)[1]]
    delay = firsts["arrival_ms"] - firsts["time_ms"]
    late = delay > 0
    assert 0.0002 < late.mean() < 0.005
    few_seconds = (delay >= LATE_MS[0]) & (delay < LATE_MS[1])
    assert few_seconds.sum() > 50
    rarely = (delay >= VERY_LATE_MS[0]) & (delay < VERY_LATE_MS[1])
    assert 1 <= rarely.sum() < 30
    assert (few_seconds | rarely)[late].all()


def test_some_ticks_come_twice_and_are_the_same(half_hour: TickArray) -> None:
    _, places, counts = np.unique(half_hour[["instrument", "id"]], return_inverse=True, return_counts=True)
    again = half_hour[counts[places] > 1]
    assert 0.0002 < again.size / 2 / half_hour.size < 0.002
    assert counts.max() == 2
    pairs = again[np.lexsort((again["id"], again["instrument"]))]
    for field in ("time_ms", "open", "close", "volume"):
        assert (pairs[field][::2] == pairs[field][1::2]).all()


def test_a_step_gives_only_times_within_it() -> None:
    state, rng = first_state(INSTRUMENTS, START_MS, 1), np.random.default_rng(1)
    before = set[tuple[int, int]]()
    for to_ms in range(START_MS + STEP_MS, START_MS + 20_000, STEP_MS):
        held = {(row[2], row[6]) for row in state.held_back.tolist()}
        state, ticks = advance(state, INSTRUMENTS, to_ms, 10, rng)
        for row in ticks.tolist():
            assert row[1] <= to_ms
            assert row[1] > to_ms - STEP_MS or (row[2], row[6]) in held | before
        assert (state.held_back["arrival_ms"] > to_ms).all()
        before = {(row[2], row[6]) for row in ticks.tolist()}


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    state, _ = run(1)
    rng = np.random.default_rng(1)
    for to_ms in (state.clock_ms, state.clock_ms - 10_000):
        after, ticks = advance(state, INSTRUMENTS, to_ms, 1, rng)
        assert after is state
        assert ticks.size == 0


def test_nothing_is_made_up_for_a_long_pause() -> None:
    state, before = run(10)
    after, ticks = advance(state, INSTRUMENTS, state.clock_ms + 3_600_000, 1, np.random.default_rng(1))
    new = ticks[ticks["id"] >= state.next_id[ticks["instrument"]]]
    assert (new["time_ms"] > after.clock_ms - MAX_STEP_MS).all()
    assert 0 < new.size < before.size


def test_the_state_survives_being_saved() -> None:
    state, _ = run(20, rate=50)
    assert state.held_back.size > 0
    saved = dump_state(state, INSTRUMENTS)
    assert same(load_state(saved, INSTRUMENTS, 1), state)


def test_a_saved_state_fits_a_changed_list_of_instruments() -> None:
    state, _ = run(20, rate=50)
    fewer = (INSTRUMENTS[3], INSTRUMENTS[0])
    loaded = load_state(dump_state(state, INSTRUMENTS), fewer, 99)
    assert loaded.next_id.tolist() == [state.next_id[3], state.next_id[0]]
    assert set(loaded.held_back["instrument"].tolist()) <= {0, 1}
    grown = load_state(dump_state(loaded, fewer), INSTRUMENTS, 99)
    assert grown.next_id[0] == state.next_id[0]
    assert grown.next_id[5] == 99
