"""The materialiser: topics on a real broker into a real store, whatever stops it in between."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pytest
from confluent_kafka import Producer

from barmill.kafka.access import ensure_topics
from barmill.kafka.materialiser import Materialiser
from barmill.kafka.messages import bar_messages, progress_message, read_again_message, reject_messages
from barmill.model.bar import BAR_SCHEMA
from barmill.model.tick import REJECT_SCHEMA
from barmill.platform.clock import wait_until
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.sqlite_file import if_ready
from barmill.storage.bar_store import BarStore, Progress
from barmill.storage.reader import BarReader
from tests.support.kafka_broker import write_settings

TIMEOUT_S = 120
PROGRESS = Progress("bars", 0, "1s", 300_000, 8, 1, 0, 0, 0, 0, None, False, 1)


class Job:
    """What a job would publish, a transaction at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer = Producer({**settings.client(), "transactional.id": settings.topic("job"), "log_level": 0})
        self._producer.init_transactions()

    def publish(self, *messages: tuple[str, pl.DataFrame], commit: bool = True) -> None:
        self._producer.begin_transaction()
        for topic, table in messages:
            for key, value in table.iter_rows():
                self._producer.produce(self._settings.topic(topic), value, key)
        self._producer.flush()
        if commit:
            self._producer.commit_transaction()
        else:
            self._producer.abort_transaction()


@pytest.fixture
def job(kafka: KafkaSettings) -> Job:
    ensure_topics(kafka, 7)
    return Job(kafka)


@contextmanager
def materialiser(home: Home, settings: KafkaSettings) -> Iterator[Materialiser]:
    store = BarStore.open(home.bars_db, durable=False)
    running = Materialiser(store, settings)
    try:
        yield running
    finally:
        running.close()
        store.close()


def bars(*rows: tuple[int, int, str, int]) -> tuple[str, pl.DataFrame]:
    """Make messages of bars of A from rows of (second, ticks, state, revision)."""
    texts = {"instrument": "A", "frame": "1s"}
    common = {name: texts.get(name, 1.0 if dtype == pl.Float64 else 1) for name, dtype in BAR_SCHEMA.items()}
    table = [
        common | {"start_ms": s * 1_000, "end_ms": s * 1_000 + 1_000, "ticks": n, "state": state, "revision": revision}
        for s, n, state, revision in rows
    ]
    return "bars", bar_messages("bars", pl.DataFrame(table, BAR_SCHEMA))


def progress(read: int) -> tuple[str, pl.DataFrame]:
    return "progress", progress_message(replace(PROGRESS, read=read))


def late(*sequences: int) -> tuple[str, pl.DataFrame]:
    row = {name: 5 if dtype == pl.Int64 else "x" for name, dtype in REJECT_SCHEMA.items()}
    table = [{"source": "market", **row, "sequence": sequence} for sequence in sequences]
    return "rejects", reject_messages("bars", 0, pl.DataFrame(table, {"source": pl.String(), **REJECT_SCHEMA}), 9)


def stored(home: Home) -> list[tuple[int, int, str, int]]:
    table = BarReader.open(home.bars_db).bars("A", "1s")
    return table.select(pl.col("start_ms") // 1_000, "ticks", "state", "revision").rows()


def read(home: Home) -> int:
    with if_ready():
        return sum(shard.read for shard in BarReader.open(home.bars_db).progress())
    return 0


def step_until_read(running: Materialiser, home: Home, count: int) -> None:
    """Continue until the store has the progress of the last transaction."""

    def there() -> bool:
        running.step()
        return read(home) == count

    assert wait_until(there, TIMEOUT_S)


def test_the_store_becomes_what_the_topics_say(home: Home, kafka: KafkaSettings, job: Job) -> None:
    job.publish(bars((0, 1, "forming", 0), (1, 5, "closed", 0)), late(3, 4), progress(1))
    job.publish(bars((0, 2, "closed", 0), (1, 6, "revised", 1)), progress(2))
    with materialiser(home, kafka) as running:
        step_until_read(running, home, 2)
    assert stored(home) == [(0, 2, "closed", 0), (1, 6, "revised", 1)]
    reader = BarReader.open(home.bars_db)
    assert reader.revisions("A", "1s", 1_000)["ticks"].to_list() == [5]
    assert sorted(reader.rejects()["sequence"]) == [3, 4]


def test_what_was_not_committed_is_not_taken(home: Home, kafka: KafkaSettings, job: Job) -> None:
    job.publish(bars((0, 1, "closed", 0)), progress(1))
    job.publish(bars((0, 9, "revised", 1)), late(3), progress(9), commit=False)
    job.publish(bars((1, 1, "closed", 0)), progress(2))
    with materialiser(home, kafka) as running:
        step_until_read(running, home, 2)
    assert stored(home) == [(0, 1, "closed", 0), (1, 1, "closed", 0)]
    assert BarReader.open(home.bars_db).reject_count() == 0


def test_it_goes_on_where_it_was_and_takes_nothing_twice(home: Home, kafka: KafkaSettings, job: Job) -> None:
    job.publish(bars(*((second, 1, "closed", 0) for second in range(50))), progress(50))
    with materialiser(home, kafka) as running:
        step_until_read(running, home, 50)
    job.publish(bars((50, 1, "closed", 0)), progress(51))
    with materialiser(home, kafka) as again:
        taken = 0

        def there() -> bool:
            nonlocal taken
            taken += again.step()
            return read(home) == 51

        assert wait_until(there, TIMEOUT_S)
    assert taken == 2
    assert len(stored(home)) == 51


def test_versions_that_compaction_took_away_leave_the_number_of_the_revision(
    home: Home, kafka: KafkaSettings, job: Job
) -> None:
    job.publish(bars((0, 1, "closed", 0)), progress(1))
    with materialiser(home, kafka) as running:
        step_until_read(running, home, 1)
        job.publish(bars((0, 9, "revised", 4), (1, 3, "revised", 2)), progress(2))
        step_until_read(running, home, 2)
    assert stored(home) == [(0, 9, "revised", 4), (1, 3, "revised", 2)]


def test_a_shard_that_begins_anew_takes_its_rejects_back(home: Home, kafka: KafkaSettings, job: Job) -> None:
    job.publish(late(3, 4, 5), progress(1))
    job.publish(("rejects", read_again_message("bars", 0, 4)), late(5), progress(2))
    with materialiser(home, kafka) as running:
        step_until_read(running, home, 2)
    assert sorted(BarReader.open(home.bars_db).rejects()["sequence"]) == [3, 5]


def test_what_another_program_puts_there_is_left_out(
    home: Home, kafka: KafkaSettings, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = "bars", pl.DataFrame({"key": ["x", "y"], "value": ["hello", '{"v": 2}']})
    job.publish(bars((0, 1, "closed", 0)), foreign, bars((1, 1, "closed", 0)), progress(1))
    with materialiser(home, kafka) as running:
        step_until_read(running, home, 1)
    assert [second for second, *_ in stored(home)] == [0, 1]
    assert caplog.text.count("It is skipped") == 2


def test_a_killed_process_is_taken_up_by_the_next_one(home: Home, kafka: KafkaSettings, job: Job) -> None:
    write_settings(home.root, kafka)
    command = [sys.executable, "-m", "barmill.kafka.materialiser", "--home", str(home.root)]
    for number in range(1, 4):
        with (home.log / "materialiser.log").open("ab") as output:
            process = subprocess.Popen(command, cwd=REPO_ROOT, stdout=output, stderr=output)
        try:
            job.publish(bars(*((number * 100 + n, 1, "closed", 0) for n in range(100))), progress(number))
            assert wait_until(lambda wanted=number: read(home) == wanted, TIMEOUT_S), (  # type: ignore[misc]
                (home.log / "materialiser.log").read_text()
            )
        finally:
            process.kill()
            process.wait()
    assert len(stored(home)) == 300
    assert BarReader.open(home.bars_db).totals() == {"1s": (300, 300)}
