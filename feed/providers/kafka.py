"""The provider `kafka`: prices that others publish on a topic, one JSON object a message."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl
from confluent_kafka import KafkaError, KafkaException, Message

from bar.clock import now_ms
from control.kafka.access import AccessError
from feed.connection.doubts import Doubts
from feed.connection.state import ConnectionState, Phase, Report
from feed.files.lines import Lines
from feed.files.tables import BROKEN_SCHEMA, Rows, json_rows
from feed.provider import Batch, ProviderError
from feed.providers.kafka_topic import TopicReading
from feed.settings import PricesTopic

_NO_ROWS = Rows(pl.DataFrame(), pl.DataFrame(schema=BROKEN_SCHEMA), 0)


class KafkaProvider:
    """A topic's messages, each at most once; the cursor is the next offset of every partition.

    columns: our name by theirs, where they call things differently. password_of is asked at each connect. report:
    receives gaps, where messages were deleted before they were read.
    """

    name = "kafka"

    def __init__(
        self,
        topic: PricesTopic,
        columns: Mapping[str, str],
        password_of: Callable[[], str | None] = lambda: None,
        report: Report = lambda _: None,
    ) -> None:
        self._topic, self._columns, self._password_of = topic, columns, password_of
        self._report, self._doubts, self._told = report, Doubts(now_ms), ""
        self.live = topic.live

    def batches(self, cursor: str | None, stop: threading.Event) -> Iterator[Batch]:
        """Yield what the topic holds from `cursor` on (None: from its oldest message) until `stop` is set.

        Raise ProviderError when the brokers do not answer, refuse us or have no such topic.
        """
        offsets = _offsets(cursor, self._topic.topic)
        try:
            with TopicReading.open(self._topic, self._password_of(), self._topic.topic, offsets) as reading:
                while not stop.is_set():
                    batch = self._batch(reading)
                    if batch is not None:
                        yield batch
        except KafkaException as error:
            raise ProviderError(self._sentence(error.args[0])) from error
        except AccessError as error:
            raise ProviderError(str(error)) from error

    def catalogue(self) -> None:
        """Return None: what is published is what there is."""
        return

    def _batch(self, reading: TopicReading) -> Batch | None:
        """Wait a moment for messages; return None where nothing new is to be said."""
        messages, complete_to_ms = reading.next()
        self._tell_gaps(reading.take_gone())
        if not messages and complete_to_ms is None:
            return None
        rows = _rows(messages)
        ticks = _named(rows.ticks, self._columns)
        cursor = json.dumps({"topic": self._topic.topic, "offsets": reading.offsets})
        return Batch(ticks, cursor, complete_to_ms if self.live else None, rows.broken, self._topic.topic)

    def _tell_gaps(self, gone: Sequence[tuple[int, int]]) -> None:
        """Count what was deleted before it was read, and say so for an hour."""
        for partition, offset in gone:
            place = f"partition {partition} of {self._topic.topic}"
            sentence = (
                f"Messages of {place} from offset {offset} on may be missing: they were deleted before they were read."
            )
            self._doubts.note(place, sentence)
        if (gap := self._doubts.sentence) != self._told:
            self._told = gap
            sentence = f"Prices arrive. {gap}".rstrip()
            self._report(ConnectionState(Phase.RECEIVING, sentence, now_ms(), gaps=self._doubts.count, gap=gap))

    def _sentence(self, error: KafkaError) -> str:
        at = f"The brokers at {self._topic.bootstrap}"
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            return f"{at} have no topic {self._topic.topic}; make it, or name another one in feed.json."
        if error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN):
            return f"{at} do not answer."
        return f"{at} refuse to deliver: {error.str()}."


def _offsets(cursor: str | None, topic: str) -> dict[int, int]:
    """Return the offsets of a cursor; nothing where it is one of another topic, whose offsets mean nothing here."""
    known = json.loads(cursor) if cursor else {}
    return {int(name): offset for name, offset in known["offsets"].items()} if known.get("topic") == topic else {}


def _rows(messages: Sequence[Message]) -> Rows:
    """Read each message as one JSON object; its offset takes the place of a line's number.

    A blank message is a reject. One without a value, which marks a key as deleted, is no message to TopicReading.
    """
    # A line break cannot stand inside a JSON text, but between its parts.
    values = [bytes(message.value() or b"").replace(b"\n", b" ") for message in messages]
    filled = [place for place, value in enumerate(values) if value.strip()]
    blank = [message.offset() for message, value in zip(messages, values, strict=True) if not value.strip()]
    rows = _NO_ROWS
    if filled:
        rows = json_rows(Lines(b"\n".join(values[place] for place in filled) + b"\n", 0))
    offsets = pl.Series([messages[place].offset() for place in filled], dtype=pl.Int64)
    broken = _with_offsets(rows.broken, offsets)
    if blank:
        empty = pl.DataFrame({"line": blank, "reason": "broken_line", "detail": "the message is empty"}, BROKEN_SCHEMA)
        broken = pl.concat([broken, empty]).sort("line", maintain_order=True)
    return Rows(_with_offsets(rows.ticks, offsets), broken, rows.last_line)


def _with_offsets(table: pl.DataFrame, offsets: pl.Series) -> pl.DataFrame:
    return table.with_columns(line=offsets.gather(table["line"])) if table.height else table


def _named(table: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """Give columns our names. A mapped column wins; one of our own name counts in messages that lack the mapped one."""
    there = {theirs: ours for theirs, ours in columns.items() if theirs in table.columns}
    own = [name for name in table.columns if name not in there]
    if "price" in there.values():
        own = [name for name in own if name not in ("price_open", "price_close")]
    sources: dict[str, list[str]] = {}
    for name, ours in [*there.items(), *zip(own, own, strict=True)]:
        sources.setdefault(ours, []).append(name)
    return table.select(pl.coalesce(names).alias(ours) for ours, names in sources.items())
