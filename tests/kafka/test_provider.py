"""The provider `kafka`: single JSON ticks that others publish."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import polars as pl
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from barmill.ingest.connection.provider import ProviderError
from barmill.ingest.connection.state import ConnectionState, Phase
from barmill.ingest.intake import Intake
from barmill.ingest.providers import kafka as kafka_topic
from barmill.ingest.providers.kafka import KafkaProvider, _rename_columns
from barmill.platform.clock import wait_until
from barmill.platform.feed_settings import FeedSettings, PricesTopic
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaConnection, KafkaSettings
from barmill.platform.ports import LOOPBACK, free_ports
from barmill.platform.sqlite_file import if_ready
from barmill.storage.tick_log import Source, TickLog
from control.ingest import run_feeds

TIMEOUT_S = 30
NOW_MS = time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Prices:
    """A topic of this test alone, and what publishes on it."""

    topic: PricesTopic
    admin: AdminClient

    def publish(self, *values: object, partition: int = 0, transactional: bool = False) -> None:
        """Publish these values, as JSON unless they are bytes or None."""
        kind = {"transactional.id": uuid4().hex} if transactional else {}
        producer = Producer({**self.topic.client(), **kind, "log_level": 0})
        if transactional:
            producer.init_transactions(TIMEOUT_S)
            producer.begin_transaction()
        for value in values:
            data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
            producer.produce(self.topic.topic, data, partition=partition)
        if transactional:
            producer.commit_transaction(TIMEOUT_S)
        assert producer.flush(TIMEOUT_S) == 0


@pytest.fixture
def prices(kafka: KafkaSettings) -> Prices:
    connection = kafka.model_dump(include=set(KafkaConnection.model_fields))
    topic = PricesTopic(**connection, topic=kafka.topic("prices"))
    admin = AdminClient({**topic.client(), "log_level": 0})
    admin.create_topics([NewTopic(topic.topic, num_partitions=2)])[topic.topic].result(TIMEOUT_S)
    return Prices(topic, admin)


def tick(number: int, instrument: str = "A") -> dict[str, object]:
    return {"time": NOW_MS + number, "instrument": instrument, "price": 1.0 + number}


@contextmanager
def taking(provider: KafkaProvider, log: TickLog) -> Iterator[None]:
    """Let an intake run during the block."""
    stop = threading.Event()
    taken = threading.Thread(target=lambda: [*Intake(log, provider).run(stop)])
    taken.start()
    try:
        yield
    finally:
        stop.set()
        taken.join()


@pytest.fixture
def log(home: Home) -> Iterator[TickLog]:
    with TickLog.open(home.ticks_db, durable=False) as log:
        yield log


def seen(home: Home, condition: Callable[[Source], bool]) -> bool:
    """Wait until a reader of the log sees its source like this."""

    def look() -> bool:
        with if_ready(), TickLog.read_only(home.ticks_db) as reader:
            return any(condition(source) for source in reader.sources())
        return False

    return wait_until(look, TIMEOUT_S)


def prices_in(home: Home) -> list[float]:
    with TickLog.read_only(home.ticks_db) as reader:
        return [price for _, block in reader.blocks() for price in block["price_open"]]


def test_every_message_becomes_a_tick_or_a_reject_that_says_where_it_was(
    home: Home, log: TickLog, prices: Prices
) -> None:
    named = {"ts": NOW_MS, "instrument": "Ä", "price": 3.5, "volume": 4, "id": 9}
    spread = b'{"time": %d,\n "instrument": "A",\n "price": 7}' % NOW_MS
    prices.publish(tick(1), named, None, b"{broken", {**tick(2), "price": -1}, spread, b"", b" \n")
    with taking(KafkaProvider(prices.topic, {"ts": "time"}), log):
        assert seen(home, lambda source: source.read == 7)
    [(_, block)] = [*log.blocks()]
    assert block.select("instrument", "price_open", "volume", "id_text", "line").rows() == [
        ("A", 2.0, None, None, 0),
        ("Ä", 3.5, 4.0, "9", 1),
        ("A", 7.0, None, None, 5),
    ]
    rejects = log.rejects().sort("line")
    assert rejects.select("line", "reason").rows() == [
        (3, "broken_line"),
        (4, "price_not_positive"),
        (6, "broken_line"),
        (7, "broken_line"),
    ]
    assert rejects["source"].unique().to_list() == [prices.topic.topic]


def test_an_intake_that_was_stopped_goes_on_where_the_log_ends(home: Home, log: TickLog, prices: Prices) -> None:
    provider = KafkaProvider(prices.topic, {})
    for start in (0, 10, 20):
        prices.publish(*(tick(n) for n in range(start, start + 10, 2)), transactional=True)
        prices.publish(*(tick(n) for n in range(start + 1, start + 10, 2)), partition=1)
        with taking(provider, log):
            assert seen(home, lambda source, all_of_it=start + 10: source.accepted == all_of_it)  # type: ignore[misc]
    assert sorted(prices_in(home)) == [1.0 + n for n in range(30)]


def test_all_that_was_published_is_complete_up_to_now_once_it_is_read(home: Home, log: TickLog, prices: Prices) -> None:
    with taking(KafkaProvider(prices.topic, {}), log):
        assert seen(home, lambda source: source.complete_to_ms is not None)  # an empty topic is complete
        prices.publish(tick(1), transactional=True)  # ends with a mark that is no message
        published_ms = time.time_ns() // 1_000_000
        assert seen(home, lambda source: source.accepted == 1 and (source.complete_to_ms or 0) > published_ms)


def test_a_topic_of_old_prices_is_never_complete_up_to_now(home: Home, log: TickLog, prices: Prices) -> None:
    prices.publish(tick(1))
    provider = KafkaProvider(prices.topic.model_copy(update={"live": False}), {})
    with taking(provider, log):
        assert seen(home, lambda source: source.accepted == 1)
    assert log.sources()[0].complete_to_ms is None


def test_partitions_that_are_added_are_read_from_their_start(
    home: Home, log: TickLog, prices: Prices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_topic, "_FIND_PARTITIONS_EVERY_MS", 500)
    prices.publish(tick(1))
    with taking(KafkaProvider(prices.topic, {}), log):
        assert seen(home, lambda source: source.accepted == 1)
        prices.admin.create_partitions([NewPartitions(prices.topic.topic, 3)])[prices.topic.topic].result(TIMEOUT_S)
        assert wait_until(lambda: len(prices.admin.list_topics().topics[prices.topic.topic].partitions) == 3, TIMEOUT_S)
        prices.publish(tick(2), partition=2)
        assert seen(home, lambda source: source.accepted == 2)


def test_what_the_topic_no_longer_has_is_said_and_the_rest_is_read(
    home: Home, log: TickLog, prices: Prices, caplog: pytest.LogCaptureFixture
) -> None:
    prices.publish(tick(1))
    provider = KafkaProvider(prices.topic, {})
    with taking(provider, log):
        assert seen(home, lambda source: source.accepted == 1)
    prices.publish(tick(2), tick(3), tick(4))
    place = TopicPartition(prices.topic.topic, 0, 3)
    prices.admin.delete_records([place])[place].result(TIMEOUT_S)
    states: list[ConnectionState] = []
    provider = KafkaProvider(prices.topic, {}, report=states.append)
    with caplog.at_level(logging.WARNING), taking(provider, log):
        assert seen(home, lambda source: source.accepted == 2)
    assert prices_in(home) == [2.0, 5.0]
    assert (states[-1].phase, states[-1].gaps) == (Phase.RECEIVING, 1)
    assert "from offset 1 may be missing: they were deleted before they were read" in states[-1].gap
    assert "Ticks may be missing: partition 0 has no offset 1; continuing from its oldest message." in caplog.text


def test_another_topic_is_read_from_its_start(home: Home, log: TickLog, prices: Prices, kafka: KafkaSettings) -> None:
    prices.publish(tick(1), tick(2))
    with taking(KafkaProvider(prices.topic, {}), log):
        assert seen(home, lambda source: source.accepted == 2)
    other = Prices(prices.topic.model_copy(update={"topic": kafka.topic("other")}), prices.admin)
    prices.admin.create_topics([NewTopic(other.topic.topic, num_partitions=1)])[other.topic.topic].result(TIMEOUT_S)
    other.publish(tick(7))
    with taking(KafkaProvider(other.topic, {}), log):
        assert seen(home, lambda source: source.accepted == 3)


def test_the_feed_of_a_home_reads_the_topic_its_settings_name(home: Home, prices: Prices) -> None:
    settings = FeedSettings.model_validate({"provider": "kafka", "kafka": prices.topic.model_dump()})
    prices.publish(tick(1))
    stop = threading.Event()
    running = threading.Thread(target=run_feeds, args=(settings, home, stop))
    running.start()
    try:
        assert seen(home, lambda source: (source.name, source.accepted, source.live) == ("kafka", 1, True))
    finally:
        stop.set()
        running.join()


@pytest.mark.parametrize("columns", [{"last": "price", "price": "volume"}, {"price": "volume", "last": "price"}])
def test_a_mapped_column_wins_over_one_of_the_fields_own_name(columns: dict[str, str]) -> None:
    table = pl.DataFrame({"line": [1, 2], "last": [5.1, 5.2], "price": [4900, 4901], "price_open": [7, 7], "x": [1, 1]})
    assert _rename_columns(table, columns).to_dict(as_series=False) == {
        "price": [5.1, 5.2],
        "volume": [4900, 4901],
        "line": [1, 2],
        "x": [1, 1],
    }
    both = pl.DataFrame({"last": [5.1, None], "price": [4900.0, 4901.0]})
    assert _rename_columns(both, {"last": "price"}).to_dict(as_series=False) == {"price": [5.1, 4901.0]}


def test_a_topic_that_is_not_there_is_a_sentence(prices: Prices) -> None:
    provider = KafkaProvider(prices.topic.model_copy(update={"topic": "no-such-topic"}), {})
    with pytest.raises(ProviderError, match="have no topic no-such-topic; create it, or correct the name"):
        next(provider.batches(None, threading.Event()))


def test_brokers_that_are_away_are_a_sentence() -> None:
    (port,) = free_ports(1)
    provider = KafkaProvider(PricesTopic(bootstrap=f"{LOOPBACK}:{port}", topic="prices"), {})
    with pytest.raises(ProviderError, match=f"The brokers at {LOOPBACK}:{port} do not respond;"):
        next(provider.batches(None, threading.Event()))


def test_the_provider_needs_a_topic() -> None:
    with pytest.raises(ValueError, match="the provider kafka requires"):
        FeedSettings.model_validate({"provider": "kafka"})
