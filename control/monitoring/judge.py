"""The comparison of observations with the alert rules; pure, so that every case can be tested.

A finding is bad, good again, or undecided: between the threshold and clearly below it nothing changes, and an unknown
value never counts as good. Together with the times in `advance`, this prevents alerts that flap.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.platform.clock import MS_PER_DAY, MS_PER_MINUTE
from barmill.platform.texts import utc_text
from control.monitoring.metrics import SAMPLE_MS, Kind, Metric, Reading, Subject
from control.monitoring.outages import WatchedJob
from control.monitoring.rules import AlertKind, Rules

# A value counts as good again when it is better than the threshold by this share.
_MARGIN = 0.2
_GB = 1e9


@dataclass(frozen=True)
class KeyExpiry:
    """A key with an expiry date; from expires_ms on it is not used."""

    name: str
    expires_ms: int


@dataclass(frozen=True)
class Observations:
    """The observations at one time.

    recent: values by metric and subject, oldest first: of the last ten minutes for restarts and starts, of the last
    minute for reject rates.
    problems: by source name, the reported reason why it delivers nothing. kafka_problem: why ticks do not get from the
    tick log to Kafka, as a sentence; '' if they do, None if unknown. damage: by store, a sentence about its damage, ''
    if none. feeds: the connection state of each feed, if known. not_running: by name, why each job
    that should not run is stopped.
    """

    at_ms: int
    readings: Sequence[Reading] = ()
    recent: Mapping[Metric, Mapping[Subject, Sequence[float]]] = field(default_factory=dict)
    jobs: Sequence[WatchedJob] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[KeyExpiry] = ()
    kafka_problem: str | None = None
    feeds: Mapping[str, ConnectionState] = field(default_factory=dict)
    not_running: Mapping[str, str] = field(default_factory=dict)
    damage: Mapping[str, str] = field(default_factory=dict)

    def newest_values(self, metric: Metric) -> dict[str, float]:
        """Return the newest value of a metric by the name of its subject."""
        return {reading.subject.name: reading.value for reading in self.readings if reading.metric is metric}


@dataclass(frozen=True)
class Finding:
    """The state of one subject under one rule. bad: None if it is neither bad nor good again, or unknown."""

    alert_kind: AlertKind
    subject: str
    bad: bool | None
    sentence: str


def judge(observations: Observations, rules: Rules) -> list[Finding]:
    """Return the findings of all enabled rules."""
    return [
        Finding(alert_kind, subject, bad, sentence)
        for alert_kind, rule in rules.items()
        if rule.enabled
        for subject, bad, sentence in _JUDGES[alert_kind](observations, rule.threshold)
    ]


_Verdicts = Iterator[tuple[str, bool | None, str]]


def _no_data(observations: Observations, max_idle_s: float) -> _Verdicts:
    for source, idle_s in observations.newest_values(Metric.IDLE_S).items():
        if source in observations.feeds and observations.feeds[source].phase is Phase.IDLE:
            continue  # no instrument of this source is requested
        problem = observations.problems.get(source)
        detail = f": {problem}" if problem else "; see log/ingest.log."
        yield (
            _subject_text(Kind.SOURCE, source),
            _above(idle_s, max_idle_s),
            f"No new ticks from {source} for {max_idle_s:g} s{detail}",
        )


def _no_checkpoint(observations: Observations, max_age_min: float) -> _Verdicts:
    ages = observations.newest_values(Metric.CHECKPOINT_AGE_S)
    for job in observations.jobs:
        if job.should_run:
            sentence = (
                f"The job {job.name} has had no checkpoint for {max_age_min:g} min; check its exceptions and load."
            )
            yield _subject_text(Kind.JOB, job.name), _above(ages.get(job.name), 60 * max_age_min), sentence


def _job_state(observations: Observations, _seconds: float) -> _Verdicts:
    for job in observations.jobs:
        expected, actual = ("run", "does not") if job.should_run else ("be stopped", "is not")
        sentence = f"The job {job.name} should {expected} and {actual}: {job.sentence}"
        yield _subject_text(Kind.JOB, job.name), job.running != job.should_run, sentence


def _job_restarts(observations: Observations, threshold: float) -> _Verdicts:
    """Judge the number of restarts: Flink's restarts of a run plus new runs."""
    restarts, runs = observations.recent.get(Metric.RESTARTS, {}), observations.recent.get(Metric.RUN_STARTED_S, {})
    for job in observations.jobs:
        if not job.should_run:
            continue  # restarts before the stop no longer matter
        subject = Subject(Kind.JOB, job.name)
        count = _total_increase(restarts.get(subject, ())) + _change_count(runs.get(subject, ()))
        sentence = f"The job {job.name} was restarted {count:g} times within 10 minutes; see its exceptions."
        yield str(subject), _at_least(count, threshold), sentence


def _minute_mean(rates: Sequence[float]) -> float:
    """Return the mean over a minute; the time before a new series counts as 0, because the job may be catching up."""
    return sum(rates) / max(len(rates), MS_PER_MINUTE // SAMPLE_MS)


def _rejects(observations: Observations, max_per_s: float) -> _Verdicts:
    for subject, values in observations.recent.get(Metric.TICKS_REJECTED_PER_S, {}).items():
        sentence = (
            f"More than {max_per_s:g} rows per second from {subject.name} are rejected; see the Data quality page."
        )
        yield str(subject), _above(_minute_mean(values), max_per_s), sentence
    for subject, values in observations.recent.get(Metric.TICKS_LATE_PER_S, {}).items():
        if subject.name in observations.not_running:
            continue
        sentence = (
            f"The job {subject.name} rejects more than {max_per_s:g} late ticks per second; see the Data quality page."
        )
        yield str(subject), _above(_minute_mean(values), max_per_s), sentence


def _disk_low(observations: Observations, min_free_gb: float) -> _Verdicts:
    for free_bytes in observations.newest_values(Metric.FREE_BYTES).values():
        bad = _above(-free_bytes, -min_free_gb * _GB)
        yield (
            str(Subject(Kind.DISK)),
            bad,
            f"Less than {min_free_gb:g} GB is free on the disk of the home; free some space.",
        )


def _process_down(observations: Observations, _seconds: float) -> _Verdicts:
    for name, is_up in observations.newest_values(Metric.UP).items():
        yield (
            _subject_text(Kind.PROCESS, name),
            not is_up,
            f"The process {name} is not running; see log/{name}.log.",
        )


def _process_restarts(observations: Observations, threshold: float) -> _Verdicts:
    for subject, values in observations.recent.get(Metric.STARTED_S, {}).items():
        count = _change_count(values)
        sentence = (
            f"The process {subject.name} was started {count} times within 10 minutes; see log/{subject.name}.log."
        )
        yield str(subject), _at_least(count, threshold), sentence


def _key_expires(observations: Observations, days: float) -> _Verdicts:
    for key in observations.keys:
        verb = "expires" if key.expires_ms > observations.at_ms else "expired"
        sentence = f"The key {key.name} {verb} on {utc_text(key.expires_ms)}; rotate it."
        yield f"key:{key.name}", key.expires_ms - observations.at_ms <= days * MS_PER_DAY, sentence


def _kafka_away(observations: Observations, _seconds: float) -> _Verdicts:
    if observations.kafka_problem is not None:
        yield (
            "kafka",
            bool(observations.kafka_problem),
            f"Ticks do not reach Kafka. {observations.kafka_problem}".rstrip(),
        )


def _feed_down(observations: Observations, _seconds: float) -> _Verdicts:
    for name, state in observations.feeds.items():
        # While the feed reconnects, its state is unknown.
        bad = None if state.phase is Phase.CONNECTING else state.phase in (Phase.REFUSED, Phase.BROKEN, Phase.RESTING)
        yield f"feed:{name}", bad, f"The feed {name} delivers nothing ({state.phase}): {state.sentence}"


def _feed_gaps(observations: Observations, _seconds: float) -> _Verdicts:
    for name, state in observations.feeds.items():
        yield f"feed:{name}", bool(state.gap), f"Rows of the feed {name} may be missing. {state.gap}".rstrip()


def _damage(observations: Observations, _seconds: float) -> _Verdicts:
    for store, sentence in observations.damage.items():
        yield f"store:{store}", bool(sentence), f"Stored data is damaged. {sentence}".rstrip()


_JUDGES: Mapping[AlertKind, Callable[[Observations, float], _Verdicts]] = {
    AlertKind.NO_DATA: _no_data,
    AlertKind.NO_CHECKPOINT: _no_checkpoint,
    AlertKind.JOB_STATE: _job_state,
    AlertKind.JOB_RESTARTS: _job_restarts,
    AlertKind.REJECTS: _rejects,
    AlertKind.DISK_LOW: _disk_low,
    AlertKind.PROCESS_DOWN: _process_down,
    AlertKind.PROCESS_RESTARTS: _process_restarts,
    AlertKind.KEY_EXPIRES: _key_expires,
    AlertKind.KAFKA_AWAY: _kafka_away,
    AlertKind.FEED_DOWN: _feed_down,
    AlertKind.FEED_GAPS: _feed_gaps,
    AlertKind.DAMAGE: _damage,
}


def _subject_text(kind: Kind, name: str) -> str:
    return str(Subject(kind, name))


def _above(value: float | None, limit: float) -> bool | None:
    """Return whether a value is above its limit; None if it is at or just below it, or unknown."""
    if value is None:
        return None
    if value > limit:
        return True
    return None if value > limit - _MARGIN * abs(limit) else False


def _at_least(count: float, limit: float) -> bool:
    return count >= limit


def _change_count(values: Iterable[float]) -> int:
    return sum(1 for previous, current in pairwise(values) if current != previous)


def _total_increase(values: Iterable[float]) -> float:
    return sum(max(0.0, current - previous) for previous, current in pairwise(values))
