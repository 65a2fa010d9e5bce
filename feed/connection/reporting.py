"""Telling how a connection is: at each change, and otherwise at most once a second."""

from collections.abc import Callable
from dataclasses import replace

from feed.connection.state import ConnectionState, Phase, Report

_EVERY_MS = 1_000
# With several connections, the one that is worst off is shown.
_WORST_FIRST = (
    Phase.REFUSED,
    Phase.BROKEN,
    Phase.RESTING,
    Phase.LIMITED,
    Phase.WAITING,
    Phase.CONNECTING,
    Phase.RECEIVING,
    Phase.IDLE,
)


class Reporting:
    """What was last told of one provider."""

    def __init__(self, report: Report, clock_ms: Callable[[], int]) -> None:
        self._report, self._clock_ms = report, clock_ms
        self._told = ConnectionState(Phase.IDLE, "", 0)
        self._told_ms = 0

    def due(self, now_ms: int) -> bool:
        """Tell whether it is time for the next word even if nothing has changed."""
        return now_ms - self._told_ms >= _EVERY_MS

    def tell(self, state: ConnectionState) -> None:
        """Tell this, if it is news; since_ms is kept while the phase stays."""
        now_ms = self._clock_ms()
        same = self._told_ms > 0 and state.phase is self._told.phase
        state = replace(state, since_ms=self._told.since_ms if same else now_ms)
        if same and state.sentence == self._told.sentence and now_ms - self._told_ms < _EVERY_MS:
            return
        self._told, self._told_ms = state, now_ms
        self._report(state)


def worst(states: list[ConnectionState]) -> ConnectionState:
    """Return the state of the connection that is worst off."""
    return min(states, key=lambda state: _WORST_FIRST.index(state.phase))
