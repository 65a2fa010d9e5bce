"""What is measured from the tick log and the bar store: the flow of prices, from its source to the bars.

How the delays are measured:

- arrival: from the newest time stamp of a source's newest block to the moment ingest wrote the block.
- latency: from a tick's own time stamp to its bar being readable, exactly, for the newest tick of each instrument whose
  longest bar forms: such a bar changes only by ticks, so `changed_ms - last_tick_ms` is what the newest one took.
  Median and 95th percentile are over the instruments that moved since the last look. A tick that comes out of order
  makes its instrument's reading too high, never too low.
- watermark lag: how far the time up to which everything is in the bars lies behind the clock. That time is each shard's
  newest tick or, once the shard has read the whole log, the time up to which a source says it is complete; the
  shard that is furthest behind counts. A source that is stuck holds back its own instruments only, and is told of
  by its own idle time.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bar.frames import parse_frames
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.store import Progress
from control.home import Home
from control.monitor.metrics import Kind, Metric, Reading, Subject
from feed.completeness import complete_to
from feed.ticklog import Source, TickLog

_NS_PER_MS = 1_000_000
# A job that wrote nothing for so long is no longer part of the flow.
_GONE_AFTER_MS = 600_000
_MAX_INSTRUMENTS = 200


@dataclass(frozen=True)
class Log:
    """Where the tick log stood."""

    sources: tuple[Source, ...] = ()
    end_sequence: int = 1

    @property
    def running(self) -> list[Source]:
        """Return the sources that may still deliver."""
        return [source for source in self.sources if not source.ended]

    @property
    def complete_to_ms(self) -> int | None:
        """Return the latest time up to which sources say their instruments are complete, None if none says."""
        known = complete_to(self.running).values()
        return max((one for one in known if one is not None), default=None)


def read_log(path: Path) -> Log:
    """Read where the tick log stands; one that is not there yet is empty."""
    try:
        with TickLog.read_only(path) as log:
            return Log(log.sources(), log.end_sequence())
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return Log()


def measure_flow(home: Home, log: Log, at_ms: int, since_ms: int, at_rest: Collection[str] = ()) -> list[Reading]:
    """Measure sources and jobs at this moment; latencies are of the bars that changed since `since_ms`.

    at_rest: jobs that are not meant to run, which have no backlog and no lag.
    """
    try:
        with closing(BarReader.open(home.bars_db)) as reader:
            jobs = list(_jobs(reader, log, at_ms, since_ms, at_rest))
    except (StoreMissingError, sqlite3.OperationalError):
        jobs = []
    return [*_sources(log, at_ms), *jobs]


def _sources(log: Log, at_ms: int) -> Iterator[Reading]:
    for source in log.running:
        subject = Subject(Kind.SOURCE, source.name)
        yield Reading(subject, Metric.TICKS_ACCEPTED, source.accepted)
        yield Reading(subject, Metric.TICKS_REJECTED, source.rejected)
        arrived_ms = source.arrived_ms or source.updated_ms
        yield Reading(subject, Metric.IDLE_S, _seconds(at_ms - arrived_ms))
        if source.live and source.newest_ns is not None:
            yield Reading(subject, Metric.ARRIVAL_DELAY_S, _seconds(arrived_ms - source.newest_ns // _NS_PER_MS))


def _jobs(reader: BarReader, log: Log, at_ms: int, since_ms: int, at_rest: Collection[str]) -> Iterator[Reading]:
    written = reader.written()
    by_job: dict[str, list[Progress]] = {}
    for shard in reader.progress():
        if shard.job not in at_rest and at_ms - shard.updated_ms < _GONE_AFTER_MS:
            by_job.setdefault(shard.job, []).append(shard)
    for job, shards in by_job.items():
        subject = Subject(Kind.JOB, job)
        yield Reading(subject, Metric.TICKS_READ, sum(shard.read for shard in shards))
        yield Reading(subject, Metric.TICKS_LATE, sum(shard.late for shard in shards))
        yield Reading(subject, Metric.BARS_WRITTEN, written.get(job, 0))
        yield Reading(subject, Metric.BACKLOG_TICKS, _backlog(log, shards))
        if any(source.live for source in log.running):
            yield from _lags(subject, log, shards, at_ms)
            longest = parse_frames(shards[0].frames)[-1].text
            yield from _latencies(subject, reader.delays_ms(longest, since_ms, _MAX_INSTRUMENTS))


def _backlog(log: Log, shards: Sequence[Progress]) -> int:
    return max(0, log.end_sequence - min(shard.next_sequence for shard in shards))


def _lags(subject: Subject, log: Log, shards: Sequence[Progress], at_ms: int) -> Iterator[Reading]:
    newest = [shard.newest_tick_ms for shard in shards if shard.newest_tick_ms is not None]
    if not newest:
        return
    yield Reading(subject, Metric.NEWEST_TICK_AGE_S, _seconds(at_ms - max(newest)))
    complete_ms = 0 if _backlog(log, shards) else log.complete_to_ms or 0
    # A shard that never saw a tick holds nothing back but the source's word.
    reached_ms = min(max(one, complete_ms) for one in newest)
    yield Reading(subject, Metric.WATERMARK_LAG_S, _seconds(at_ms - reached_ms))


def _latencies(subject: Subject, delays_ms: Sequence[int]) -> Iterator[Reading]:
    if delays_ms:
        slow_ms = sorted(delays_ms)[-(-len(delays_ms) * 95 // 100) - 1]
        yield Reading(subject, Metric.LATENCY_P50_S, _seconds(median(delays_ms)))
        yield Reading(subject, Metric.LATENCY_P95_S, _seconds(slow_ms))


def _seconds(ms: float) -> float:
    return max(0.0, ms / 1_000)
