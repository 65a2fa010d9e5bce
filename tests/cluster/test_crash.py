"""Crashes in the middle of a live replay: what is killed comes back, and the bars are those of an undisturbed run."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bar.frames import parse_frames
from bar.model import BAR_VALUES
from bar.reader import BarReader
from bar.sqlite_file import StoreMissingError
from bar.verification import verify
from control.home import Home
from control.jobs import replay_run
from control.jobs.replay_run import Request
from control.machine.ports import choose_ports
from control.machine.processes import Supervisor
from control.machine.programs import cluster_of, programs, supervised_environment
from control.waiting import wait_until
from feed.settings import FeedSettings
from feed.ticklog import TickLog

TICKS_PER_S = 20_000
# More than the kills take on a slow machine; what is left after them is read as fast as it can be.
SECONDS = 300
KILLS = [("taskmanager",), ("ingest",), ("taskmanager", "ingest")] * 3
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ticks at 20,000 a second."""
    return write_recording(tmp_path_factory.mktemp("recording") / "ticks.parquet", TICKS_PER_S, SECONDS)


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


@pytest.fixture
def live(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, Supervisor]]:
    """Run everything but the pages over the recording, at the speed it happened."""
    for name in ("BARMILL_HOME", "PYTHONPATH", "PYTHONUNBUFFERED", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")  # put back afterwards
    home = Home(tmp_path / "home").create()
    settings = FeedSettings(provider="replay", files=(recording,), speed=1.0)
    (home.root / settings.file_name).write_text(settings.model_dump_json())
    ports = choose_ports(home)
    cluster_of(home, ports).write_files()
    supervised_environment(home)
    supervisor = Supervisor(home)
    try:
        supervisor.start([one for one in programs(home, ports, settings) if one.name != "app"], tied=True)
        yield home, supervisor
    finally:
        supervisor.stop()


def folded(home: Home) -> int:
    """Return how many ticks the job has published."""
    try:
        return sum(shard.read for shard in BarReader.open(home.bars_db).progress())
    except (StoreMissingError, sqlite3.OperationalError):  # not there, or not whole, yet
        return 0


def logged(home: Home) -> int:
    """Return how many ticks are in the log."""
    try:
        with TickLog.read_only(home.ticks_db) as log:
            return log.end_sequence() - 1
    except (StoreMissingError, sqlite3.OperationalError):
        return 0


def kill(supervisor: Supervisor, name: str) -> None:
    """Kill a process the hard way, as soon as it runs."""
    pids: list[int] = []

    def found() -> bool:
        pids[:] = [one.pid for one in supervisor.status() if one.name == name and one.running and one.pid]
        return bool(pids)

    assert wait_until(found, TIMEOUT_S), f"{name} did not come back"
    os.kill(pids[0], signal.SIGKILL)


def flow_goes_on(home: Home) -> bool:
    """Wait until ticks are published that were not even in the log before; tell whether that came to be."""
    before = logged(home)
    return wait_until(lambda: folded(home) > before, TIMEOUT_S)


def kill_in_turn(home: Home, supervisor: Supervisor, kills: Sequence[Sequence[str]]) -> None:
    """Kill at random moments, each in a flow that has come back from the kills before."""
    chance = random.Random(5)
    for number, names in enumerate(kills):
        assert flow_goes_on(home), (number, names)
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_of_job_and_feed_change_no_bar(
    live: tuple[Home, Supervisor], recording: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    home, supervisor = live
    kill_in_turn(home, supervisor, KILLS)
    count = TICKS_PER_S * SECONDS
    share = logged(home) / count
    assert share < 1
    read_the_rest(home, supervisor, count)
    record_property("share of the replay under fire", round(share, 2))

    undisturbed = Home(tmp_path / "undisturbed")
    replay_run.run(Request([recording], {}, parse_frames("1s,1m,1h"), 300_000), undisturbed)
    expected = pl.concat(BarReader.open(undisturbed.bars_db).everything()).select(BAR_VALUES.keys())
    published = pl.concat(BarReader.open(home.bars_db).everything())
    assert published.select(BAR_VALUES.keys()).equals(expected)
    assert wait_until(lambda: states(home) == {"closed", "revised"}, TIMEOUT_S)
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.different, verdict.late, verdict.in_bars) == (0, 0, count)


def states(home: Home) -> set[str]:
    return set(pl.concat(BarReader.open(home.bars_db).everything())["state"])
