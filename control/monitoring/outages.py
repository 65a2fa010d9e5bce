"""The jobs to monitor, and the reasons for missing bars, derived from the state of feed and job during the gaps."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from barmill.model.bar import Gap, gaps
from barmill.model.frames import Frame
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from control.flink.model import JobState
from control.freshness.reading import read_bar_jobs, stop_periods
from control.jobs.model import Desired
from control.jobs.repository import JobRepository
from control.jobs.views import JobView, job_views
from control.monitoring.history import LINE_SCHEMA, History
from control.monitoring.metrics import Kind, Metric, Subject


@dataclass(frozen=True)
class WatchedJob:
    """A job as the controller last observed it.

    should_run: whether it should run now. run: the Flink id of its last run. run_started_ms: when that was submitted.
    """

    name: str
    should_run: bool
    state: str
    sentence: str
    run: str | None = None
    run_started_ms: int | None = None

    @property
    def running(self) -> bool:
        """Return whether the job runs."""
        return self.state == JobState.RUNNING.value


def watched_jobs(home: Home) -> list[WatchedJob]:
    """Return every job of the home."""
    with if_ready(), JobRepository.read_only(home) as repository:
        return [
            WatchedJob(
                view.name,
                view.desired == Desired.RUNNING,
                view.state,
                view.sentence,
                view.run,
                _start_ms(repository, view),
            )
            for view in job_views(home)
        ]
    return []


def _start_ms(repository: JobRepository, job: JobView) -> int | None:
    run = repository.run(job.run) if job.run else None
    return run.created_ms if run else None


_MAX_POINTS = 2_000
# Prices arrive only while both of these run; the market counts only if the home runs it.
_FEED_PROCESSES = frozenset({Subject(Kind.PROCESS, "ingest"), Subject(Kind.PROCESS, "market")})


class Reason(StrEnum):
    """The reason for missing bars in a period."""

    NO_TICKS = "no ticks"  # feed and job ran, but no tick arrived
    FEED_DOWN = "feed down"
    JOB_DOWN = "job down"
    JOB_STOPPED = "job stopped"  # a user stopped or deleted it
    UNKNOWN = "unknown"  # not measured, or no longer kept


def reasons(home: Home, gaps: Sequence[Gap], frame: Frame | None = None) -> list[Reason]:
    """Return for each gap the reason that applies to most of it, according to the home's measurements and records.

    frame: the frame of the missing bars; only jobs that feed it count. Without a frame, any job counts.
    """
    if not gaps:
        return []
    from_ms, to_ms = min(gap.from_ms for gap in gaps), max(gap.to_ms for gap in gaps)
    with if_ready(), History.read_only(home) as history:
        step_ms = history.spacing_ms(from_ms, to_ms, _MAX_POINTS)[1]
        processes, jobs = (
            history.lines(metric, from_ms - 2 * step_ms, to_ms, _MAX_POINTS) for metric in (Metric.UP, Metric.RUNNING)
        )
        feed = _StateLine.of(
            (line for subject, line in processes.items() if subject in _FEED_PROCESSES), pl.min("value"), step_ms
        )
        names = {bar_job.name for bar_job in read_bar_jobs(home) if frame is None or bar_job.makes_bars_of(frame)}
        job_lines = [line for subject, line in jobs.items() if not names or subject.name in names]
        job, stops = _StateLine.of(job_lines, pl.max("value"), step_ms), stop_periods(home)
        stopped = [bool(names) and all(_covers(stops.get(name, ()), gap) for name in names) for gap in gaps]
        return [_reason(gap, feed, job, stopped=stopped[index]) for index, gap in enumerate(gaps)]
    return [Reason.UNKNOWN] * len(gaps)


def _covers(stops: Iterable[tuple[int, int]], gap: Gap) -> bool:
    """Return whether these periods cover most of a gap."""
    shared_ms = sum(max(0, min(to_ms, gap.to_ms) - max(from_ms, gap.from_ms)) for from_ms, to_ms in stops)
    return 2 * shared_ms > gap.to_ms - gap.from_ms


@dataclass(frozen=True)
class _StateLine:
    """Measurement times and whether the subject was up; each measurement covers the following `step_ms`."""

    times_ms: Sequence[int]
    up: Sequence[bool]
    step_ms: int

    @classmethod
    def of(cls, lines: Iterable[pl.DataFrame], aggregate: pl.Expr, step_ms: int) -> "_StateLine":
        """Return the combination of several lines that were measured at the same times."""
        table = pl.concat([pl.DataFrame(schema=LINE_SCHEMA), *lines]).group_by("time_ms").agg(aggregate).sort("time_ms")
        return cls(table["time_ms"].to_list(), (table["value"] > 0).to_list(), step_ms)

    def states_in(self, gap: Gap) -> Sequence[bool]:
        """Return the states measured from one step before a gap to its end, or else the last state before that."""
        first, end = bisect_right(self.times_ms, gap.from_ms - self.step_ms), bisect_left(self.times_ms, gap.to_ms)
        # If a measurement is late, the previous one still counts, for at most one more step.
        if first == end and first and self.times_ms[first - 1] > gap.from_ms - 2 * self.step_ms:
            first -= 1
        return self.up[first:end]


def _reason(gap: Gap, feed: _StateLine, job: _StateLine, *, stopped: bool) -> Reason:
    for line, reason in ((feed, Reason.FEED_DOWN), (job, Reason.JOB_DOWN)):
        if stopped and reason is Reason.JOB_DOWN:
            return Reason.JOB_STOPPED
        states = line.states_in(gap)
        if not states or 2 * len(states) * line.step_ms < gap.to_ms - gap.from_ms:
            return Reason.UNKNOWN
        if 2 * sum(states) < len(states):
            return reason
    return Reason.NO_TICKS


def explained_gaps(
    home: Home, bars: pl.DataFrame, frame: Frame, to_ms: int | None = None
) -> list[tuple[int, int, str]]:
    """Return (from_ms, to_ms, reason) of each gap among bars (BAR_SCHEMA, oldest first), oldest first.

    to_ms: the start of the next bar, if known, so that missing bars up to it are a gap, too.
    """
    bar_gaps = gaps(bars, frame, to_ms)
    return [
        (gap.from_ms, gap.to_ms, reason.value)
        for gap, reason in zip(bar_gaps, reasons(home, bar_gaps, frame), strict=True)
    ]
