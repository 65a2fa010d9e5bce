"""Feeds that are ready to be added: all that is left to say is a name, and a key where one is needed."""

from collections.abc import Mapping

from feed.providers.ccxt.ready_made import READY_MADE_CCXT
from feed.providers.ready_made import ReadyMade

__all__ = ["READY_MADE", "ReadyMade"]

READY_MADE: Mapping[str, ReadyMade] = {
    "demo-market": ReadyMade(
        "Another demo market",
        "market",
        '{\n  "port": 8600\n}',
        needs_key=True,
        note="The demo market of another Barmill on this machine; write the port that its status shows, and store a key"
        " that it knows. Its prices are made up.",
    ),
    "kafka-topic": ReadyMade(
        "A topic on Kafka",
        "kafka",
        '{\n  "bootstrap": "localhost:9092",\n  "topic": "prices"\n}',
        note="One JSON object a message, with time, instrument and price; columns renames what is called otherwise.",
    ),
    **READY_MADE_CCXT,
}
