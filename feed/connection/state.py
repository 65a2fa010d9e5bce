"""How the way to a provider stands, as its connection says it and pages show it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a connection is doing. Only REFUSED and BROKEN need a person; all others resolve themselves."""

    CONNECTING = "connecting"
    RECEIVING = "receiving"
    WAITING = "waiting"  # the connection was lost, or an attempt failed; the next one has a time
    LIMITED = "limited"  # the provider asked for fewer questions; the next one has a time
    RESTING = "resting"  # it failed so often in a row that it is only tried now and then
    REFUSED = "refused"  # the key, or what was asked for, is not allowed
    BROKEN = "broken"  # the provider answers, but not as it was described
    IDLE = "idle"  # nothing is wanted of it


@dataclass(frozen=True)
class ConnectionState:
    """One moment of a connection. Times are epoch milliseconds of this machine's clock.

    sentence: what is so and, where something is to be done, what; never holds a key. since_ms: when the phase began.
    retry_ms: when the next attempt is due, None while none is. heard_ms: when the provider was last heard, with prices
    or without. connects: connections made so far. skew_ms: the provider's clock less ours, as measured, or None.
    gaps, backfilled, missing: stretches found missing, ticks fetched for them afterwards, and ticks that are known to
    be missing and could not be fetched. gap: where rows may be missing, of the last hour, or empty. stale: instruments
    that have been silent for far longer than usual.
    """

    phase: Phase
    sentence: str
    since_ms: int
    retry_ms: int | None = None
    heard_ms: int | None = None
    connects: int = 0
    skew_ms: float | None = None
    gaps: int = 0
    backfilled: int = 0
    missing: int = 0
    gap: str = ""
    stale: tuple[str, ...] = ()


Report = Callable[[ConnectionState], None]
