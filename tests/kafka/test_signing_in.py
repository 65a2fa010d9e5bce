"""Brokers that want to know who one is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.settings_file import SettingsError
from barmill.secrets.store import KeyStore
from tests.support.kafka_broker import write_settings
from tests.support.shipping import growing_log, shipper_process
from tests.support.signing_in import PASSWORD, broker_with_password

WRONG = "wrong-battery-5523"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    with broker_with_password(tmp_path_factory.mktemp("kafka")) as settings:
        yield settings


def test_the_password_comes_from_the_key_store_and_can_be_put_right_while_the_shipper_runs(
    home: Home, guarded: KafkaSettings
) -> None:
    write_settings(home.root, guarded)
    with (
        KeyStore.open(home, Actor("tests")) as keys,
        growing_log(home) as growing,
        shipper_process(home) as shipper,
    ):
        growing.append()
        shipper.start()
        assert "kafka" in shipper.wait_for_problem("There is no stored key")
        keys.add("kafka", "kafka", WRONG)
        said = shipper.wait_for_problem("rejects the user name or the password")
        assert "store the correct one with ./barmill key rotate kafka; new ticks wait in the local log." in said
        keys.rotate("kafka", PASSWORD)
        shipper.wait_until_shipped(growing.log.end_sequence())
    assert_nowhere_in_the_clear(home, PASSWORD, WRONG)


def assert_nowhere_in_the_clear(home: Home, *secrets: str) -> None:
    for path in home.root.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret.encode() in data for secret in secrets), path


def test_settings_that_cannot_sign_in_are_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "kafka.json").write_text('{"bootstrap": "a:1", "protocol": "SASL_SSL"}')
    with pytest.raises(SettingsError, match="SASL_SSL requires a username and a password_key"):
        KafkaSettings.read(home)
