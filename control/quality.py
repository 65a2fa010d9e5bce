"""Data quality: the counts of all ticks, and the comparison of all bars with a recomputation.

The comparison runs in a separate process at the lowest priority: it may need a gigabyte and a core for minutes, and the
app must stay responsive. Only one runs at a time, and it ends with the app.

    python -m control.quality --home FOLDER     the process: prints JSON lines, the last with the verdict or a problem
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from barmill.model.frames import parse_frames
from barmill.platform.clock import now_ms
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.sqlite_file import StoreMissingError, if_ready
from barmill.secrets.settings import SECRET_VARIABLES
from barmill.storage.bar_store import Progress
from barmill.storage.reader import BarReader
from barmill.storage.tick_damage import damaged_blocks
from barmill.storage.tick_log import Source, TickLog
from barmill.storage.verification import Verdict, verify
from control.freshness.judge import reasons_not_running
from control.freshness.reading import read_bar_jobs
from control.jobs.views import known_jobs
from control.processes.supervisor import tether_prefix, tether_stdin


@dataclass(frozen=True)
class TickCounts:
    """Counts of rows, from the stores.

    read: rows that the feeds read. rejected: rows rejected at ingest, by reason. too_late, in_bars, waiting: ticks that
    the decisive job (see `_in_bars`) rejected, put into bars, and has not read yet. damaged: ticks that no job can
    read, because their blocks of the log are damaged. reused_ids: accepted ticks whose id another tick of their
    instrument had.
    """

    read: int
    in_bars: int
    too_late: int
    rejected: Mapping[str, int]
    waiting: int
    damaged: int = 0
    reused_ids: int = 0

    @property
    def unaccounted(self) -> int:
        """Return how many rows are unaccounted for; negative if rows are counted twice."""
        return self.read - self.in_bars - self.too_late - sum(self.rejected.values()) - self.waiting - self.damaged


def count_ticks(home: Home) -> TickCounts:
    """Return the counts of all rows in the stores of the home; a missing store counts as empty."""
    # Read the bars first: ticks that the job reads in between then count as waiting, not as lost.
    read_by_job, next_sequence, in_bars, too_late, job_position = _in_bars(home)
    sources, rejected, end_sequence, damaged_rows = tuple[Source, ...](), dict[str, int](), 1, 0
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        sources, rejected, end_sequence = log.sources(), log.rejects_by_reason(), log.end_sequence()
        damaged_rows = sum(block.rows for block in damaged_blocks(log.db))
    read, accepted = sum(source.read for source in sources), sum(source.accepted for source in sources)
    waiting = accepted - read_by_job
    if next_sequence is not None:
        waiting = min(waiting, end_sequence - next_sequence)
    waiting = max(0, waiting)
    # Ticks that the job skipped were in damaged blocks, up to the number of damaged rows.
    damaged = min(damaged_rows, max(0, waiting - max(0, end_sequence - job_position)))
    reused = sum(source.reused_ids for source in sources)
    return TickCounts(read, in_bars, too_late, rejected, waiting - damaged, damaged, reused)


def _in_bars(home: Home) -> tuple[int, int | None, int, int, int]:
    """Return (read, next_sequence, in_bars, too_late, job_position) of the decisive job, all from one time.

    read, in_bars, too_late: counts of ticks. job_position: the sequence that the job reads next. next_sequence: the
    same, but None unless another job has read more ticks. In that case the job may have started after the log had
    dropped ticks that are in the bars of the other job, so these ticks are not waiting.
    """
    stopped_jobs = reasons_not_running(read_bar_jobs(home))
    with if_ready(), BarReader.open(home.bars_db).snapshot() as reader:
        by_job: dict[str, list[Progress]] = {}
        for shard in reader.progress():
            by_job.setdefault(shard.job, []).append(shard)
        if not by_job:
            return 0, None, 0, 0, 1
        read = {job: sum(shard.read for shard in shards) for job, shards in by_job.items()}
        # If several jobs make the same bars, the one with the longest lateness decides. A stopped or deleted job
        # reads nothing more, so it counts only if no other job is left.
        job = max(by_job, key=lambda name: (name not in stopped_jobs, by_job[name][0].lateness_ms, read[name]))
        shards = by_job[job]
        job_position = min(shard.next_sequence for shard in shards)
        next_sequence = job_position if max(read.values()) > read[job] else None
        # Every tick is in a bar of each of the job's frames, so counting the frame with the fewest bars is
        # sufficient.
        longest_frame = max(parse_frames(shards[0].frames))
        return read[job], next_sequence, reader.ticks_in(longest_frame.text), reader.reject_count(job), job_position
    return 0, None, 0, 0, 1


MAX_COMPARISON_S = 3_600.0


class State(StrEnum):
    """The state of the comparison."""

    NEVER = "never run"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ComparisonState:
    """The progress or result of the last comparison; share is 0 to 1, problem a sentence."""

    state: State = State.NEVER
    started_ms: int = 0
    ended_ms: int = 0
    share: float = 0.0
    verdict: Verdict | None = None
    problem: str = ""


class Comparison:
    """The comparison of the bars of a home, of which at most one runs; thread-safe."""

    def __init__(self, home: Home, timeout_s: float = MAX_COMPARISON_S) -> None:
        self._home, self._timeout_s = home, timeout_s
        self._lock = threading.Lock()
        self._state = ComparisonState()
        self._number = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def comparison_state(self) -> ComparisonState:
        """Return the state of the last comparison."""
        return self._state

    def start(self) -> None:
        """Start a comparison, unless one is running."""
        with self._lock:
            if self._state.state is State.RUNNING:
                return
            self._state, self._number = ComparisonState(State.RUNNING, now_ms()), self._number + 1
            # The kernel ties the process to the thread that starts it, so this thread lives until the process ends.
            threading.Thread(target=self._run, args=(self._number,), name="comparison", daemon=True).start()

    def stop(self) -> None:
        """End the running comparison."""
        self._change(self._number, state=State.STOPPED)
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def _run(self, number: int) -> None:
        log = self._home.log / "comparison.log"
        with log.open("wb") as error_log:
            process = subprocess.Popen(
                [*tether_prefix(signal.SIGKILL, os.getpid(), "-"), *_command(self._home)],
                env={name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES},
                cwd=REPO_ROOT,
                stdin=tether_stdin(),
                stdout=subprocess.PIPE,
                stderr=error_log,
                text=True,
            )
        timer = threading.Timer(self._timeout_s, process.kill)
        timer.start()
        with self._lock:
            self._process = process
            if number != self._number or self._state.state is not State.RUNNING:  # stopped before it started
                process.kill()
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                self._change(number, **_read(line))
        timer.cancel()
        problem = f"The comparison ended without a result; see {log}."
        self._change(number, state=State.FAILED, problem=problem)

    def _change(self, number: int, **changes: Any) -> None:
        """Record changes of this comparison, unless it has ended."""
        with self._lock:
            if number == self._number and self._state.state is State.RUNNING:
                is_over = changes.get("state", State.RUNNING) is not State.RUNNING
                self._state = replace(self._state, **changes, ended_ms=now_ms() if is_over else 0)


@lru_cache(maxsize=8)
def comparison_of(home: Home) -> Comparison:
    """Return the comparison of a home, which all visitors share."""
    return Comparison(home)


def _command(home: Home) -> list[str]:
    return [sys.executable, "-m", "control.quality", "--home", str(home.root)]


def _read(line: str) -> dict[str, Any]:
    """Return an output line of the process as fields of ComparisonState."""
    message = json.loads(line)
    if "verdict" in message:
        return {"state": State.DONE, "share": 1.0, "verdict": Verdict(**message["verdict"])}
    return {"state": State.FAILED, **message} if "problem" in message else message


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all bars, and print a JSON object per line: the share compared, at the end the verdict or the problem.

    Return 0, or 1 with a problem.
    """
    parser = argparse.ArgumentParser(description="Compare all bars with a recomputation.")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(arguments).home)
    os.nice(19)
    try:
        verdict = verify(home.ticks_db, home.bars_db, lambda share: _report(share=share), known_jobs(home))
    except StoreMissingError as error:
        _report(problem=str(error))
        return 1
    _report(verdict=asdict(verdict))
    return 0


def _report(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    sys.exit(main())
