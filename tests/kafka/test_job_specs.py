"""Jobs that read from Kafka or publish there: what their specs say, and what people may ask of them."""

import json
from collections.abc import Iterator

import pytest

from barmill.audit.roles import FIRST_START, Actor
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from control.jobs.repository import JobRepository
from control.jobs.service import JobService
from control.jobs.specs import DEFAULT_JOB, JobError, check_spec, spec_fields
from flink_jobs.kafka_sink import messages_sql
from flink_jobs.sources import ticks_sql
from tests.support.kafka_broker import write_settings

PLAIN = KafkaSettings(bootstrap="127.0.0.1:9092", prefix="dev.", partitions=6)


@pytest.fixture
def service(home: Home) -> Iterator[JobService]:
    write_settings(home.root, PLAIN)
    with JobService.open(home, Actor("ada")) as opened:
        yield opened


def text(**fields: object) -> str:
    return json.dumps({"name": "bars", "source": "kafka", "sink": "kafka", **fields})


def test_a_job_from_kafka_has_a_shard_for_each_partition(service: JobService) -> None:
    spec = service.create(text(parallelism=2))
    assert (spec.shards, spec.parallelism) == (6, 2)
    assert spec.kafka is not None
    assert (spec.kafka.bootstrap, spec.kafka.prefix, spec.kafka.client) == ("127.0.0.1:9092", "dev.", {})
    with pytest.raises(JobError, match="needs one shard per partition; set shards to 6"):
        service.create(text(name="other", shards=4))


def test_where_kafka_is_is_the_business_of_the_home(service: JobService) -> None:
    service.create(text())
    assert "kafka" not in spec_fields(service.repository.spec("bars", 1))
    write_settings(service.repository.home.root, PLAIN.model_copy(update={"bootstrap": "kafka:9092"}))
    moved = service.repository.spec("bars", 1).kafka
    assert moved is not None
    assert moved.bootstrap == "kafka:9092"
    with pytest.raises(JobError, match="A spec has no field kafka"):
        service.create(text(name="other", kafka={"bootstrap": "elsewhere:9092"}))


def test_without_kafka_no_job_can_use_it(home: Home) -> None:
    for ends in ({"source": "kafka"}, {"sink": "kafka"}, {"sink": "both"}):
        with pytest.raises(JobError, match="Kafka is not configured; start with"):
            check_spec({"name": "bars", **ends}, home)
    assert check_spec({"name": "bars"}, home).kafka is None


def test_a_job_that_was_made_with_kafka_can_be_looked_at_without_it(service: JobService) -> None:
    service.create(text())
    (service.repository.home.root / PLAIN.file_name).unlink()
    assert service.repository.spec("bars", 1).source == "kafka"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sink": "both"}, "bars cannot change its source or sink; clone it to use others"),
        ({"source": "sqlite"}, "bars cannot change its source or sink"),
        ({"frames": "1s,5m"}, "bars uses Kafka, so it cannot gain frames; create another job with only the new ones"),
        ({"lateness_ms": 300_001}, "bars uses Kafka, so its lateness cannot increase"),
    ],
)
def test_an_edit_cannot_ask_for_what_was_published_to_be_undone(
    service: JobService, change: dict[str, object], sentence: str
) -> None:
    service.create(text(frames="1s,1m", shards=6))
    with pytest.raises(JobError, match=sentence):
        service.edit("bars", text(**{"frames": "1s,1m", "shards": 6} | change))
    assert service.repository.job("bars").version == 1


def test_an_edit_may_ask_for_less(service: JobService) -> None:
    service.create(text(frames="1s,1m"))
    service.edit("bars", text(frames="1m", lateness_ms=1_000, commit_ms=500))
    assert service.repository.spec("bars", 2).frames == "1m"


def test_where_kafka_is_used_the_default_job_goes_from_there_to_there(home: Home) -> None:
    write_settings(home.root, PLAIN)
    with JobService.open(home, FIRST_START) as service:
        service.ensure_default_job()
    with JobRepository.read_only(home) as repository:
        spec = repository.spec(DEFAULT_JOB, 1)
    assert (spec.source, spec.sink, spec.shards) == ("kafka", "kafka", 6)


def test_a_job_signs_in_with_a_file_that_only_kafkas_client_reads(home: Home) -> None:
    signs_in = PLAIN.model_copy(
        update={
            **{"protocol": "SASL_SSL", "username": "barmill", "password_key": "kafka"},
            **{"ca_file": "/run/ca.pem", "certificate_file": "/run/client.pem"},
        }
    )
    write_settings(home.root, signs_in)
    with pytest.raises(JobError, match="set job_password_file in"):
        check_spec({"name": "bars", "source": "kafka"}, home)
    write_settings(home.root, signs_in.model_copy(update={"job_password_file": "/run/secrets/kafka.properties"}))
    spec = check_spec({"name": "bars", "source": "kafka", "sink": "both"}, home)
    for sql in (ticks_sql(spec), messages_sql(spec)):
        assert "'properties.security.protocol' = 'SASL_SSL'" in sql
        assert "'properties.ssl.truststore.location' = '/run/ca.pem'" in sql
        assert "'properties.ssl.keystore.location' = '/run/client.pem'" in sql
        assert "'properties.sasl.jaas.config' = '${file:/run/secrets/kafka.properties:sasl.jaas.config}'" in sql


def test_tables_name_the_topics_of_the_home_and_only_committed_ticks_are_read(home: Home) -> None:
    write_settings(home.root, PLAIN)
    spec = check_spec({"name": "bars", "source": "kafka", "sink": "kafka"}, home)
    assert "'topic' = 'dev.ticks'" in ticks_sql(spec)
    assert "'properties.isolation.level' = 'read_committed'" in ticks_sql(spec)
    assert "'topic' = 'dev.bars;dev.rejects;dev.progress'" in messages_sql(spec)
    assert "'sink.delivery-guarantee' = 'exactly-once'" in messages_sql(spec)
    assert "'sink.transactional-id-prefix' = 'dev.barmill-bars'" in messages_sql(spec)
