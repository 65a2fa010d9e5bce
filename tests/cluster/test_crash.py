"""Crashes in the middle of a live replay: what is killed comes back, and the bars are those of an undisturbed run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from barmill.model.bar import BAR_VALUES
from barmill.model.frames import parse_frames
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import choose_ports
from barmill.storage.reader import BarReader
from barmill.storage.verification import verify
from control.jobs import replay_run
from control.jobs.replay_run import ReplayRequest
from control.processes.supervisor import Supervisor
from control.system.readiness import cluster_of, programs, set_child_environment
from tests.support.crash import (
    KILLS,
    TICKS_PER_S,
    TIMEOUT_S,
    kill_in_turn,
    logged,
    read_the_rest,
    states,
    write_recording,
)

# More than the kills take on a slow machine; what is left after them is read as fast as it can be.
SECONDS = 300


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ticks at 20,000 a second."""
    return write_recording(tmp_path_factory.mktemp("recording") / "ticks.parquet", TICKS_PER_S, SECONDS)


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
    set_child_environment(home)
    supervisor = Supervisor(home)
    try:
        supervisor.start(
            [program for program in programs(home, ports, settings) if program.name != "app"], ends_with_parent=True
        )
        yield home, supervisor
    finally:
        supervisor.stop()


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
    replay_run.run(ReplayRequest([recording], {}, parse_frames("1s,1m,1h"), 300_000), undisturbed)
    expected = pl.concat(BarReader.open(undisturbed.bars_db).all_bars()).select(BAR_VALUES.keys())
    published = pl.concat(BarReader.open(home.bars_db).all_bars())
    assert published.select(BAR_VALUES.keys()).equals(expected)
    assert wait_until(lambda: states(home) == {"closed", "revised"}, TIMEOUT_S)
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.different, verdict.late, verdict.in_bars) == (0, 0, count)
