"""Which instruments have been silent for far longer than usual, each judged by its own usual gap."""

from collections.abc import Iterable
from dataclasses import dataclass

from control.instruments.listing import patience_ms

# The newest gap counts for so much of what is usual.
_WEIGHT = 1 / 16


@dataclass
class _Heard:
    last_ms: int
    usual_gap_ms: float | None = None


class Staleness:
    """When each instrument was last heard, by our clock."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def expect(self, instruments: Iterable[str], now_ms: int) -> None:
        """Watch exactly these from now on; one that was not watched has until its patience is over."""
        wanted = set(instruments)
        self._heard = {name: heard for name, heard in self._heard.items() if name in wanted}
        for name in wanted - self._heard.keys():
            self._heard[name] = _Heard(now_ms)

    def heard(self, instrument: str, now_ms: int) -> None:
        """Take note of a tick."""
        known = self._heard.get(instrument)
        if known is None:
            return
        gap_ms = now_ms - known.last_ms
        usual = known.usual_gap_ms
        known.usual_gap_ms = gap_ms if usual is None else usual + (gap_ms - usual) * _WEIGHT
        known.last_ms = now_ms

    def stale(self, now_ms: int) -> tuple[str, ...]:
        """Return the instruments that are stale, by name."""
        return tuple(
            sorted(
                name for name, heard in self._heard.items() if now_ms - heard.last_ms > patience_ms(heard.usual_gap_ms)
            )
        )
