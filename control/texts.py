"""Ages and moments as words, the same on pages, in commands and in the reasons that are given for a state."""

from datetime import UTC, datetime

_S, _MIN, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000


def age(age_ms: int) -> str:
    """Say how long ago something was: tenths of a second first, then ever coarser."""
    age_ms = max(age_ms, 0)
    if age_ms < 10 * _S:
        return f"{age_ms / _S:.1f} s"
    if age_ms < 2 * _MIN:
        return f"{age_ms // _S} s"
    if age_ms < 2 * _HOUR:
        return f"{age_ms // _MIN} min"
    if age_ms < 2 * _DAY:
        return f"{age_ms // _HOUR} h"
    return f"{age_ms // _DAY} d"


def moment(time_ms: int) -> str:
    """Print a moment in UTC, to the second."""
    return datetime.fromtimestamp(time_ms // _S, UTC).strftime("%Y-%m-%d %H:%M:%S")
