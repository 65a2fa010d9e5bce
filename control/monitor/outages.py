"""Why bars are missing: what was measured of feed and job while no bar was made."""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from bar.frames import Frame
from bar.gaps import Gap
from bar.sqlite_file import StoreMissingError
from control.freshness.reading import read_makers, stops
from control.home import Home
from control.monitor.history import LINE_SCHEMA, History
from control.monitor.metrics import Kind, Metric, Subject

_MAX_POINTS = 2_000
# Prices come only while both of these run; the market only where the home has one of its own.
_FEED = frozenset({Subject(Kind.PROCESS, "ingest"), Subject(Kind.PROCESS, "market")})


class Reason(StrEnum):
    """Why there are no bars in a stretch of time."""

    NO_TICKS = "no ticks"  # feed and job ran, and nothing came
    FEED_DOWN = "feed down"
    JOB_DOWN = "job down"
    JOB_STOPPED = "job stopped"  # a person stopped or deleted it
    UNKNOWN = "unknown"  # it was not measured, or is no longer kept


def reasons(home: Home, gaps: Sequence[Gap], frame: Frame | None = None) -> list[Reason]:
    """Return for each gap what held for most of it, as far as the home's own measurements and records tell.

    frame: of the bars that are missing; only the jobs that feed it count. Without one, any job counts.
    """
    if not gaps:
        return []
    from_ms, to_ms = min(gap.from_ms for gap in gaps), max(gap.to_ms for gap in gaps)
    try:
        with closing(History.read_only(home)) as history:
            step_ms = history.spacing_ms(from_ms, to_ms, _MAX_POINTS)[1]
            processes, jobs = (
                history.lines(metric, from_ms - 2 * step_ms, to_ms, _MAX_POINTS)
                for metric in (Metric.UP, Metric.RUNNING)
            )
    except (StoreMissingError, sqlite3.OperationalError):  # the file may exist a moment before its tables do
        return [Reason.UNKNOWN] * len(gaps)
    feed = _Line.of((line for subject, line in processes.items() if subject in _FEED), pl.min("value"), step_ms)
    names = {maker.name for maker in read_makers(home) if frame is None or maker.feeds(frame)}
    makers = [line for subject, line in jobs.items() if not names or subject.name in names]
    job, rests = _Line.of(makers, pl.max("value"), step_ms), stops(home)
    stopped = [bool(names) and all(_covers(rests.get(name, ()), gap) for name in names) for gap in gaps]
    return [_reason(gap, feed, job, stopped=stopped[place]) for place, gap in enumerate(gaps)]


def _covers(rests: Iterable[tuple[int, int]], gap: Gap) -> bool:
    """Tell whether stretches of time take up most of a gap."""
    shared_ms = sum(max(0, min(to_ms, gap.to_ms) - max(from_ms, gap.from_ms)) for from_ms, to_ms in rests)
    return 2 * shared_ms > gap.to_ms - gap.from_ms


@dataclass(frozen=True)
class _Line:
    """When something was seen, and whether it was up; each look counts for `step_ms` from then on."""

    times_ms: Sequence[int]
    up: Sequence[bool]
    step_ms: int

    @classmethod
    def of(cls, lines: Iterable[pl.DataFrame], together: pl.Expr, step_ms: int) -> "_Line":
        """Make one line of several that were measured at the same moments."""
        table = pl.concat([pl.DataFrame(schema=LINE_SCHEMA), *lines]).group_by("time_ms").agg(together).sort("time_ms")
        return cls(table["time_ms"].to_list(), (table["value"] > 0).to_list(), step_ms)

    def seen_in(self, gap: Gap) -> Sequence[bool]:
        """Return what was seen in a gap, or just before it where it is shorter than a step."""
        first, end = bisect_right(self.times_ms, gap.from_ms - self.step_ms), bisect_left(self.times_ms, gap.to_ms)
        # A look may come late, and the one before speaks until then.
        if first == end and first and self.times_ms[first - 1] > gap.from_ms - 2 * self.step_ms:
            first -= 1
        return self.up[first:end]


def _reason(gap: Gap, feed: _Line, job: _Line, *, stopped: bool) -> Reason:
    for line, reason in ((feed, Reason.FEED_DOWN), (job, Reason.JOB_DOWN)):
        if stopped and reason is Reason.JOB_DOWN:
            return Reason.JOB_STOPPED
        seen = line.seen_in(gap)
        if not seen or 2 * len(seen) * line.step_ms < gap.to_ms - gap.from_ms:
            return Reason.UNKNOWN
        if 2 * sum(seen) < len(seen):
            return reason
    return Reason.NO_TICKS
