"""What readers of a history see over time: bars as they were known, bars that changed, and what is called live."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import polars as pl

from barmill.model.bar import BarState
from barmill.model.frames import Frame, parse_frames
from barmill.storage.changes import Cursor
from barmill.storage.reader import BarQuery
from control.freshness.flow import BarJob, Flow, Intent, UserOperation
from control.freshness.judge import Level
from control.freshness.reading import bar_freshness
from control.jobs.model import Kind, State
from tests.support.histories import History, Job, assert_same

# What the judge lets pass as live: bars of a job that is as far behind, as are the prices that it has yet to read.
_BEHIND_MS = 5_000
_FAR_BACK_MS, _END_MS = -(2**62), 2**62
# Of the latest looks, so many are read as of their time, also after retention and after the clock was set back.
_TIMES = 3


@dataclass
class Views:
    """Compares what is read of a history now with what was read of it before; `look` once after each event."""

    history: History
    # By instrument and frame: when it was read, what was there, and where later changes begin.
    seen: dict[tuple[str, Frame], list[tuple[int, pl.DataFrame, Cursor]]] = field(default_factory=dict)
    looked_ms: list[int] = field(default_factory=list)
    latest_ms: int = 0
    removals: int = 0

    def look(self, part: int = 0, parts: int = 1) -> None:
        """Judge every offered frame, or a part of these: what is live, what changed, and what was known earlier."""
        history = self.history
        if history.removals != self.removals:
            self.removals = history.removals
            self.seen.clear()  # what retention removed is not known any more as of earlier times either
        self.latest_ms = max(self.latest_ms, history.clock_ms)
        self.looked_ms = [*self.looked_ms[-_TIMES:], history.clock_ms]
        for name, frame in history.offered(part, parts):
            cursor, now = history.reader.cursor(name, frame), history.reader.read(BarQuery(name, frame))
            assert_not_falsely_live(history, name, frame, now)
            seen = self.seen.setdefault((name, frame), [])
            if seen:
                self._assert_followed(name, frame, *seen[-1][1:], now)
            # A clock that was set back writes bars at times that were looked at before.
            seen[:] = [look for look in seen if look[0] < history.clock_ms]
            self._assert_one_version(name, frame)
            for at_ms, before, _ in seen:
                self._assert_known(name, frame, at_ms, before)
            # After the clock was set back, bars are there that were written later than that.
            at_ms = history.clock_ms if history.clock_ms >= self.latest_ms else _END_MS
            seen.append((at_ms, now, cursor.after(now)))

    def _assert_followed(
        self, name: str, frame: Frame, before: pl.DataFrame, cursor: Cursor, now: pl.DataFrame
    ) -> None:
        """Bars of an earlier look, with those that changed since in their places, are the bars of now."""
        changed = self.history.reader.changed_since(name, frame, Cursor.parse(str(cursor)), _FAR_BACK_MS)
        assert changed is not None
        kept = before.filter(~pl.col("start_ms").is_in(changed.bars["start_ms"].to_list()))
        if changed.complete_from_ms is not None:
            kept = kept.filter(pl.col("start_ms") < changed.complete_from_ms)
        followed = pl.concat([kept, changed.bars]).sort("start_ms")
        sure = self.history.sure(name, frame)
        assert_same(followed.filter(sure), now.filter(sure), f"{name} {frame.text} followed")

    def _assert_one_version(self, name: str, frame: Frame) -> None:
        for at_ms in self.looked_ms:
            starts = self.history.reader.read(BarQuery(name, frame, as_of_ms=at_ms))["start_ms"]
            assert starts.is_unique().all(), f"{name} {frame.text} as of {at_ms}: {starts.to_list()}"

    def _assert_known(self, name: str, frame: Frame, at_ms: int, before: pl.DataFrame) -> None:
        """As of an earlier look, every bar that had closed is as it was, and there is no bar that was not there.

        Of one that formed, what its short bars were is not kept, so it may lack ticks.
        """
        known = self.history.reader.read(BarQuery(name, frame, as_of_ms=at_ms))
        assert {*known["start_ms"]} <= {*before["start_ms"]}, f"{name} {frame.text} as of {at_ms}"
        closed = before.filter(pl.col("state") != BarState.FORMING.value, self.history.sure(name, frame))
        found = known.filter(pl.col("start_ms").is_in(closed["start_ms"].to_list()))
        assert_same(found, closed, f"{name} {frame.text} as of {at_ms}")


def assert_not_falsely_live(history: History, name: str, frame: Frame, bars: pl.DataFrame) -> None:
    """What is called live is fed by a job that runs, and shows each price that had time to come."""
    fresh = bar_freshness(history.reader, flow_of(history), name, frame)
    if fresh.level is not Level.LIVE:
        return
    what = f"{name} {frame.text} is called live"
    assert any(job.running and feeds(job, frame) for job in history.jobs.values()), what
    due = history.ticks.filter(
        (pl.col("instrument") == name)
        & ~pl.col("sequence").is_in(history.lost)
        & (pl.col("sequence") < history.arrived_by(history.clock_ms - _BEHIND_MS))
    )
    newest_ms, shown_ms = (max(times, default=0) for times in (due["time_ns"] // 1_000_000, bars["last_tick_ms"]))
    assert shown_ms >= newest_ms - _BEHIND_MS, f"{what}, {newest_ms - shown_ms} ms old: {fresh.sentence}"


def feeds(job: Job, frame: Frame) -> bool:
    return any(own.divides(frame) for own in parse_frames(job.spec.frames))


def flow_of(history: History) -> Flow:
    """Return the facts of a history as the product reads them from a home."""
    stopped = UserOperation(Kind.STOP, "os:ada", history.clock_ms)
    makers = [
        BarJob(name, parse_frames(job.spec.frames), Intent.RUN, State.RUNNING)
        if job.running
        else BarJob(name, parse_frames(job.spec.frames), Intent.STOP, State.STOPPED, ended_by=stopped)
        for name, job in history.jobs.items()
    ]
    progress = tuple(history.reader.progress())
    deleted = {shard.job: shard.frames for shard in progress if shard.job not in history.jobs}
    makers += [
        BarJob(
            name, parse_frames(frames), Intent.DELETED, ended_by=UserOperation(Kind.DELETE, "os:ada", history.clock_ms)
        )
        for name, frames in deleted.items()
    ]
    return Flow(history.clock_ms, history.log.sources(), progress, history.log.end_sequence(), jobs=tuple(makers))


@contextmanager
def clock_of(history: History) -> Iterator[None]:
    """Let all that is written be written at the time of the history's own clock."""
    with patch("time.time_ns", lambda: history.clock_ms * 1_000_000):
        yield
