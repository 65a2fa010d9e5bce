"""The shipper: from the tick log to Kafka, through crashes of either side."""

import random
import threading
from pathlib import Path

import pytest

from barmill.kafka.shipper_status import kafka_problem
from barmill.platform.certificates import ensure_certificate
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import free_ports
from control.kafka.broker import Broker
from tests.support.kafka_broker import running_broker, write_settings
from tests.support.shipper import assert_all_is_in_kafka_once_and_in_order, wait_for_words_to_all, writing
from tests.support.shipping import (
    growing_log,
    messages_by_partition,
    shipper_process,
)


def test_ticks_reach_the_partition_of_their_shard_in_the_order_of_the_log(home: Home, kafka: KafkaSettings) -> None:
    write_settings(home.root, kafka)
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.append()
        shipper.start()
        for _ in range(20):
            growing.append()
        shipper.wait_until_shipped(growing.log.end_sequence())
        wait_for_words_to_all(kafka, growing)
        assert_all_is_in_kafka_once_and_in_order(growing, kafka)
        assert kafka_problem(home) == ""


def test_a_quiet_partition_hears_every_second_how_complete_the_sources_are(home: Home, kafka: KafkaSettings) -> None:
    write_settings(home.root, kafka)
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.append(1)
        shipper.start()
        shipper.wait_until_shipped(2)
        heard = len(messages_by_partition(kafka)[0])
        assert wait_until(lambda: len(messages_by_partition(kafka)[0]) >= heard + 3, 10)
        growing.log.end_source("one")
        assert wait_until(
            lambda: all(messages[-1].sources[0].ended for messages in messages_by_partition(kafka).values()), 10
        )


def test_a_shipper_killed_at_any_moment_loses_and_doubles_nothing(home: Home, kafka: KafkaSettings) -> None:
    write_settings(home.root, kafka)
    chance, done = random.Random(5), threading.Event()
    with growing_log(home) as growing, shipper_process(home) as shipper:
        writer = writing(growing, done)
        try:
            for _ in range(8):
                shipper.start()
                if chance.random() < 0.75:  # the others die while they start
                    shipper.wait_until_shipped(growing.log.end_sequence() + chance.randrange(200))
                shipper.kill()
            shipper.start()
        finally:
            done.set()
            writer.join()
        shipper.wait_until_shipped(growing.log.end_sequence())
        wait_for_words_to_all(kafka, growing)
        assert_all_is_in_kafka_once_and_in_order(growing, kafka)


def test_a_broker_that_is_killed_and_comes_back_has_everything(home: Home, tmp_path: Path) -> None:
    done = threading.Event()
    with running_broker(tmp_path / "kafka") as broker, growing_log(home) as growing, shipper_process(home) as shipper:
        kafka = broker.settings()
        write_settings(home.root, kafka)
        shipper.start()
        writer = writing(growing, done)
        try:
            shipper.wait_until_shipped(200)
            for _ in range(2):
                broker.kill()
                sentence = shipper.wait_for_problem("Kafka does not respond")
                assert sentence.endswith(" ticks wait in the local log.")
                end = growing.log.end_sequence()
                assert wait_until(lambda end=end: growing.log.end_sequence() > end + 500, 30)  # type: ignore[misc]
                broker.start()
                shipper.wait_until_shipped(growing.log.end_sequence())
        finally:
            done.set()
            writer.join()
        assert kafka_problem(home) == ""
        shipper.wait_until_shipped(growing.log.end_sequence())
        wait_for_words_to_all(kafka, growing)
        assert_all_is_in_kafka_once_and_in_order(growing, kafka)


def test_a_broker_that_is_away_at_the_start_gets_everything_when_it_comes(home: Home, tmp_path: Path) -> None:
    port, controller_port = free_ports(2)
    tls = ensure_certificate(Home(tmp_path / "kafka"))
    later = Broker(tmp_path / "kafka", port, controller_port, tls)
    later.write_files()
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.append()
        write_settings(home.root, KafkaSettings(**dict(later.connection)))
        shipper.start()
        assert shipper.wait_for_problem("Kafka") == "Kafka does not respond; new ticks wait in the local log."
        with running_broker(tmp_path / "kafka", ports=(port, controller_port)) as broker:
            shipper.wait_until_shipped(growing.log.end_sequence())
            wait_for_words_to_all(broker.settings(), growing)
            assert_all_is_in_kafka_once_and_in_order(growing, broker.settings())


def test_topics_that_hold_another_log_are_left_alone(home: Home, kafka: KafkaSettings, tmp_path: Path) -> None:
    other = Home(tmp_path / "other").create()
    for folder in (home, other):
        write_settings(folder.root, kafka)
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.append()
        shipper.start()
        shipper.wait_until_shipped(growing.log.end_sequence())
    with growing_log(other) as growing, shipper_process(other) as shipper:
        growing.append()
        shipper.start()
        assert "set another prefix in kafka.json" in shipper.wait_for_problem("another tick log")


def test_a_log_from_a_backup_that_was_continued_is_refused(home: Home, kafka: KafkaSettings, tmp_path: Path) -> None:
    write_settings(home.root, kafka)
    backup = tmp_path / "backup.sqlite"
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.append()
        growing.log.db.conn.execute("VACUUM INTO ?", (str(backup),))
        growing.append()
        shipper.start()
        shipper.wait_until_shipped(growing.log.end_sequence())
        reached = growing.log.end_sequence()
    for suffix in ("-wal", "-shm"):
        home.ticks_db.with_name(home.ticks_db.name + suffix).unlink(missing_ok=True)
    backup.replace(home.ticks_db)
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.log.begin_epoch()
        while growing.log.end_sequence() <= reached:
            growing.append()
        shipper.start()
        assert "set another prefix in kafka.json" in shipper.wait_for_problem("not in the local log")


@pytest.mark.parametrize("rows", [45_000])
def test_a_large_batch_goes_in_several_messages_of_which_the_last_tells_its_end(
    home: Home, kafka: KafkaSettings, rows: int
) -> None:
    write_settings(home.root, kafka.model_copy(update={"partitions": 1}))
    with growing_log(home) as growing, shipper_process(home) as shipper:
        growing.append(rows)
        shipper.start()
        shipper.wait_until_shipped(rows + 1)
        messages = [tick_message for tick_message in messages_by_partition(kafka)[0] if tick_message.ticks.height]
        assert [message.ticks.height for message in messages] == [20_000, 20_000, 5_000]
        assert [message.next_sequence for message in messages] == [20_001, 40_001, 45_001]
        assert [message.caught_up for message in messages] == [False, False, True]
