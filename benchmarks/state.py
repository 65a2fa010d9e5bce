"""What a shard holds and keeps in Flink's state: python -m benchmarks.state.

Every instrument trades once a second for longer than the lateness; then what is held is what lateness makes it.
"""

import numpy as np
import polars as pl

from bar.frames import parse_frames
from feed.tick import TICK_SCHEMA
from flink_jobs.open_bars import OpenBars
from flink_jobs.publication import to_bytes

_START_NS = 1_700_000_000_000_000_000
_LATENESS_S = 300
_SECONDS_AT_ONCE = 20


def ticks(first_s: int, seconds: int, instruments: int) -> pl.DataFrame:
    """Return a tick a second of each instrument."""
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
    """Print a table."""
    print("| instruments | frames | partials | bytes of state | an instrument | bytes in memory | an instrument |")
    print("|---|---|---|---|---|---|---|")
    for text in ("1s,1m,1h", "1m,1h"):
        for instruments in (100, 5_000):
            open_bars = OpenBars(parse_frames(text), _LATENESS_S * 1_000, 1_000)
            for first_s in range(0, _LATENESS_S + 2 * _SECONDS_AT_ONCE, _SECONDS_AT_ONCE):
                open_bars.add(ticks(first_s, _SECONDS_AT_ONCE, instruments))
            settled = open_bars.settle(at_once=True)
            assert settled is not None
            kept = settled[1]
            sizes = len(to_bytes(kept)), int(kept.estimated_size())
            told = " | ".join(f"{size:,} | {size / instruments:,.0f}" for size in sizes)
            print(f"| {instruments:,} | {text} | {kept.height:,} | {told} |")


if __name__ == "__main__":
    main()
