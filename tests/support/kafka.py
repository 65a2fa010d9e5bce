"""Helpers of test_kafka.py that other tests use too."""

import json

from barmill.model.bar import BarState
from barmill.platform.kafka_settings import KafkaSettings
from tests.support.kafka_broker import committed


def versions(settings: KafkaSettings) -> list[tuple[tuple[object, ...], str, int, int]]:
    """Return (key, state, revision, ticks) of everything that a read_committed consumer finds in the topic of bars."""
    found = []
    for message in committed(settings, "bars"):
        value = json.loads(message.value() or b"{}")
        key = json.loads(message.key() or b"{}")
        assert key == {name: value[name] for name in key}
        found.append((tuple(key.values()), value["state"], value["revision"], value["ticks"]))
    return found


def assert_each_version_once(found: list[tuple[tuple[object, ...], str, int, int]]) -> None:
    """See that of each bar every version is later than the one before, and none of a closed bar comes twice."""
    order = [BarState.FORMING.value, BarState.CLOSED.value, BarState.REVISED.value]
    last: dict[tuple[object, ...], tuple[int, int, int]] = {}
    for key, state, revision, held in found:
        version = (order.index(state), revision, held)
        if (before := last.get(key)) is not None:
            assert version > before, (key, before, version)
            assert held >= before[2], (key, before, version)
            assert revision == before[1] + (before[0] > 0), (key, before, version)
        last[key] = version
