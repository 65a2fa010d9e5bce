"""Ticks of the days before a demo market opened, so that long charts are full from the start. Pure functions.

Prices follow the same kind of random walk as live prices (prices.py), but a tick sums up all trades since the previous
tick: it has their volume, and older ticks are sparser. Tempo and volatility depend on the time of day and the weekend;
towards the end they approach those of the live market, which depend on neither. Each instrument pauses now and then,
and all of them in a weekly maintenance window.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from barmill.platform.clock import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE
from barmill.simulator.prices import (
    MEAN_RELATIVE_VOLUME,
    MEAN_REVERSION_S,
    TICK,
    FloatArray,
    Instrument,
    IntArray,
    State,
    TickArray,
    first_state,
    round_to_grid,
)

BoolArray = npt.NDArray[np.bool_]

# Seconds between two ticks at average activity: proportional to their age, within these bounds.
_SPACING_S, _SPACING_PER_AGE = (4.0, 75.0), 1 / 1_800
# Activity by hour of the day (UTC) as (hour, multiple of the average): quiet nights, peak when two continents trade.
_ACTIVITY_BY_HOUR = (
    (0, 0.4),
    (5, 0.3),
    (7, 0.9),
    (9, 1.3),
    (12, 1.1),
    (14, 1.8),
    (16, 1.6),
    (20, 0.9),
    (22, 0.5),
    (24, 0.4),
)
_WEEKEND_ACTIVITY = 0.45
_BLEND_MS = 3 * MS_PER_HOUR
_PAUSES_PER_DAY, _PAUSE_MINUTES = 0.6, (5, 70)
_MAINTENANCE_WEEKDAY, _MAINTENANCE_MINUTES = 6, (5 * 60, 5 * 60 + 45)  # Sunday, from 05:00 to 05:45
_VOLATILITY_SPREAD, _VOLATILITY_MEMORY_MINUTES = 0.35, 360.0
# Jumps and moves within a tick increase the variance of a live price over its nominal volatility by this factor.
_EXTRA_VARIANCE = 1.2
_STUDENT_DF = 4.0
_WITHIN_TICK_SHARE = 0.35  # of the variance between two ticks: from the open to the close of a tick
_VOLUME_SPREAD = 0.5


def backfill(
    instruments: tuple[Instrument, ...], from_ms: int, to_ms: int, first_id: int, rng: np.random.Generator
) -> tuple[State, TickArray]:
    """Return ticks of [from_ms, to_ms) in time order, and the state of a market that continues from them at `to_ms`.

    The ticks have the type TICK; the ids of each instrument rise from `first_id`. Equal arguments and an equal random
    generator give equal ticks.
    """
    minutes = np.arange(from_ms, to_ms, MS_PER_MINUTE)
    activity = _blend_with_live(activity_at(minutes), minutes, to_ms)
    parts, counts, ends = [np.empty(0, TICK)], list[int](), list[float]()
    for number, instrument in enumerate(instruments):
        ticks, end = _ticks_of(instrument, minutes, to_ms, activity, rng)
        ticks["instrument"] = number
        ticks["id"] = first_id + np.arange(ticks.size)
        parts.append(ticks)
        counts.append(ticks.size)
        ends.append(end)
    ticks = np.concatenate(parts)
    state = first_state(instruments, to_ms, first_id)
    state = replace(state, next_id=state.next_id + np.array(counts, np.int64), deviation=np.array(ends))
    return state, ticks[np.lexsort((ticks["id"], ticks["instrument"], ticks["time_ms"]))]


def activity_at(times_ms: IntArray) -> FloatArray:
    """Return the activity of the market at these times; about 1 is the average of a weekday."""
    hours, shares = zip(*_ACTIVITY_BY_HOUR, strict=True)
    by_hour = np.interp(times_ms % MS_PER_DAY / MS_PER_HOUR, hours, shares)
    activity: FloatArray = np.where(_weekday(times_ms) >= 5, _WEEKEND_ACTIVITY, 1.0) * by_hour
    return activity


def _weekday(times_ms: IntArray) -> IntArray:
    weekday: IntArray = (times_ms // MS_PER_DAY + 3) % 7  # the epoch began on a Thursday; Monday is 0
    return weekday


def _blend_with_live(activity: FloatArray, times_ms: IntArray, to_ms: int) -> FloatArray:
    share = np.clip((to_ms - times_ms) / _BLEND_MS, 0, 1)
    blended: FloatArray = 1 + (activity - 1) * share
    return blended


def _ticks_of(
    instrument: Instrument, minutes: IntArray, to_ms: int, activity: FloatArray, rng: np.random.Generator
) -> tuple[TickArray, float]:
    """Return an instrument's ticks, without `instrument` and `id`, and its final log price."""
    trading = activity * _open_minutes(minutes, rng)
    times = _times(instrument, minutes, to_ms, trading, rng)
    variance_per_s = (
        _EXTRA_VARIANCE * (instrument.volatility_ppm / 1e6) ** 2 * activity * _volatility(minutes.size, rng)
    )
    opens, closes, end = _random_walk(
        instrument, np.diff(_cumulative(variance_per_s, minutes, to_ms, times), prepend=0.0), times, rng
    )
    trades = np.diff(_cumulative(instrument.ticks_per_s * trading, minutes, to_ms, times), prepend=0.0)
    ticks = np.empty(times.size, TICK)
    ticks["time_ms"] = ticks["arrival_ms"] = times
    index = np.zeros(times.size, np.int64)
    ticks["open"], ticks["close"] = (
        round_to_grid(opens, index, (instrument,)),
        round_to_grid(closes, index, (instrument,)),
    )
    ticks["volume"] = _volumes(instrument, trades, rng)
    return ticks, end


def _open_minutes(minutes: IntArray, rng: np.random.Generator) -> BoolArray:
    """Return, for each minute, whether the instrument is traded."""
    is_open = np.ones(minutes.size, bool)
    for start in np.flatnonzero(rng.random(minutes.size) < _PAUSES_PER_DAY * MS_PER_MINUTE / MS_PER_DAY):
        is_open[start : start + rng.integers(*_PAUSE_MINUTES)] = False
    minute_of_day = minutes % MS_PER_DAY // MS_PER_MINUTE
    first, end = _MAINTENANCE_MINUTES
    maintenance = (_weekday(minutes) == _MAINTENANCE_WEEKDAY) & (minute_of_day >= first) & (minute_of_day < end)
    traded: BoolArray = is_open & ~maintenance
    return traded


def _times(
    instrument: Instrument, minutes: IntArray, to_ms: int, trading: FloatArray, rng: np.random.Generator
) -> IntArray:
    """Return the times of the ticks, in ascending order."""
    spacing_s = np.clip((to_ms - minutes) / 1_000 * _SPACING_PER_AGE, *_SPACING_S)
    # Volume and volatility follow the activity. Ticks follow its square root, or quiet minutes would have none.
    per_minute = 60 * np.sqrt(trading) / np.maximum(spacing_s, 1 / instrument.ticks_per_s)
    starts = np.repeat(minutes, rng.poisson(per_minute))
    times = np.sort(starts + rng.integers(0, MS_PER_MINUTE, starts.size))
    earlier: IntArray = times[times < to_ms]
    return earlier


def _volatility(minute_count: int, rng: np.random.Generator) -> FloatArray:
    """Return the factor on the usual variance for each minute; 1 on average."""
    hours = minute_count // 60 + 2
    decay = np.exp(-60 / _VOLATILITY_MEMORY_MINUTES)
    level, levels = 0.0, []
    for shock in rng.normal(0, _VOLATILITY_SPREAD * np.sqrt(1 - decay**2), hours):
        level = level * decay + float(shock)
        levels.append(level)
    by_minute = np.interp(np.arange(minute_count) / 60, np.arange(hours), levels)
    variance: FloatArray = np.exp(2 * by_minute - 2 * _VOLATILITY_SPREAD**2)
    return variance


def _cumulative(per_s: FloatArray, minutes: IntArray, to_ms: int, times: IntArray) -> FloatArray:
    """Return a quantity per second, summed from the first minute to each of these times."""
    summed: FloatArray = np.interp(times, [*minutes, to_ms], np.concatenate(([0.0], np.cumsum(per_s * 60))))
    return summed


def _random_walk(
    instrument: Instrument, variance: FloatArray, times: IntArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, float]:
    """Return the log price relative to the starting price at the open and close of each tick, and at the end."""
    start = rng.normal(0, instrument.volatility_ppm / 1e6 * np.sqrt(MEAN_REVERSION_S / 2))
    if not times.size:
        return np.empty(0), np.empty(0), start
    shocks = rng.standard_t(_STUDENT_DF, (2, times.size)) / np.sqrt(_STUDENT_DF / (_STUDENT_DF - 2))
    to_open = np.sqrt(variance * (1 - _WITHIN_TICK_SHARE)) * shocks[0]
    within_tick = np.sqrt(variance * _WITHIN_TICK_SHARE) * shocks[1]
    # Each move decays on the way back to the starting price, as in a live market.
    growth = np.exp((times - times[0]) / 1_000 / MEAN_REVERSION_S)
    closes = (start + np.cumsum(growth * (to_open + within_tick))) / growth
    return closes - within_tick, closes, float(closes[-1])


def _volumes(instrument: Instrument, trades: FloatArray, rng: np.random.Generator) -> IntArray:
    if not instrument.has_volume:
        return np.full(trades.size, -1)
    expected = instrument.typical_volume * 10**instrument.volume_decimals * MEAN_RELATIVE_VOLUME * trades
    sizes = expected * rng.lognormal(-(_VOLUME_SPREAD**2) / 2, _VOLUME_SPREAD, trades.size)
    volumes: IntArray = np.maximum(np.rint(sizes), 1).astype(np.int64)
    return volumes
