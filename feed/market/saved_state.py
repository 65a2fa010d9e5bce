"""The market's state as JSON text, so that it goes on after a restart where it stopped."""

import json

import numpy as np

from feed.market.instruments import Instrument
from feed.market.prices import TICK, State, first_state

_PER_INSTRUMENT = ("next_id", "deviation", "volatility", "tempo", "burst", "quiet_until_ms")


def dump_state(state: State, instruments: tuple[Instrument, ...]) -> str:
    """Write the state by instrument name, so that a later version may have others."""
    columns = [getattr(state, field).tolist() for field in _PER_INSTRUMENT]
    rows = zip(*columns, strict=True)
    by_name = {
        one.name: dict(zip(_PER_INSTRUMENT, row, strict=True)) for one, row in zip(instruments, rows, strict=True)
    }
    held_back = [(instruments[row[2]].name, *row) for row in state.held_back.tolist()]
    return json.dumps({"clock_ms": state.clock_ms, "instruments": by_name, "held_back": held_back})


def load_state(text: str, instruments: tuple[Instrument, ...], first_id: int) -> State:
    """Read the state back; an instrument it does not know yet opens now, one that is gone is left out."""
    saved = json.loads(text)
    state = first_state(instruments, saved["clock_ms"], first_id)
    columns = {field: getattr(state, field).copy() for field in _PER_INSTRUMENT}
    place = {one.name: number for number, one in enumerate(instruments)}
    for name, values in saved["instruments"].items():
        if name in place:
            for field in _PER_INSTRUMENT:
                columns[field][place[name]] = values[field]
    rows = [(row[0], row[1], place[name], *row[3:]) for name, *row in saved["held_back"] if name in place]
    return State(clock_ms=saved["clock_ms"], held_back=np.array(rows, TICK), **columns)
