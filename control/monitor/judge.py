"""What is seen, held against the rules: pure, so that every case can be read and tested here.

A finding is bad, well, or neither: between the threshold and well within it nothing changes, and what cannot be told is
not called well. With the times in `advance` this keeps an alert from coming and going.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from control.keys.info import moment
from control.monitor.history import MINUTE_MS, SAMPLE_MS
from control.monitor.jobs import WatchedJob
from control.monitor.metrics import Kind, Metric, Reading, Subject
from control.monitor.rules import Rules, Trouble
from feed.connection.state import ConnectionState, Phase

# Well again is this much better than the threshold.
_MARGIN = 0.2
_DAY_MS = 86_400_000
_GB = 1e9


@dataclass(frozen=True)
class KeyExpiry:
    """A key that has a last day; expires_ms: from when on it is not handed out."""

    name: str
    expires_ms: int


@dataclass(frozen=True)
class Seen:
    """What was seen at one moment.

    recent: values over a while, oldest first: of the last ten minutes for what tells restarts, of the last minute for
    rates of rejects. problems: why a source delivers nothing, by its name, where it says so.
    kafka_problem: why ticks do not get from the tick log to Kafka, in a sentence; '' if they do, None if not known.
    damage: by store, a sentence on what of it is damaged, '' if nothing.
    feeds: how the connection of each feed stands, where that is known. at_rest: why a job is not meant to run, by name.
    """

    at_ms: int
    readings: Sequence[Reading] = ()
    recent: Mapping[Metric, Mapping[Subject, Sequence[float]]] = field(default_factory=dict)
    jobs: Sequence[WatchedJob] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[KeyExpiry] = ()
    kafka_problem: str | None = None
    feeds: Mapping[str, ConnectionState] = field(default_factory=dict)
    at_rest: Mapping[str, str] = field(default_factory=dict)
    damage: Mapping[str, str] = field(default_factory=dict)

    def of(self, metric: Metric) -> dict[str, float]:
        """Return the newest value of a metric by the name of its subject."""
        return {one.subject.name: one.value for one in self.readings if one.metric is metric}


@dataclass(frozen=True)
class Finding:
    """How one subject stands against one rule. bad: None where it is neither bad nor well again, or nobody knows."""

    trouble: Trouble
    subject: str
    bad: bool | None
    sentence: str


def judge(seen: Seen, rules: Rules) -> list[Finding]:
    """Return how everything stands against the rules that are enabled."""
    return [
        Finding(trouble, subject, bad, sentence)
        for trouble, rule in rules.items()
        if rule.enabled
        for subject, bad, sentence in _JUDGES[trouble](seen, rule.threshold)
    ]


_Verdicts = Iterator[tuple[str, bool | None, str]]


def _no_data(seen: Seen, most_s: float) -> _Verdicts:
    for source, idle_s in seen.of(Metric.IDLE_S).items():
        if source in seen.feeds and seen.feeds[source].phase is Phase.IDLE:
            continue  # nothing is wanted of it
        problem = seen.problems.get(source)
        why = f": {problem}" if problem else "; the log of ingest may say why."
        yield _named(Kind.SOURCE, source), _above(idle_s, most_s), f"No new ticks from {source} for {most_s:g} s{why}"


def _no_checkpoint(seen: Seen, most_min: float) -> _Verdicts:
    ages = seen.of(Metric.CHECKPOINT_AGE_S)
    for job in seen.jobs:
        if job.should_run:
            sentence = (
                f"The job {job.name} has had no checkpoint for {most_min:g} min; look at its exceptions and load."
            )
            yield _named(Kind.JOB, job.name), _above(ages.get(job.name), 60 * most_min), sentence


def _job_state(seen: Seen, _seconds: float) -> _Verdicts:
    for job in seen.jobs:
        wish, fact = ("run", "does not") if job.should_run else ("be stopped", "is not")
        sentence = f"The job {job.name} should {wish} and {fact}: {job.sentence}"
        yield _named(Kind.JOB, job.name), job.running != job.should_run, sentence


def _job_restarts(seen: Seen, most: float) -> _Verdicts:
    """Count both kinds: Flink's own restarts of a run, and runs that followed one another."""
    inside, runs = seen.recent.get(Metric.RESTARTS, {}), seen.recent.get(Metric.RUN_STARTED_S, {})
    for job in seen.jobs:
        if not job.should_run:
            continue  # whatever it did before it was stopped is over
        subject = Subject(Kind.JOB, job.name)
        count = _rise(inside.get(subject, ())) + _changes(runs.get(subject, ()))
        sentence = f"The job {job.name} was restarted {count:g} times within 10 minutes; its exceptions say why."
        yield str(subject), _at_least(count, most), sentence


def _over_a_minute(rates: Sequence[float]) -> float:
    """Return the mean over a minute: what has just begun, perhaps with a past to catch up with, had none before."""
    return sum(rates) / max(len(rates), MINUTE_MS // SAMPLE_MS)


def _rejects(seen: Seen, most_per_s: float) -> _Verdicts:
    for subject, values in seen.recent.get(Metric.TICKS_REJECTED_PER_S, {}).items():
        sentence = f"More than {most_per_s:g} rows a second from {subject.name} are refused; see which and why."
        yield str(subject), _above(_over_a_minute(values), most_per_s), sentence
    for subject, values in seen.recent.get(Metric.TICKS_LATE_PER_S, {}).items():
        if subject.name in seen.at_rest:
            continue
        sentence = f"The job {subject.name} refuses more than {most_per_s:g} ticks a second as too late; see which."
        yield str(subject), _above(_over_a_minute(values), most_per_s), sentence


def _disk_low(seen: Seen, least_gb: float) -> _Verdicts:
    for free_bytes in seen.of(Metric.FREE_BYTES).values():
        bad = _above(-free_bytes, -least_gb * _GB)
        yield (
            str(Subject(Kind.DISK)),
            bad,
            f"Less than {least_gb:g} GB are free on the disk of the home; free some space.",
        )


def _process_down(seen: Seen, _seconds: float) -> _Verdicts:
    for name, up in seen.of(Metric.UP).items():
        yield _named(Kind.PROCESS, name), not up, f"The process {name} is not up; the reason stands in log/{name}.log."


def _process_restarts(seen: Seen, most: float) -> _Verdicts:
    for subject, values in seen.recent.get(Metric.STARTED_S, {}).items():
        count = _changes(values)
        sentence = (
            f"The process {subject.name} was started {count} times within 10 minutes; see log/{subject.name}.log."
        )
        yield str(subject), _at_least(count, most), sentence


def _key_expires(seen: Seen, days: float) -> _Verdicts:
    for key in seen.keys:
        word = "expires" if key.expires_ms > seen.at_ms else "has expired"
        sentence = f"The key {key.name} {word} on {moment(key.expires_ms)}; rotate it."
        yield f"key:{key.name}", key.expires_ms - seen.at_ms <= days * _DAY_MS, sentence


def _kafka_away(seen: Seen, _seconds: float) -> _Verdicts:
    if seen.kafka_problem is not None:
        yield "kafka", bool(seen.kafka_problem), f"Ticks do not reach Kafka. {seen.kafka_problem}".rstrip()


def _feed_down(seen: Seen, _seconds: float) -> _Verdicts:
    for name, state in seen.feeds.items():
        # While it is tried again nobody knows.
        bad = None if state.phase is Phase.CONNECTING else state.phase in (Phase.REFUSED, Phase.BROKEN, Phase.RESTING)
        yield f"feed:{name}", bad, f"The feed {name} delivers nothing ({state.phase}): {state.sentence}"


def _feed_gaps(seen: Seen, _seconds: float) -> _Verdicts:
    for name, state in seen.feeds.items():
        yield f"feed:{name}", bool(state.gap), f"Rows of the feed {name} may be missing. {state.gap}".rstrip()


def _damage(seen: Seen, _seconds: float) -> _Verdicts:
    for store, sentence in seen.damage.items():
        yield f"store:{store}", bool(sentence), f"Stored data is damaged. {sentence}".rstrip()


_JUDGES: Mapping[Trouble, Callable[[Seen, float], _Verdicts]] = {
    Trouble.NO_DATA: _no_data,
    Trouble.NO_CHECKPOINT: _no_checkpoint,
    Trouble.JOB_STATE: _job_state,
    Trouble.JOB_RESTARTS: _job_restarts,
    Trouble.REJECTS: _rejects,
    Trouble.DISK_LOW: _disk_low,
    Trouble.PROCESS_DOWN: _process_down,
    Trouble.PROCESS_RESTARTS: _process_restarts,
    Trouble.KEY_EXPIRES: _key_expires,
    Trouble.KAFKA_AWAY: _kafka_away,
    Trouble.FEED_DOWN: _feed_down,
    Trouble.FEED_GAPS: _feed_gaps,
    Trouble.DAMAGE: _damage,
}


def _named(kind: Kind, name: str) -> str:
    return str(Subject(kind, name))


def _above(value: float | None, limit: float) -> bool | None:
    """Tell whether a value is above its limit, None where it is close below, or not known."""
    if value is None:
        return None
    if value > limit:
        return True
    return None if value > limit - _MARGIN * abs(limit) else False


def _at_least(count: float, limit: float) -> bool:
    return count >= limit


def _changes(values: Iterable[float]) -> int:
    return sum(1 for before, after in pairwise(values) if after != before)


def _rise(values: Iterable[float]) -> float:
    return sum(max(0.0, after - before) for before, after in pairwise(values))
