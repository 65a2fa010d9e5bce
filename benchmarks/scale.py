"""How large the measurements are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Numbers of ticks, instruments and seconds for each part.

    live_rate: a factor on the demo market's about 120 ticks a second, whose tempo wanders; with 55 a minute has nearly
    always more than 5,000 a second. replay_ticks: a smaller and a larger replay; what the difference takes has no
    start-up in it.
    """

    replay_ticks: tuple[int, int] = (5_000_000, 40_000_000)
    replay_instruments: int = 100
    instruments: tuple[int, ...] = (10, 100, 1_000, 10_000)
    instruments_ticks: int = 5_000_000
    peer_ticks: int = 5_000_000
    warm_up_s: float = 30
    window_s: float = 60
    live_rate: float = 55
    pick_changes: int = 30
    query_bars: tuple[int, ...] = (1_000_000, 10_000_000, 50_000_000)
    query_repeats: int = 60
    first_chart_bars: int = 10_000_000
    first_chart_visits: int = 20
    kafka_ticks: int = 20_000_000


FULL = Scale()
QUICK = Scale(
    replay_ticks=(1_000_000, 5_000_000),
    instruments_ticks=1_000_000,
    peer_ticks=1_000_000,
    warm_up_s=15,
    window_s=20,
    pick_changes=10,
    query_bars=(1_000_000, 10_000_000),
    query_repeats=20,
    first_chart_bars=1_000_000,
    first_chart_visits=8,
    kafka_ticks=5_000_000,
)


def tiny(ticks: int) -> Scale:
    """Return a scale that only shows that everything works."""
    return Scale(
        (ticks, 2 * ticks),
        10,
        (10, 100),
        ticks,
        ticks,
        warm_up_s=3,
        window_s=5,
        live_rate=10,
        pick_changes=2,
        query_bars=(ticks, 2 * ticks),
        query_repeats=2,
        first_chart_bars=ticks,
        first_chart_visits=1,
        kafka_ticks=ticks,
    )
