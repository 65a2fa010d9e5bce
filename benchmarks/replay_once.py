"""One replay, measured from inside: python -m benchmarks.replay_once TICKS.parquet --home FOLDER.

It goes the way of `barmill replay`, up to the last bar in the store of that home, and prints what it took as JSON.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bar.frames import parse_frames
from benchmarks.usage import children, command_line, cpu_seconds
from control.home import Home
from control.jobs import replay_run
from control.jobs.replay_run import Request, Standing

FRAMES = "1s,1m,1h"
LATENESS_MS = 300_000
_TASKMANAGER = "TaskManagerRunner"


@dataclass(frozen=True)
class Replayed:
    """What one replay took.

    startup_s: until its job had folded its first ticks. later_ticks: those folded after that, in total_s - startup_s.
    logged_ticks: how many were in the log by then, since the files are read while Flink starts. intake_s: until all
    were. taskmanager_cpu_s: of the process in which the job runs, since its start.
    """

    ticks: int
    bars: int
    total_s: float
    startup_s: float
    later_ticks: int
    logged_ticks: int
    intake_s: float
    taskmanager_cpu_s: float


class _Watch:
    """Looks at the replay while it runs."""

    def __init__(self) -> None:
        self.first_ticks = 0
        self.logged_ticks = 0
        self.intake_s = 0.0
        self._started = time.monotonic()
        self._accepted = 0
        self.taskmanager_cpu_s = 0.0
        self._taskmanager: int | None = None

    def look(self, standing: Standing) -> None:
        """Note the first ticks that were folded, the last that were logged, and the CPU time so far."""
        if not self.first_ticks:
            self.first_ticks, self.logged_ticks = standing.folded, standing.accepted
        if standing.accepted > self._accepted:
            self._accepted, self.intake_s = standing.accepted, time.monotonic() - self._started
        if self._taskmanager is None:
            started = (pid for pid in children(os.getpid()) if _TASKMANAGER in command_line(pid))
            self._taskmanager = next(started, None)
        if self._taskmanager is not None:
            self.taskmanager_cpu_s = cpu_seconds(self._taskmanager) or self.taskmanager_cpu_s


def replay(ticks: Path, home: Home) -> Replayed:
    """Replay a file into a fresh home."""
    watch = _Watch()
    request = Request([ticks], {}, parse_frames(FRAMES), LATENESS_MS)
    outcome = replay_run.run(request, home, watch.look)
    return Replayed(
        ticks=outcome.accepted,
        bars=sum(outcome.bars.values()),
        total_s=outcome.total_s,
        startup_s=outcome.total_s - outcome.folding_s,
        later_ticks=outcome.accepted - watch.first_ticks,
        logged_ticks=watch.logged_ticks,
        intake_s=watch.intake_s,
        taskmanager_cpu_s=watch.taskmanager_cpu_s,
    )


def main() -> int:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description="Replay a file and print what it took.")
    parser.add_argument("ticks", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    print(json.dumps(asdict(replay(given.ticks, Home(given.home)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
