"""The size of a shard's open bars in memory and in Flink state: python -m benchmarks.state.

Every instrument trades once a second for longer than the lateness, so the lateness determines how many bars stay open.
"""

import numpy as np
import polars as pl

from barmill.model.frames import parse_frames
from barmill.model.tick import TICK_SCHEMA
from flink_jobs.open_bars import OpenBars
from flink_jobs.publication import to_bytes

_START_NS = 1_700_000_000_000_000_000
_LATENESS_S = 300
_SECONDS_PER_BATCH = 20


def ticks(first_s: int, seconds: int, instruments: int) -> pl.DataFrame:
    """Return one tick per second of each instrument: TICK_SCHEMA and sequence."""
    second = np.repeat(np.arange(first_s, first_s + seconds), instruments)
    number = np.tile(np.arange(instruments), seconds)
    price = 100 + (second * 7 + number) % 1_000 / 100
    return pl.DataFrame(
        {
            "time_ns": _START_NS + second * 1_000_000_000 + number,
            "instrument": pl.Series(number).cast(pl.String).str.zfill(6) + "/USD",
            "price_open": price,
            "price_close": price,
            "volume": price / 7,
            "id": None,
            "line": None,
            "id_text": None,
            "sequence": second * instruments + number,
        },
        schema={**TICK_SCHEMA, "sequence": pl.Int64},
    )


def main() -> None:
    """Print the sizes as a table."""
    print("| instruments | frames | partials | bytes of state | per instrument | bytes in memory | per instrument |")
    print("|---|---|---|---|---|---|---|")
    for text in ("1s,1m,1h", "1m,1h"):
        for instruments in (100, 5_000):
            open_bars = OpenBars(parse_frames(text), _LATENESS_S * 1_000, 1_000)
            for first_s in range(0, _LATENESS_S + 2 * _SECONDS_PER_BATCH, _SECONDS_PER_BATCH):
                open_bars.add(ticks(first_s, _SECONDS_PER_BATCH, instruments))
            settled = open_bars.settle(now=True)
            assert settled is not None
            partials = settled[1]
            sizes = len(to_bytes(partials)), int(partials.estimated_size())
            averages = " | ".join(f"{size:,} | {size / instruments:,.0f}" for size in sizes)
            print(f"| {instruments:,} | {text} | {partials.height:,} | {averages} |")


if __name__ == "__main__":
    main()
