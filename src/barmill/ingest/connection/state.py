"""The state of a connection to a provider, as reported and as the file in the run folder that pages read."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median

from pydantic import TypeAdapter, ValidationError

from barmill.platform.clock import MS_PER_S
from barmill.platform.file_replacement import replace_file
from barmill.platform.home import Home


class Phase(StrEnum):
    """The current activity of a connection.

    REFUSED and BROKEN usually need action by a person; other problems usually resolve automatically.
    """

    CONNECTING = "connecting"
    RECEIVING = "receiving"
    WAITING = "waiting"  # the connection was lost or an attempt failed; the next attempt is scheduled
    LIMITED = "limited"  # the provider asked for fewer requests; the next attempt is scheduled
    RESTING = "resting"  # after many failures in a row, attempts are rare
    REFUSED = "refused"  # the key, or the requested data, is not allowed
    BROKEN = "broken"  # the provider responds, but its responses do not match the settings
    IDLE = "idle"  # none of its instruments are enabled, or the source has ended


@dataclass(frozen=True)
class ConnectionState:
    """The state of a connection at one moment. Times are epoch milliseconds of this machine's clock.

    sentence: the current situation and any action needed; never contains a key. since_ms: when the phase began.
    retry_ms: when the next attempt is due, or None. heard_ms: when the provider last sent anything, prices or not; None
    if it never did. connects: connections made so far. skew_ms: the provider's clock minus this machine's, as measured,
    or None. gaps: gaps found. backfilled: ticks fetched to fill them. missing: ticks that are known to be missing now.
    gap: where rows may be missing in the last hour, or empty. stale: instruments that have been silent for far longer
    than usual.
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


_REPORT_EVERY_MS = 1_000
# With several connections, the worst state is shown.
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


class StateReporter:
    """A reporter of the state of one provider, which limits how often an unchanged state is reported."""

    def __init__(self, report: Report, clock_ms: Callable[[], int]) -> None:
        self._report, self._clock_ms = report, clock_ms
        self._reported = ConnectionState(Phase.IDLE, "", 0)
        self._reported_ms = 0

    def is_due(self, now_ms: int) -> bool:
        """Return whether the next report is due even without a change."""
        return now_ms - self._reported_ms >= _REPORT_EVERY_MS

    def report_state(self, state: ConnectionState) -> None:
        """Report a state if its phase, sentence or gaps changed or a report is due; keep since_ms of the same phase."""
        now_ms = self._clock_ms()
        is_same = self._reported_ms > 0 and state.phase is self._reported.phase
        state = replace(state, since_ms=self._reported.since_ms if is_same else now_ms)
        is_same &= (state.sentence, state.gaps) == (self._reported.sentence, self._reported.gaps)
        if is_same and now_ms - self._reported_ms < _REPORT_EVERY_MS:
            return
        self._reported, self._reported_ms = state, now_ms
        self._report(state)


def worst_state(states: list[ConnectionState]) -> ConnectionState:
    """Return the worst of the states, of which there must be at least one."""
    return min(states, key=lambda state: _WORST_FIRST.index(state.phase))


_FILE = "feeds.json"


@dataclass(frozen=True)
class FeedStates:
    """The newest state of each enabled feed, by name; at_ms: when they were written, in epoch ms, 0 if never."""

    at_ms: int = 0
    states: Mapping[str, ConnectionState] = field(default_factory=dict)


_JSON = TypeAdapter(FeedStates)


def write_feed_states(home: Home, feed_states: FeedStates) -> None:
    """Write the states of all feeds atomically."""
    replace_file(home.run / _FILE, _JSON.dump_json(feed_states))


def read_feed_states(home: Home) -> FeedStates:
    """Return the last written states; empty if there is no file, or if this version cannot read it."""
    try:
        return _JSON.validate_json((home.run / _FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return FeedStates()


# The weight of the newest interval in the moving average of the usual interval.
_NEWEST_WEIGHT = 1 / 16
# An instrument is stale when it is silent for this many of its usual intervals, and for at least a minute.
_STALE_AFTER_GAPS = 10
_STALE_AFTER_MS = 60_000


@dataclass
class _TickTimes:
    last_ms: int
    usual_gap_ms: float | None = None


class Staleness:
    """When each instrument last had a tick, by this machine's clock, and its usual interval between ticks."""

    def __init__(self) -> None:
        self._tick_times: dict[str, _TickTimes] = {}

    def expect(self, instruments: Iterable[str], now_ms: int) -> None:
        """Watch exactly these instruments from now on; the silence of an added instrument starts now."""
        requested = set(instruments)
        self._tick_times = {name: arrivals for name, arrivals in self._tick_times.items() if name in requested}
        for name in requested - self._tick_times.keys():
            self._tick_times[name] = _TickTimes(now_ms)

    def record_tick(self, instrument: str, now_ms: int) -> None:
        """Record a tick; ignore instruments that are not watched."""
        arrivals = self._tick_times.get(instrument)
        if arrivals is None:
            return
        gap_ms = now_ms - arrivals.last_ms
        usual = arrivals.usual_gap_ms
        arrivals.usual_gap_ms = gap_ms if usual is None else usual + (gap_ms - usual) * _NEWEST_WEIGHT
        arrivals.last_ms = now_ms

    def stale(self, now_ms: int) -> tuple[str, ...]:
        """Return the stale instruments, sorted by name."""
        return tuple(
            sorted(
                name
                for name, arrivals in self._tick_times.items()
                if now_ms - arrivals.last_ms > stale_after_ms(arrivals.usual_gap_ms)
            )
        )


def stale_after_ms(usual_gap_ms: float | None) -> float:
    """Return the silence in ms after which an instrument with this usual interval between ticks is stale."""
    return float(max(_STALE_AFTER_MS, _STALE_AFTER_GAPS * (usual_gap_ms or 0)))


_MAX_DIFFERENCES = 101
# An HTTP date is truncated to the second, so on average it is half a second behind.
_DATE_TRUNCATION_MS = 500


_NOTABLE_SKEW_MS = 2_000


class Skew:
    """The median of the newest clock differences; one late message or one wrong time hardly changes it."""

    def __init__(self) -> None:
        self._of_messages: deque[int] = deque(maxlen=_MAX_DIFFERENCES)
        self._of_dates: deque[int] = deque(maxlen=_MAX_DIFFERENCES)

    def record_message_time(self, server_ms: int, heard_ms: int) -> None:
        """Record a time in a message and the time when it arrived, by this machine's clock."""
        self._of_messages.append(server_ms - heard_ms)

    def record_http_date(self, date_ms: int, heard_ms: int) -> None:
        """Record an HTTP date, which is used only if messages carry no time."""
        self._of_dates.append(date_ms + _DATE_TRUNCATION_MS - heard_ms)

    @property
    def ms(self) -> float | None:
        """Return how many ms the provider's clock is ahead of this machine's, less transit time; None if unknown."""
        differences = self._of_messages or self._of_dates
        return float(median(differences)) if differences else None

    @property
    def sentence(self) -> str:
        """Return a sentence about a clock that differs notably from this machine's; '' for other clocks."""
        ahead_ms = self.ms or 0
        if abs(ahead_ms) < _NOTABLE_SKEW_MS:
            return ""
        return f"The provider's clock is {abs(ahead_ms) / MS_PER_S:.0f} s {'ahead' if ahead_ms > 0 else 'behind'}."
