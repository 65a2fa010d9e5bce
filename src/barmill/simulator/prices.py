"""Price generation of the demo market: pure functions of a serializable state, the time and a random generator.

Each instrument's log price is a random walk with fat-tailed steps that slowly reverts to its starting price, so that it
stays in a sensible range for months. Volatility and tempo change slowly, so both cluster. Tempo occasionally bursts or
falls silent, and rarely the price jumps between two ticks. A few ticks arrive late, a few twice.

No name here belongs to a real company or currency, and the prices have no meaning.
"""

import json
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Instrument:
    """A fictional instrument.

    price_step: the smallest price change, in units of the last decimal.
    ticks_per_s, volatility_ppm: long-run averages; the volatility is the standard deviation of the return over one
    second, in parts per million.
    typical_volume: 0 if the instrument has no volume, as foreign exchange quotes have none.
    """

    name: str
    description: str
    start_price: float
    price_decimals: int
    ticks_per_s: float
    volatility_ppm: float
    typical_volume: float
    volume_decimals: int = 0
    price_step: int = 1

    @property
    def has_volume(self) -> bool:
        """Return whether ticks of this instrument have a volume."""
        return self.typical_volume > 0


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument("OAKR/USD", "Oakroot Timber", 84.205, 3, 30, 120, 180),
    Instrument("GLFN/USD", "Glimmerfen Lanterns", 312.55, 2, 21, 190, 60),
    Instrument("ZEFK/USD", "Zeffirk Gliders", 41.372, 3, 15, 260, 300),
    Instrument("FLRN/GRTS", "Florins of Nowhere, in Groats", 1.08432, 5, 14, 22, 0),
    Instrument("FJLM/EUR", "Fjordlamp Energy", 127.40, 2, 11, 110, 90),
    Instrument("TMBW/USD", "Tumblewagon Freight", 9.845, 3, 8, 220, 1200),
    Instrument("MSBT/GBP", "Mossbottle Tea", 18.62, 2, 6, 130, 400),
    Instrument("QUIB/USD", "Quibble and Quill Paper", 55.10, 2, 4, 150, 150),
    Instrument("PEBL/USD", "Pebbletoken", 0.004213, 6, 3, 480, 25_000, 1),
    Instrument("DCTS/FLRN", "Ducats of Elsewhere, in Florins", 142.371, 3, 2.5, 30, 0),
    Instrument("WMPH/USD", "Wumphrey Balloons", 23.75, 2, 1.8, 320, 220, 0, 5),
    Instrument("DRZC/EUR", "Drizzlecap Umbrellas", 66.08, 2, 1.2, 100, 130),
    Instrument("BRBP/USD", "Brambleport Ferries", 31.90, 2, 0.8, 90, 260),
    Instrument("KNGW/USD", "Knurlgate Works", 208.4, 1, 0.5, 140, 40, 0, 1),
    Instrument("PNCK/USD", "Pancrake Ovens", 14.27, 2, 0.3, 170, 500),
    Instrument("SNKW/USD", "Snorkwell Divers", 3.482, 3, 0.2, 290, 2500),
    Instrument("VVTD/EUR", "Velvetoad Fabrics", 47.65, 2, 0.1, 80, 170, 0, 5),
    Instrument("HXMN/USD", "Hexmoon Mining", 1187.50, 2, 0.07, 210, 12, 3, 25),
    Instrument("CKLF/GBP", "Crickleford Cider", 7.316, 3, 0.033, 60, 900),
    Instrument("LMPQ/USD", "Lumpkin Quarries", 92.00, 2, 1 / 60, 70, 75),
)
"""All instruments, the busiest first. Their total is about 120 ticks per second."""


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
TickArray = npt.NDArray[np.void]

TICK = np.dtype(
    [
        ("arrival_ms", np.int64),  # when the market publishes it
        ("time_ms", np.int64),  # when the price was valid
        ("instrument", np.int64),  # index in the list of instruments
        ("open", np.int64),  # prices in units of the last decimal
        ("close", np.int64),
        ("volume", np.int64),  # in units of the last decimal, -1 without volume
        ("id", np.int64),
    ]
)
"""A tick in whole numbers, so that its values print as exact decimals."""

# After a longer pause (a restart, a sleeping laptop), no ticks are generated for the time in between.
MAX_STEP_MS = 1_000

MEAN_REVERSION_S = 86_400.0  # time constant of the return to the starting price
_VOLATILITY_SPREAD, _VOLATILITY_MEMORY_S = 0.6, 120.0
_TEMPO_SPREAD, _TEMPO_MEMORY_S = 0.5, 60.0
_BURST_EVERY_S, _BURST_STRENGTH, _BURST_MEMORY_S = 90.0, 4.0, 3.0
_QUIET_EVERY_S, _QUIET_MEAN_S, _QUIET_MAX_S = 240.0, 8.0, 60.0
_JUMP_EVERY_S, _JUMP_IN_SECONDS_OF_VOLATILITY = 900.0, 8.0
# Long-run mean of bursts and quiet times combined. Dividing by it keeps the nominal rate.
_MEAN_BURST = 1 + _BURST_STRENGTH * _BURST_MEMORY_S / _BURST_EVERY_S
_MEAN_TEMPO = _MEAN_BURST * _QUIET_EVERY_S / (_QUIET_MEAN_S + _QUIET_EVERY_S)
_STUDENT_DF = 4.0
_WIDE_SHARE, _WIDE_MOVE = 0.35, 0.6  # updates of several trades: open and close differ
_VOLUME_TAIL = 2.2
_VOLUME_MIDDLE, _VOLUME_SPREAD = -0.5, 0.8
# The mean volume of a tick relative to the typical volume.
MEAN_RELATIVE_VOLUME = float(np.exp(_VOLUME_MIDDLE + _VOLUME_SPREAD**2 / 2) * (1 + 1 / (_VOLUME_TAIL - 1)))

LATE_SHARE, LATE_MS = 1e-3, (200, 4_000)
VERY_LATE_SHARE, VERY_LATE_MS = 2e-5, (20_000, 60_000)
REPEAT_SHARE, REPEAT_MS = 5e-4, (0, 2_000)


@dataclass(frozen=True)
class State:
    """The state that the next step depends on. All arrays except held_back have one entry per instrument."""

    clock_ms: int
    next_id: IntArray
    deviation: FloatArray  # log of the price relative to the starting price
    volatility: FloatArray  # log, 0 in the long run
    tempo: FloatArray  # log, 0 in the long run
    burst: FloatArray
    quiet_until_ms: IntArray
    held_back: TickArray  # late ticks and repeats, not published yet


def first_state(instruments: tuple[Instrument, ...], clock_ms: int, first_id: int) -> State:
    """Return the state of a market that opens at this time."""
    count = len(instruments)
    zeros = np.zeros(count)
    ids = np.full(count, first_id, np.int64)
    return State(clock_ms, ids, zeros, zeros, zeros, zeros, np.zeros(count, np.int64), np.empty(0, TICK))


def advance(
    state: State, instruments: tuple[Instrument, ...], to_ms: int, rate: float, rng: np.random.Generator
) -> tuple[State, TickArray]:
    """Advance the market to `to_ms`. Return its new state and the ticks it publishes, in order of arrival.

    The ticks have the type TICK. Times of new ticks are in (previous clock, to_ms]; only ticks that were held back are
    older. `rate` multiplies the tempo of all instruments without making them more volatile. If the clock went back,
    there are no ticks.
    """
    if to_ms <= state.clock_ms:
        return state, np.empty(0, TICK)
    from_ms = max(state.clock_ms, to_ms - MAX_STEP_MS)
    state = _update_activity(state, instruments, from_ms, to_ms, rng)
    counts = rng.poisson(_intensity(state, instruments, from_ms, rate) * (to_ms - from_ms) / 1_000)
    index = np.repeat(np.arange(len(instruments)), counts)
    ticks = np.empty(index.size, TICK)
    ticks["instrument"] = index
    ticks["time_ms"] = rng.integers(from_ms + 1, to_ms, index.size, endpoint=True)
    ticks = ticks[np.lexsort((ticks["time_ms"], index))]
    ticks["arrival_ms"] = ticks["time_ms"]
    ticks["id"] = state.next_id[index] + _index_in_group(counts)
    deviation = _fill_prices(ticks, state, counts, instruments, rate, rng)
    state = replace(state, clock_ms=to_ms, next_id=state.next_id + counts, deviation=deviation)
    return _release_ticks(state, ticks, rng)


def _update_activity(
    state: State, instruments: tuple[Instrument, ...], from_ms: int, to_ms: int, rng: np.random.Generator
) -> State:
    """Advance what changes with time rather than with ticks."""
    count, dt_s = len(instruments), (to_ms - from_ms) / 1_000
    sigma = _per_second(instruments)
    starts = rng.random((3, count)) < dt_s / np.array([[_BURST_EVERY_S], [_QUIET_EVERY_S], [_JUMP_EVERY_S]])
    burst = state.burst * np.exp(-dt_s / _BURST_MEMORY_S) + starts[0] * rng.exponential(_BURST_STRENGTH, count)
    quiet_ms = (1_000 * np.minimum(rng.exponential(_QUIET_MEAN_S, count), _QUIET_MAX_S)).astype(np.int64)
    jump = starts[2] * rng.normal(0, _JUMP_IN_SECONDS_OF_VOLATILITY, count) * sigma
    return replace(
        state,
        deviation=state.deviation * np.exp(-dt_s / MEAN_REVERSION_S) + jump,
        volatility=_revert_to_mean(state.volatility, _VOLATILITY_SPREAD, dt_s / _VOLATILITY_MEMORY_S, rng),
        tempo=_revert_to_mean(state.tempo, _TEMPO_SPREAD, dt_s / _TEMPO_MEMORY_S, rng),
        burst=burst,
        quiet_until_ms=np.where(starts[1], np.maximum(state.quiet_until_ms, to_ms + quiet_ms), state.quiet_until_ms),
    )


def _revert_to_mean(level: FloatArray, spread: float, dt: float, rng: np.random.Generator) -> FloatArray:
    decay = np.exp(-dt)
    next_level: FloatArray = level * decay + rng.normal(0, spread * np.sqrt(1 - decay**2), level.size)
    return next_level


def _intensity(state: State, instruments: tuple[Instrument, ...], from_ms: int, rate: float) -> FloatArray:
    nominal = np.array([instrument.ticks_per_s for instrument in instruments]) * rate / _MEAN_TEMPO
    tempo = np.exp(state.tempo - _TEMPO_SPREAD**2 / 2) * (1 + state.burst)
    intensity: FloatArray = nominal * tempo * (state.quiet_until_ms <= from_ms)
    return intensity


def _fill_prices(
    ticks: TickArray,
    state: State,
    counts: IntArray,
    instruments: tuple[Instrument, ...],
    rate: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Fill in prices and volumes, by instrument and time. Return the final log price of each instrument."""
    index, size = ticks["instrument"], ticks.size
    nominal = np.array([instrument.ticks_per_s for instrument in instruments]) * rate
    step = (_per_second(instruments) * np.exp(state.volatility - _VOLATILITY_SPREAD**2) / np.sqrt(nominal))[index]
    shocks = rng.standard_t(_STUDENT_DF, (2, size)) / np.sqrt(_STUDENT_DF / (_STUDENT_DF - 2))
    to_open = step * shocks[0]
    within_tick = step * shocks[1] * _WIDE_MOVE * (rng.random(size) < _WIDE_SHARE)
    walked = np.cumsum(to_open + within_tick)
    before = np.concatenate(([0.0], walked))[np.cumsum(counts) - counts]
    close = state.deviation[index] + walked - before[index]
    ticks["open"] = round_to_grid(close - within_tick, index, instruments)
    ticks["close"] = round_to_grid(close, index, instruments)
    ticks["volume"] = _volumes(index, instruments, rng)
    end = state.deviation.copy()
    end[counts > 0] = close[np.cumsum(counts)[counts > 0] - 1]
    return end


def round_to_grid(deviation: FloatArray, index: IntArray, instruments: tuple[Instrument, ...]) -> IntArray:
    """Return prices in units of the last decimal, on each instrument's grid.

    deviation: log of the price relative to the starting price.
    """
    step = np.array([instrument.price_step for instrument in instruments], np.int64)[index]
    start = np.array([instrument.start_price * 10**instrument.price_decimals for instrument in instruments])[index]
    steps = np.rint(start * np.exp(deviation) / step).astype(np.int64)
    prices: IntArray = np.maximum(steps, 1) * step
    return prices


def _volumes(index: IntArray, instruments: tuple[Instrument, ...], rng: np.random.Generator) -> IntArray:
    typical = np.array([instrument.typical_volume * 10**instrument.volume_decimals for instrument in instruments])[
        index
    ]
    sizes = (
        typical * rng.lognormal(_VOLUME_MIDDLE, _VOLUME_SPREAD, index.size) * (1 + rng.pareto(_VOLUME_TAIL, index.size))
    )
    volumes = np.maximum(np.rint(sizes), 1).astype(np.int64)
    return np.where(typical > 0, volumes, -1)


def _release_ticks(state: State, ticks: TickArray, rng: np.random.Generator) -> tuple[State, TickArray]:
    """Hold back late ticks, add repeats, and return the ticks that are due."""
    draws = rng.random(ticks.size)
    for share, (shortest_ms, longest_ms) in ((LATE_SHARE, LATE_MS), (VERY_LATE_SHARE, VERY_LATE_MS)):
        late = draws < share
        ticks["arrival_ms"][late] = ticks["time_ms"][late] + rng.integers(shortest_ms, longest_ms, late.sum())
    repeats = ticks[rng.random(ticks.size) < REPEAT_SHARE].copy()
    repeats["arrival_ms"] += rng.integers(*REPEAT_MS, repeats.size)
    all_ticks = np.concatenate((state.held_back, ticks, repeats))
    is_due = all_ticks["arrival_ms"] <= state.clock_ms
    due_ticks = all_ticks[is_due]
    return replace(state, held_back=all_ticks[~is_due]), due_ticks[
        np.lexsort((due_ticks["id"], due_ticks["arrival_ms"]))
    ]


def _per_second(instruments: tuple[Instrument, ...]) -> FloatArray:
    return np.array([instrument.volatility_ppm for instrument in instruments]) / 1e6


def _index_in_group(counts: IntArray) -> IntArray:
    position: IntArray = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return position


_INSTRUMENT_FIELDS = ("next_id", "deviation", "volatility", "tempo", "burst", "quiet_until_ms")


def dump_state(state: State, instruments: tuple[Instrument, ...]) -> str:
    """Serialize the state by instrument name, so that a later version may have other instruments."""
    columns = [getattr(state, field).tolist() for field in _INSTRUMENT_FIELDS]
    rows = zip(*columns, strict=True)
    by_name = {
        instrument.name: dict(zip(_INSTRUMENT_FIELDS, row, strict=True))
        for instrument, row in zip(instruments, rows, strict=True)
    }
    held_back = [(instruments[row[2]].name, *row) for row in state.held_back.tolist()]
    return json.dumps({"clock_ms": state.clock_ms, "instruments": by_name, "held_back": held_back})


def load_state(text: str, instruments: tuple[Instrument, ...], first_id: int) -> State:
    """Restore the state. An instrument missing from it opens now; an instrument that no longer exists is omitted."""
    saved = json.loads(text)
    state = first_state(instruments, saved["clock_ms"], first_id)
    columns = {field: getattr(state, field).copy() for field in _INSTRUMENT_FIELDS}
    index = {instrument.name: number for number, instrument in enumerate(instruments)}
    for name, values in saved["instruments"].items():
        if name in index:
            for field in _INSTRUMENT_FIELDS:
                columns[field][index[name]] = values[field]
    rows = [(row[0], row[1], index[name], *row[3:]) for name, *row in saved["held_back"] if name in index]
    return State(clock_ms=saved["clock_ms"], held_back=np.array(rows, TICK), **columns)
