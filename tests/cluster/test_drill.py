"""The drill: everything is killed, again and again, in random order; the bars and every desired state survive it."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import polars as pl
import pytest

from barmill.audit.roles import Actor
from barmill.model.bar import BAR_VALUES
from barmill.model.frames import parse_frames
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import choose_ports, free_ports
from barmill.platform.sqlite_file import if_ready
from barmill.simulator.access import ensure_market_key
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from barmill.storage.verification import verify
from control.jobs import replay_run
from control.jobs.model import Desired, Outcome
from control.jobs.replay_run import ReplayRequest
from control.jobs.service import JobService
from control.jobs.views import job_views
from control.processes.supervisor import Supervisor
from control.system.readiness import cluster_of, programs, set_child_environment
from tests.support.crash import hurry, kill, kill_if_running, write_recording

VICTIMS = ("jobmanager", "taskmanager", "controller", "app", "ingest")
KILLS = 30
TIMEOUT_S = 180
TICKS_PER_S, SECONDS = 2_000, 600
JOBS = ({"name": "bars"}, {"name": "wide", "frames": "5s,5m", "shards": 2, "parallelism": 2}, {"name": "idle"})


@contextmanager
def running(home: Home, settings: FeedSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Run a whole Barmill with two jobs that should run and one that should not."""
    for name in ("BARMILL_HOME", "PYTHONPATH", "PYTHONUNBUFFERED", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")  # put back afterwards
    (home.root / settings.file_name).write_text(settings.model_dump_json())
    ports = choose_ports(home, free_ports(1)[0])
    if settings.provider == "market":
        ensure_market_key(home)
    cluster_of(home, ports).write_files()
    set_child_environment(home)
    with JobService.open(home, Actor("ada")) as service:
        for spec in JOBS:
            service.create(json.dumps(spec))
        service.start("bars")
        service.start("wide")
    supervisor = Supervisor(home)
    try:
        supervisor.start(programs(home, ports, settings), ends_with_parent=True)
        yield supervisor
    finally:
        supervisor.stop()


def folded(home: Home, job: str) -> int:
    """Return how many ticks a job has published."""
    with if_ready(), closing(BarReader.open(home.bars_db)) as reader:
        return sum(shard.read for shard in reader.progress() if shard.job == job)
    return 0


def well(home: Home, supervisor: Supervisor, since_ms: int) -> bool:
    """Tell whether every process runs, and every job was seen to be as desired after that time."""
    views = job_views(home)
    processes = supervisor.status()
    return (
        len(views) == len(JOBS)
        and all(view.is_as_desired and view.observed_ms > since_ms for view in views)
        and all(process.state == "RUNNING" for process in processes)
    )


def restarted_from_a_savepoint(home: Home, job: str) -> None:
    """Stop a job with a savepoint in the middle of everything, and continue from it."""
    with JobService.open(home, Actor("ada")) as service:
        operation = service.restart(job)

        def ended() -> bool:
            now = service.repository.operation(operation.id)
            return now is not None and not now.open

        assert wait_until(ended, TIMEOUT_S)
        done = service.repository.operation(operation.id)
        assert done is not None
        assert (done.outcome, service.repository.runs(job)[0].restored_from) == (Outcome.DONE, done.savepoint)


def ms() -> int:
    return time.time_ns() // 1_000_000


def under_fire(home: Home, supervisor: Supervisor, chance: random.Random, kills: int) -> dict[str, float]:
    """Kill each process once, each time until all is normal, then many at random moments; return recovery times."""
    recovery_s: dict[str, float] = {}
    for name in chance.sample(VICTIMS, len(VICTIMS)):
        since_ms, before = ms(), {job: folded(home, job) for job in ("bars", "wide")}
        assert kill_if_running(supervisor, name)
        # The time to recover ends with new ticks in the bars of every job that should run.
        assert wait_until(
            lambda since_ms=since_ms, before=before: (  # type: ignore[misc]
                well(home, supervisor, since_ms) and all(folded(home, job) > count for job, count in before.items())
            ),
            TIMEOUT_S,
        ), f"{name} did not come back"
        recovery_s[name] = round((ms() - since_ms) / 1_000, 1)
    done = len(VICTIMS)
    while done < kills:
        name, due = chance.choice(VICTIMS), time.monotonic() + chance.uniform(0.2, 4)
        assert wait_until(lambda due=due: time.monotonic() > due, 10)  # type: ignore[misc]
        kill(supervisor, name)
        done += 1
    since_ms = ms()
    assert wait_until(lambda: well(home, supervisor, since_ms), TIMEOUT_S), [*job_views(home), *supervisor.status()]
    recovery_s["all, after the last"] = round((ms() - since_ms) / 1_000, 1)
    return recovery_s


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("provider", ["market", "replay"])
def test_thirty_kills_change_no_bar_and_no_desired_state(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, record_property: Callable[..., None]
) -> None:
    settings = FeedSettings()
    if provider == "replay":
        recording = write_recording(tmp_path / "ticks.parquet", TICKS_PER_S, SECONDS)
        settings = FeedSettings(provider="replay", files=(recording,), speed=1.0)
    with running(home, settings, monkeypatch) as supervisor:
        assert wait_until(lambda: well(home, supervisor, 0) and folded(home, "bars") > 0, TIMEOUT_S)
        restarted_from_a_savepoint(home, "bars")
        recovery_s = under_fire(home, supervisor, random.Random(provider), KILLS // 2)
        record_property("recovery_s", recovery_s)
        print(f"\n{provider}: seconds to recover: {recovery_s}")
        assert {view.name: view.desired for view in job_views(home)} == {
            "bars": Desired.RUNNING,
            "wide": Desired.RUNNING,
            "idle": Desired.STOPPED,
        }
        if provider == "replay":
            hurry(home, supervisor)
            with TickLog.read_only(home.ticks_db) as log:
                assert wait_until(lambda: all(source.ended for source in log.sources()), 2 * TIMEOUT_S)
                accepted = log.sources()[0].accepted
            assert accepted == TICKS_PER_S * SECONDS
            assert wait_until(lambda: folded(home, "bars") == folded(home, "wide") == accepted, TIMEOUT_S)
    with TickLog.read_only(home.ticks_db) as log:
        [source] = log.sources()
        ids = pl.concat(block.select("instrument", "id", "id_text") for _, block in log.blocks())
    assert source.read == source.accepted + source.rejected
    assert ids.height == ids.unique().height == source.accepted
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.different, verdict.examples) == (0, [])
    assert verdict.ticks == verdict.in_bars + verdict.late > 0
    if provider == "replay":
        undisturbed = Home(tmp_path / "undisturbed")
        replay_run.run(ReplayRequest([recording], {}, parse_frames("1s,5s,1m,5m,1h"), 300_000), undisturbed)
        assert everything(home).equals(everything(undisturbed))


def everything(home: Home) -> pl.DataFrame:
    with closing(BarReader.open(home.bars_db)) as reader:
        return pl.concat(reader.all_bars()).select(BAR_VALUES.keys())
