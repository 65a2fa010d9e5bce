"""A broker whose disk is full for a while: a real small file system, so only where one may be mounted."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.kafka.shipper_status import kafka_problem
from barmill.platform.clock import wait_until
from barmill.platform.home import Home
from tests.support.kafka_broker import running_broker, write_settings
from tests.support.shipper import assert_all_is_in_kafka_once_and_in_order, wait_for_words_to_all, writing
from tests.support.shipping import growing_log, shipper_process
from tests.support.small_disk import fill, small_disk

SIZE_MB = 48


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SIZE_MB) as mounted:
        if not mounted:
            pytest.skip("a small file system can be mounted only by root")
        yield tmp_path / "disk"


def test_a_broker_whose_disk_was_full_for_a_while_has_everything(home: Home, disk: Path) -> None:
    done = threading.Event()
    with (
        running_broker(disk / "kafka") as broker,
        growing_log(home) as growing,
        shipper_process(home) as shipper,
    ):
        write_settings(home.root, broker.settings())
        shipper.start()
        writer = writing(growing, done)
        try:
            shipper.wait_until_shipped(200)
            filler = fill(disk)
            assert shipper.wait_for_problem("Kafka").endswith(" ticks wait in the local log.")
            end = growing.log.end_sequence()
            assert wait_until(lambda: growing.log.end_sequence() > end + 500, 30)  # the feed continues
            # Kafka ends where it cannot write; on one machine, the supervisor tries again and again to start it.
            assert wait_until(lambda: broker.process.poll() is not None, 60)
            filler.unlink()
            broker.start()
            shipper.wait_until_shipped(growing.log.end_sequence())
        finally:
            done.set()
            writer.join()
        shipper.wait_until_shipped(growing.log.end_sequence())
        assert kafka_problem(home) == ""
        wait_for_words_to_all(broker.settings(), growing)
        assert_all_is_in_kafka_once_and_in_order(growing, broker.settings())
