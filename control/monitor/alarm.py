"""From what was seen to what is open in the database: judge, wait, note."""

from collections.abc import Mapping, Sequence

from control.home import Home
from control.monitor.alerts import note_changes, open_alert_db, standings
from control.monitor.flow import Log
from control.monitor.history import History
from control.monitor.jobs import WatchedJob
from control.monitor.judge import KeyExpiry, Seen, judge
from control.monitor.metrics import Kind, Metric, Reading, Subject
from control.monitor.rules import WINDOW_MS, rules
from control.monitor.standing import Key, Standing, advance
from control.monitor.webhook import webhook_url
from feed.connection.state import ConnectionState

_REJECTS_OVER_MS = 60_000
_LOOKED_BACK = {
    Metric.RESTARTS: WINDOW_MS,
    Metric.RUN_STARTED_S: WINDOW_MS,
    Metric.STARTED_S: WINDOW_MS,
    Metric.TICKS_REJECTED_PER_S: _REJECTS_OVER_MS,
    Metric.TICKS_LATE_PER_S: _REJECTS_OVER_MS,
}


class Alarm:
    """Raises and clears the alerts of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._db = open_alert_db(home)
        self._standings: Mapping[Key, Standing] = standings(self._db)

    def close(self) -> None:
        """Give the file back."""
        self._db.conn.close()

    def step(self, seen: Seen) -> None:
        """Take in one look."""
        now = rules(self._db)
        changes = advance(self._standings, judge(seen, now), now, seen.at_ms)
        if changes.raised or changes.cleared:
            deliver = webhook_url(self._home) is not None
            because = {str(Subject(Kind.JOB, name)): why for name, why in seen.at_rest.items()}
            note_changes(self._db, seen.at_ms, now, changes.raised, changes.cleared, because, deliver=deliver)
        self._standings = changes.standings


def seen_at(
    at_ms: int,
    readings: Sequence[Reading],
    history: History,
    jobs: Sequence[WatchedJob],
    log: Log,
    keys: Sequence[KeyExpiry],
    kafka_problem: str,
    feeds: Mapping[str, ConnectionState],
    at_rest: Mapping[str, str],
    damage: Mapping[str, str],
) -> Seen:
    """Put together what there is to judge."""
    recent = {metric: history.recent(metric, at_ms - back_ms) for metric, back_ms in _LOOKED_BACK.items()}
    problems = {source.name: source.problem for source in log.running if source.problem}
    return Seen(at_ms, readings, recent, jobs, problems, keys, kafka_problem, feeds, at_rest, damage)
