"""Helpers of test_crash.py that other tests use too."""

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.sqlite_file import if_ready
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from control.processes.supervisor import Supervisor

TICKS_PER_S = 20_000


KILLS = [("taskmanager",), ("ingest",), ("taskmanager", "ingest")] * 3


# A start takes half a minute on a quiet machine. A longer wait costs nothing, except in a test that fails.
TIMEOUT_S = 300


def write_recording(path: Path, ticks_per_s: int, seconds: int, *, too_late: float = 0.0) -> Path:
    """Write ticks of 50 instruments, out of order by up to 300 ms, now and then late by seconds.

    too_late: share of ticks that are so late that no job takes them.
    """
    random_numbers = np.random.default_rng(11)
    count = ticks_per_s * seconds
    at_ms = 1_700_000_000_000 + np.arange(count) * 1_000 // ticks_per_s + random_numbers.integers(-300, 301, count)
    at_ms -= np.where(random_numbers.random(count) < 1e-4, random_numbers.integers(2_000, 20_000, count), 0)
    at_ms -= np.where(random_numbers.random(count) < too_late, 400_000, 0)
    names = np.array([f"I{n:02}/USD" for n in range(50)])
    pl.DataFrame(
        {
            "time": at_ms,
            "instrument": names[random_numbers.integers(0, len(names), count)],
            "price": np.round(100 + random_numbers.normal(0, 1, count), 2),
            "volume": np.round(random_numbers.exponential(1, count), 4),
            "id": np.arange(count),
        }
    ).write_parquet(path, row_group_size=100_000)
    return path


def folded(home: Home) -> int:
    """Return how many ticks the job has published."""
    with if_ready():
        return sum(shard.read for shard in BarReader.open(home.bars_db).progress())
    return 0


def logged(home: Home) -> int:
    """Return how many ticks are in the log."""
    with if_ready(), TickLog.read_only(home.ticks_db) as log:
        return log.end_sequence() - 1
    return 0


def kill(supervisor: Supervisor, name: str) -> None:
    """Kill a process the hard way, as soon as it runs."""
    assert wait_until(lambda: kill_if_running(supervisor, name), TIMEOUT_S), f"{name} did not come back"


def kill_if_running(supervisor: Supervisor, name: str) -> bool:
    """Kill a process the hard way if it runs; tell whether it did. It may end after its status was read."""
    pid = next((process.pid for process in supervisor.status() if process.name == name and process.running), None)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def flow_goes_on(home: Home) -> bool:
    """Wait until ticks are published that were not even in the log before; tell whether that came to be."""
    before = logged(home)
    return wait_until(lambda: folded(home) > before, TIMEOUT_S)


def traces(home: Home, supervisor: Supervisor) -> str:
    """Return what explains a flow that has stopped: states of processes, and the last lines of each log."""
    states = [f"{process.name}: {process.state}, {process.uptime_s} s" for process in supervisor.status()]
    files = sorted(path for path in home.log.rglob("*") if path.is_file())
    logs = (f"--- {path.name}\n" + path.read_text(errors="replace")[-1_500:] for path in files)
    return "\n".join([f"{folded(home)} of {logged(home)} ticks published", *states, *logs])


def kill_in_turn(home: Home, supervisor: Supervisor, kills: Sequence[Sequence[str]]) -> None:
    """Kill at random moments, each in a flow that has come back from the kills before."""
    chance = random.Random(5)
    for number, names in enumerate(kills):
        assert flow_goes_on(home), f"before kill {number}: {traces(home, supervisor)}"
        # Counted in the log, because bars on Kafka come in steps, and no kill is to keep step with them.
        moment = logged(home) + chance.randint(5_000, 60_000)
        assert wait_until(lambda moment=moment: logged(home) > moment, TIMEOUT_S), (number, names)  # type: ignore[misc]
        for name in names:
            kill(supervisor, name)


def hurry(home: Home, supervisor: Supervisor) -> None:
    """Have the rest of a recording read as fast as it can be, after one more kill of the feed."""
    settings = FeedSettings.read(home).model_copy(update={"speed": None})
    (home.root / settings.file_name).write_text(settings.model_dump_json())
    kill(supervisor, "ingest")


def read_the_rest(home: Home, supervisor: Supervisor, count: int) -> None:
    """Hurry to the end of a recording of so many ticks, and see all of them published, and in the log just once."""
    hurry(home, supervisor)
    with TickLog.read_only(home.ticks_db) as log:
        assert wait_until(lambda: all(source.ended for source in log.sources()), 2 * TIMEOUT_S)
        assert log.sources()[0].accepted == count
        ids = pl.concat(block["id_text"].cast(pl.Int64) for _, block in log.blocks())
        assert ids.equals(pl.int_range(count, eager=True).alias("id_text"))
    assert wait_until(lambda: folded(home) == count, TIMEOUT_S)


def states(home: Home) -> set[str]:
    return set(pl.concat(BarReader.open(home.bars_db).all_bars())["state"])
