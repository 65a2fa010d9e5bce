"""What may be shown of a stored key, and how it stands."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

WARN_BEFORE_MS = 14 * 86_400_000
_DAY_MS = 86_400_000


class State(StrEnum):
    """How a key stands; the last two are not handed out."""

    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"

    @property
    def usable(self) -> bool:
        """Tell whether the key is handed out."""
        return self in (State.ACTIVE, State.EXPIRING)


@dataclass(frozen=True)
class SecretInfo:
    """What may be shown of a stored key. The fingerprint tells two keys apart and gives nothing away.

    fingerprint: of this version; empty for a key kept elsewhere, which may change there at any time.
    expires_ms: from when on this version is not handed out. last_used_ms: when this version last was.
    reference: where the key is, if it is kept elsewhere. hosts: the only ones it may be sent to (see hosts.py).
    """

    name: str
    provider: str
    version: int
    fingerprint: str
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    revoked_ms: int | None = None
    reference: str | None = None
    hosts: tuple[str, ...] = ()

    def state(self, at_ms: int) -> State:
        """Return how the key stands at a time."""
        if self.revoked_ms is not None:
            return State.REVOKED
        if self.expires_ms is None or at_ms < self.expires_ms - WARN_BEFORE_MS:
            return State.ACTIVE
        return State.EXPIRING if at_ms < self.expires_ms else State.EXPIRED

    def warning(self, at_ms: int) -> str | None:
        """Say in one sentence that the key will soon need, or already needs, a successor; None where it does not."""
        match self.state(at_ms):
            case State.EXPIRING if self.expires_ms is not None:
                days = (self.expires_ms - at_ms) // _DAY_MS
                left = "in less than a day" if days < 1 else f"in {days} day{'' if days == 1 else 's'}"
                return f"The key {self.name} expires {left}, on {moment(self.expires_ms)}; rotate it before."
            case State.EXPIRED if self.expires_ms is not None:
                return f"The key {self.name} expired on {moment(self.expires_ms)}; rotate it."
        return None


@dataclass(frozen=True)
class KeyVersion:
    """One version of a key, as the history remembers it; its secret is kept only while it is the newest."""

    version: int
    fingerprint: str
    created_ms: int
    created_by: str


def moment(time_ms: int) -> str:
    """Print a point in time to the minute."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def end_of_day_ms(day: date) -> int:
    """Return when a key expires whose last day of use, in UTC, is this."""
    return round(datetime.combine(day + timedelta(days=1), time(), UTC).timestamp() * 1_000)
