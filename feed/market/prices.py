"""How the demo market's prices come about: pure functions of a state, the time and a random generator.

Each instrument's log price is a random walk with fat-tailed steps, weakly drawn to its starting price so that it stays
in a sensible range for months. Volatility and tempo wander slowly (so both cluster), tempo now and then bursts or
falls silent, and rarely the price jumps between two ticks. A few ticks reach the market late, a few twice.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from feed.market.instruments import Instrument

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TickArray = npt.NDArray[np.void]

TICK = np.dtype(
    [
        ("arrival_ms", np.int64),  # when the market gives it out
        ("time_ms", np.int64),  # when it was true
        ("instrument", np.int64),  # place in the list of instruments
        ("open", np.int64),  # prices in units of the last decimal
        ("close", np.int64),
        ("volume", np.int64),  # in units of the last decimal, -1 without volume
        ("id", np.int64),
    ]
)
"""A tick in whole numbers, so that what is printed from it is decimal-clean."""

# After a longer pause (a restart, a sleeping laptop) there was no market in between: nothing is made up for that time.
MAX_STEP_MS = 1_000

_PULL_S = 86_400.0  # how long a price takes to forget where it wandered
_VOLATILITY_SPREAD, _VOLATILITY_MEMORY_S = 0.6, 120.0
_TEMPO_SPREAD, _TEMPO_MEMORY_S = 0.5, 60.0
_BURST_EVERY_S, _BURST_STRENGTH, _BURST_MEMORY_S = 90.0, 4.0, 3.0
_QUIET_EVERY_S, _QUIET_MEAN_S, _QUIET_MAX_S = 240.0, 8.0, 60.0
_JUMP_EVERY_S, _JUMP_IN_SECONDS_OF_VOLATILITY = 900.0, 8.0
# Long-run mean of burst and quiet spells together, divided out so that the nominal rate holds.
_MEAN_BURST = 1 + _BURST_STRENGTH * _BURST_MEMORY_S / _BURST_EVERY_S
_MEAN_TEMPO = _MEAN_BURST * _QUIET_EVERY_S / (_QUIET_MEAN_S + _QUIET_EVERY_S)
_STUDENT_DF = 4.0
_WIDE_SHARE, _WIDE_MOVE = 0.35, 0.6  # updates of several trades: open and close differ
_VOLUME_TAIL = 2.2

LATE_SHARE, LATE_MS = 1e-3, (200, 4_000)
VERY_LATE_SHARE, VERY_LATE_MS = 2e-5, (20_000, 60_000)
REPEAT_SHARE, REPEAT_MS = 5e-4, (0, 2_000)


@dataclass(frozen=True)
class State:
    """Everything the next step depends on; arrays have one entry for each instrument."""

    clock_ms: int
    next_id: IntArray
    deviation: FloatArray  # log of the price over the starting price
    volatility: FloatArray  # log, 0 in the long run
    tempo: FloatArray  # log, 0 in the long run
    burst: FloatArray
    quiet_until_ms: IntArray
    held_back: TickArray  # late ticks and repeats, not given out yet


def first_state(instruments: tuple[Instrument, ...], clock_ms: int, first_id: int) -> State:
    """Return the state of a market that opens at this time."""
    count = len(instruments)
    zeros = np.zeros(count)
    ids = np.full(count, first_id, np.int64)
    return State(clock_ms, ids, zeros, zeros, zeros, zeros, np.zeros(count, np.int64), np.empty(0, TICK))


def advance(
    state: State, instruments: tuple[Instrument, ...], to_ms: int, rate: float, rng: np.random.Generator
) -> tuple[State, TickArray]:
    """Move the market on to `to_ms`; return its new state and the ticks it gives out, in order of arrival.

    Times of new ticks lie in (clock before, to_ms]; only what was held back is older. `rate` multiplies the tempo of
    all instruments without making them more volatile. A clock that went back gives no ticks.
    """
    if to_ms <= state.clock_ms:
        return state, np.empty(0, TICK)
    from_ms = max(state.clock_ms, to_ms - MAX_STEP_MS)
    state = _weather(state, instruments, from_ms, to_ms, rng)
    counts = rng.poisson(_intensity(state, instruments, from_ms, rate) * (to_ms - from_ms) / 1_000)
    of = np.repeat(np.arange(len(instruments)), counts)
    ticks = np.empty(of.size, TICK)
    ticks["instrument"] = of
    ticks["time_ms"] = rng.integers(from_ms + 1, to_ms, of.size, endpoint=True)
    ticks = ticks[np.lexsort((ticks["time_ms"], of))]
    ticks["arrival_ms"] = ticks["time_ms"]
    ticks["id"] = state.next_id[of] + _place_in_group(counts)
    deviation = _trade(ticks, state, counts, instruments, rate, rng)
    state = replace(state, clock_ms=to_ms, next_id=state.next_id + counts, deviation=deviation)
    return _give_out(state, ticks, rng)


def _weather(
    state: State, instruments: tuple[Instrument, ...], from_ms: int, to_ms: int, rng: np.random.Generator
) -> State:
    """Move on what changes with time rather than with ticks."""
    count, dt_s = len(instruments), (to_ms - from_ms) / 1_000
    sigma = _per_second(instruments)
    starts = rng.random((3, count)) < dt_s / np.array([[_BURST_EVERY_S], [_QUIET_EVERY_S], [_JUMP_EVERY_S]])
    burst = state.burst * np.exp(-dt_s / _BURST_MEMORY_S) + starts[0] * rng.exponential(_BURST_STRENGTH, count)
    quiet_ms = (1_000 * np.minimum(rng.exponential(_QUIET_MEAN_S, count), _QUIET_MAX_S)).astype(np.int64)
    jump = starts[2] * rng.normal(0, _JUMP_IN_SECONDS_OF_VOLATILITY, count) * sigma
    return replace(
        state,
        deviation=state.deviation * np.exp(-dt_s / _PULL_S) + jump,
        volatility=_wander(state.volatility, _VOLATILITY_SPREAD, dt_s / _VOLATILITY_MEMORY_S, rng),
        tempo=_wander(state.tempo, _TEMPO_SPREAD, dt_s / _TEMPO_MEMORY_S, rng),
        burst=burst,
        quiet_until_ms=np.where(starts[1], np.maximum(state.quiet_until_ms, to_ms + quiet_ms), state.quiet_until_ms),
    )


def _wander(level: FloatArray, spread: float, dt: float, rng: np.random.Generator) -> FloatArray:
    kept = np.exp(-dt)
    wandered: FloatArray = level * kept + rng.normal(0, spread * np.sqrt(1 - kept**2), level.size)
    return wandered


def _intensity(state: State, instruments: tuple[Instrument, ...], from_ms: int, rate: float) -> FloatArray:
    nominal = np.array([one.ticks_per_s for one in instruments]) * rate / _MEAN_TEMPO
    tempo = np.exp(state.tempo - _TEMPO_SPREAD**2 / 2) * (1 + state.burst)
    intensity: FloatArray = nominal * tempo * (state.quiet_until_ms <= from_ms)
    return intensity


def _trade(
    ticks: TickArray,
    state: State,
    counts: IntArray,
    instruments: tuple[Instrument, ...],
    rate: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Fill in prices and volumes, by instrument and time; return where each instrument's log price ends."""
    of, size = ticks["instrument"], ticks.size
    nominal = np.array([one.ticks_per_s for one in instruments]) * rate
    step = (_per_second(instruments) * np.exp(state.volatility - _VOLATILITY_SPREAD**2) / np.sqrt(nominal))[of]
    shocks = rng.standard_t(_STUDENT_DF, (2, size)) / np.sqrt(_STUDENT_DF / (_STUDENT_DF - 2))
    to_open = step * shocks[0]
    inside = step * shocks[1] * _WIDE_MOVE * (rng.random(size) < _WIDE_SHARE)
    walked = np.cumsum(to_open + inside)
    before = np.concatenate(([0.0], walked))[np.cumsum(counts) - counts]
    close = state.deviation[of] + walked - before[of]
    ticks["open"] = _on_grid(close - inside, of, instruments)
    ticks["close"] = _on_grid(close, of, instruments)
    ticks["volume"] = _volumes(of, instruments, rng)
    end = state.deviation.copy()
    end[counts > 0] = close[np.cumsum(counts)[counts > 0] - 1]
    return end


def _on_grid(deviation: FloatArray, of: IntArray, instruments: tuple[Instrument, ...]) -> IntArray:
    step = np.array([one.price_step for one in instruments], np.int64)[of]
    start = np.array([one.start_price * 10**one.price_decimals for one in instruments])[of]
    steps = np.rint(start * np.exp(deviation) / step).astype(np.int64)
    on_grid: IntArray = np.maximum(steps, 1) * step
    return on_grid


def _volumes(of: IntArray, instruments: tuple[Instrument, ...], rng: np.random.Generator) -> IntArray:
    typical = np.array([one.typical_volume * 10**one.volume_decimals for one in instruments])[of]
    sizes = typical * rng.lognormal(-0.5, 0.8, of.size) * (1 + rng.pareto(_VOLUME_TAIL, of.size))
    volumes = np.maximum(np.rint(sizes), 1).astype(np.int64)
    return np.where(typical > 0, volumes, -1)


def _give_out(state: State, ticks: TickArray, rng: np.random.Generator) -> tuple[State, TickArray]:
    """Hold back what comes late, add the repeats, and let go what is due."""
    luck = rng.random(ticks.size)
    for share, (shortest_ms, longest_ms) in ((LATE_SHARE, LATE_MS), (VERY_LATE_SHARE, VERY_LATE_MS)):
        late = luck < share
        ticks["arrival_ms"][late] = ticks["time_ms"][late] + rng.integers(shortest_ms, longest_ms, late.sum())
    repeats = ticks[rng.random(ticks.size) < REPEAT_SHARE].copy()
    repeats["arrival_ms"] += rng.integers(*REPEAT_MS, repeats.size)
    every = np.concatenate((state.held_back, ticks, repeats))
    due = every["arrival_ms"] <= state.clock_ms
    now = every[due]
    return replace(state, held_back=every[~due]), now[np.lexsort((now["id"], now["arrival_ms"]))]


def _per_second(instruments: tuple[Instrument, ...]) -> FloatArray:
    return np.array([one.volatility_ppm for one in instruments]) / 1e6


def _place_in_group(counts: IntArray) -> IntArray:
    place: IntArray = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return place
