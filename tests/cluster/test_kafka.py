"""Bars through Kafka, on a real broker and a real Flink: produce, job, topic of bars, store."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from barmill.audit.roles import Actor
from barmill.ingest.intake import Intake
from barmill.ingest.providers.replay import ReplayProvider
from barmill.kafka.materialiser import Materialiser
from barmill.kafka.shipper import Shipper
from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.secrets.store import KeyStore
from barmill.storage.bar_store import BarStore
from barmill.storage.reader import BarReader
from barmill.storage.tick_log import TickLog
from barmill.storage.verification import verify
from control.flink.cluster import private_cluster
from control.flink.model import JobState, SavepointState
from control.flink.rest import FlinkRest
from control.jobs.specs import BARS_PROGRAM, check_spec
from control.kafka.artifacts import fetch
from tests.support.crash import folded, states
from tests.support.kafka import assert_each_version_once, versions
from tests.support.kafka_broker import RunningBroker, running_broker, write_settings
from tests.support.replay import GOLDEN, needs_golden
from tests.support.signing_in import PASSWORD, USER, broker_with_password
from tests.support.ticks import START_MS, ticks

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with running_broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="module")
def cluster_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="module")
def flink(cluster_home: Home) -> Iterator[FlinkRest]:
    fetch("connector")
    with private_cluster(cluster_home, slots=8) as rest:
        yield rest


@contextmanager
def shipped(home: Home, settings: KafkaSettings) -> Iterator[None]:
    """Ship the tick log of a home for as long as the block lasts."""
    stop = threading.Event()
    thread = threading.Thread(target=Shipper(home, settings, 7, stop).run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def run_job(flink: FlinkRest, home: Home, *, savepoint: str | None = None, **fields: object) -> str:
    """Submit a job from Kafka to Kafka and return its id."""
    spec = check_spec({"source": "kafka", "sink": "kafka", "name": "golden", **fields}, home)
    path = home.flink / "spec.json"
    path.write_text(spec.model_dump_json())
    return flink.submit(
        *(BARS_PROGRAM, ["--spec", str(path)]),
        parallelism=spec.parallelism,
        job_id=uuid.uuid4().hex,
        savepoint_path=savepoint,
    )


def materialise(
    home: Home, settings: KafkaSettings, flink: FlinkRest, job_id: str, secret: str | None = None
) -> pl.DataFrame:
    """Keep the store from the topics until every shard has said its last word; return all bars."""
    store = BarStore.open(home.bars_db, durable=False)
    materialiser = Materialiser(store, settings, secret)

    def final() -> bool:
        materialiser.step()
        progress = BarReader.open(home.bars_db).progress()
        return len(progress) == settings.partitions and all(shard.final for shard in progress)

    assert wait_until(final, TIMEOUT_S), flink.failure_cause(job_id)
    materialiser.close()
    store.close()
    return pl.concat(BarReader.open(home.bars_db).all_bars())


@needs_golden
@pytest.mark.parametrize("parallelism", [1, 2, 4])
@pytest.mark.parametrize(
    ("recording", "bars", "frames", "count"),
    [("xrpeth_trades", "xrpeth_bars", "1m,5m", 3_175), ("eurusd_quotes", "eurusd_bars", "1s,1m", 52_939)],
)
def test_golden_bars_through_kafka_are_equal_in_every_field(
    broker: RunningBroker,
    flink: FlinkRest,
    home: Home,
    recording: str,
    bars: str,
    frames: str,
    count: int,
    parallelism: int,
) -> None:
    settings = broker.new_settings()
    write_settings(home.root, settings)
    assert settings.partitions == 8
    with TickLog.open(home.ticks_db, durable=False) as log, shipped(home, settings):
        intake = Intake(log, ReplayProvider([GOLDEN / f"{recording}.csv.gz"], {}), duplicate_window_ms=300_000)
        read = sum(done.read for done in intake.run(threading.Event()))
        job_id = run_job(flink, home, frames=frames, parallelism=parallelism, final_only=True)
        made = materialise(home, settings, flink, job_id)
        flink.cancel(job_id)
    key = ["instrument", "frame", "start_ms"]
    golden = pl.read_csv(GOLDEN / f"{bars}.csv.gz", schema_overrides={"volume": pl.Float64}).sort(key)
    assert golden.height == count
    assert made.select(golden.columns).sort(key).equals(golden)
    assert made["state"].unique().to_list() == ["closed"]
    found = versions(settings)
    assert len(found) == len({key for key, _, _, _ in found}) == made.height
    reader = BarReader.open(home.bars_db)
    assert read == sum(shard.read for shard in reader.progress())
    assert all(held + reader.reject_count() == read for _, held in reader.totals().values())


class GrowingLog:
    """A live tick log, ten instruments, a tick every 10 ms of event time, now and then one late."""

    def __init__(self, log: TickLog) -> None:
        self._log, self._count = log, 0
        log.start_source("live", live=True)

    def grow(self, seconds: int) -> int:
        """Append so many seconds, in blocks of one, and return how many ticks there are now."""
        no_rejects = pl.DataFrame(schema=REJECT_SCHEMA)
        for _ in range(seconds):
            numbers = range(self._count, self._count + 100)
            batch = ticks(
                *((n * 10 - (3_000 if n % 97 == 0 else 0), f"I{n * 7 % 10}", 1.0 + n % 13, 0.1) for n in numbers)
            )
            self._count += 100
            self._log.append(
                *("live", batch.drop("sequence"), no_rejects),
                read=100,
                cursor=str(self._count),
                complete_to_ms=START_MS + self._count * 10,
            )
        return self._count


def test_a_job_goes_on_from_its_savepoint_at_another_parallelism_and_scales_as_it_runs(
    broker: RunningBroker, flink: FlinkRest, home: Home
) -> None:
    settings = broker.new_settings()
    write_settings(home.root, settings)
    store = BarStore.open(home.bars_db, durable=False)
    materialiser = Materialiser(store, settings)

    def until(count: int, job_id: str) -> None:
        def folded() -> bool:
            materialiser.step()
            return sum(shard.read for shard in BarReader.open(home.bars_db).progress()) == count

        assert wait_until(folded, TIMEOUT_S), flink.failure_cause(job_id)

    with TickLog.open(home.ticks_db, durable=False) as log, shipped(home, settings):
        growing, savepoint = GrowingLog(log), None
        for number, parallelism in enumerate((2, 4, 1)):
            job_id = run_job(flink, home, name="live", parallelism=parallelism, savepoint=savepoint)
            until(growing.grow(20), job_id)
            if parallelism == 1:
                flink.rescale(job_id, {vertex.id: 3 if vertex.can_scale else 1 for vertex in flink.vertices(job_id)})
                assert wait_until(lambda: scaled_to(flink, job_id, 3), TIMEOUT_S)  # noqa: B023
                until(growing.grow(20), job_id)
            savepoint = stopped(flink, home, job_id, f"{number:032x}")
    materialiser.close()
    store.close()
    verdict = verify(home.ticks_db, home.bars_db, lambda _: None)
    assert (verdict.examples, verdict.in_bars) == ([], 8_000)
    found = versions(settings)
    assert_each_version_once(found)
    assert "revised" in {state for _, state, _, _ in found}


def test_a_job_publishes_to_both_and_they_agree(
    broker: RunningBroker, flink: FlinkRest, cluster_home: Home, home: Home
) -> None:
    settings = broker.new_settings()
    write_settings(home.root, settings)
    with TickLog.open(home.ticks_db, durable=False) as log, shipped(home, settings):
        count = GrowingLog(log).grow(30)
        job_id = run_job(flink, home, name="twice", sink="both")
        assert wait_until(lambda: folded(home) == count, TIMEOUT_S), flink.failure_cause(job_id)
        log.end_source("live")
        assert wait_until(lambda: "forming" not in states(home), TIMEOUT_S)
        stopped(flink, home, job_id, "f" * 32)
    stored = pl.concat(BarReader.open(home.bars_db).all_bars())
    found = versions(settings)
    assert_each_version_once(found)
    table = stored.select("instrument", "frame", "start_ms", "state", "revision", "ticks")
    assert {key: rest for key, *rest in found} == {row[:3]: [*row[3:]] for row in table.rows()}
    # Flink unpacks its SQL planner and leaves it behind; in the home, the next start of the cluster removes it.
    assert list((cluster_home.flink / "tmp").glob("flink-table-planner*.jar"))


def scaled_to(flink: FlinkRest, job_id: str, parallelism: int) -> bool:
    running = flink.job_state(job_id) is JobState.RUNNING
    return running and max(vertex.parallelism for vertex in flink.vertices(job_id)) == parallelism


def stopped(flink: FlinkRest, home: Home, job_id: str, trigger_id: str) -> str:
    """Stop a job with a savepoint and return where that is."""
    flink.stop_with_savepoint(job_id, (home.flink / "savepoints").as_uri(), trigger_id)

    def done() -> bool:
        return flink.savepoint_status(job_id, trigger_id).state is not SavepointState.IN_PROGRESS

    assert wait_until(done, TIMEOUT_S)
    status = flink.savepoint_status(job_id, trigger_id)
    assert status.path is not None, status.cause
    return status.path


def test_a_job_signs_in_with_a_file_and_the_password_shows_nowhere(
    flink: FlinkRest, home: Home, tmp_path: Path
) -> None:
    module = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.plain.PlainLoginModule"
    secret = tmp_path / "kafka.properties"
    secret.write_text(f'sasl.jaas.config={module} required username="{USER}" password="{PASSWORD}";\n')
    with broker_with_password(tmp_path / "kafka") as guarded, KeyStore.open(home, Actor("tests")) as keys:
        settings = guarded.model_copy(update={"job_password_file": secret})
        write_settings(home.root, settings)
        keys.add("kafka", "kafka", PASSWORD)
        with TickLog.open(home.ticks_db, durable=False) as log, shipped(home, settings):
            GrowingLog(log).grow(5)
            log.end_source("live")
            job_id = run_job(flink, home, name="guarded", final_only=True)
            made = materialise(home, settings, flink, job_id, PASSWORD)
            flink.cancel(job_id)
    assert made.filter(pl.col("frame") == "1h")["ticks"].sum() == 500
    assert PASSWORD not in flink.jobmanager_log()
    leaked = [path for path in home.root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert leaked == []
