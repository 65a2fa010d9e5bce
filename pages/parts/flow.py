"""How fast prices come, from readings over a while. Pure; whether they are fresh: control/freshness."""

from collections.abc import Sequence

from control.freshness.flow import Flow

_RATE_OVER_MS = 5_000


def with_reading(readings: Sequence[Flow], newest: Flow, keep_ms: int) -> tuple[Flow, ...]:
    """Add a reading and forget those older than `keep_ms`; start over when the log did."""
    if readings and newest.end_sequence < readings[-1].end_sequence:
        readings = ()
    return (*(one for one in readings if one.read_ms >= newest.read_ms - keep_ms), newest)


def ticks_per_s(readings: Sequence[Flow], over_ms: int = _RATE_OVER_MS) -> float | None:
    """Return the ticks accepted per second over the last `over_ms` of these readings, None for fewer than two."""
    if len(readings) < 2:
        return None
    newest = readings[-1]
    oldest = next(one for one in readings if one.read_ms >= newest.read_ms - over_ms)
    if oldest is newest:
        oldest = readings[-2]
    passed_ms = newest.read_ms - oldest.read_ms
    return (newest.end_sequence - oldest.end_sequence) * 1_000 / passed_ms if passed_ms else None


def rates(readings: Sequence[Flow]) -> list[float]:
    """Return ticks per second at each reading from the second on."""
    known = (ticks_per_s(readings[: place + 1]) for place in range(1, len(readings)))
    return [rate for rate in known if rate is not None]
