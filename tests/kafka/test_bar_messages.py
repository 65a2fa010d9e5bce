"""Messages of the job: JSON that others can read, and that comes back as it was."""

import json
from dataclasses import replace

import polars as pl
import pytest

from barmill.kafka.messages import (
    MessageError,
    bar_messages,
    progress_message,
    read_again_message,
    read_bars,
    read_progress,
    read_rejects,
    reject_messages,
)
from barmill.model.bar import BAR_SCHEMA
from barmill.model.tick import REJECT_SCHEMA
from barmill.storage.bar_store import Progress

PROGRESS = Progress("bars", 3, "1s,1m", 300_000, 8, 17, 12, 1, 4, 9, None, False, 1_700_000_000_000)


def values(messages: pl.DataFrame) -> list[bytes]:
    return [value.encode() for value in messages["value"]]


def a_bar(**changes: object) -> dict[str, object]:
    texts = {"instrument": "A/B", "frame": "1s", "state": "closed"}
    return {name: texts.get(name, 1.25 if dtype == pl.Float64 else 7) for name, dtype in BAR_SCHEMA.items()} | changes


def test_a_bar_is_json_with_a_version_and_the_fields_of_a_bar() -> None:
    bars = pl.DataFrame([a_bar(open=0.1, close=1e15, volume=None, start_ms=1_700_000_000_000)], BAR_SCHEMA)
    message = bar_messages("bars", bars)
    assert json.loads(message["key"][0]) == {"instrument": "A/B", "frame": "1s", "start_ms": 1_700_000_000_000}
    value = json.loads(message["value"][0])
    assert value == {"v": 1, "job": "bars", **bars.row(0, named=True)}
    assert list(value) == ["v", "job", *BAR_SCHEMA]


def test_bars_come_back_to_the_last_digit() -> None:
    numbers = [0.1, 1 / 3, 5e-324, 1e15, 123456789.01234567, 2.0]
    bars = pl.DataFrame([a_bar(start_ms=n, high=number) for n, number in enumerate(numbers)], BAR_SCHEMA)
    assert read_bars(values(bar_messages("bars", bars))).drop("job").equals(bars)


@pytest.mark.parametrize("name", ["A\tB", 'quote " and \\', "Zürich/日本", "{}", "'"])
def test_no_text_breaks_a_message(name: str) -> None:
    bars = pl.DataFrame([a_bar(instrument=name)], BAR_SCHEMA)
    message = bar_messages("bars", bars)
    assert "\t" not in message["key"][0] + message["value"][0]
    assert "\n" not in message["key"][0] + message["value"][0]
    assert read_bars(values(message))["instrument"].to_list() == [name]


def test_progress_comes_back() -> None:
    several = [PROGRESS, replace(PROGRESS, shard=4, newest_tick_ms=5, final=True)]
    assert read_progress([value for progress in several for value in values(progress_message(progress))]) == several
    assert json.loads(progress_message(PROGRESS)["key"][0]) == {"job": "bars", "shard": 3}


def test_progress_of_the_first_version_is_read() -> None:
    [value] = values(progress_message(PROGRESS))
    old = {
        name: field_value
        for name, field_value in json.loads(value).items()
        if name not in ("begun_sequence", "missing_to_ms")
    }
    assert read_progress([json.dumps(old).encode()]) == [PROGRESS]


def test_rejects_come_back_with_the_new_beginnings_between_them() -> None:
    row = {name: 5 if dtype == pl.Int64 else "x" for name, dtype in REJECT_SCHEMA.items()}
    late = pl.DataFrame([{"source": "market", **row}], {"source": pl.String(), **REJECT_SCHEMA})
    before, after = reject_messages("bars", 3, late, 11), reject_messages("bars", 3, late, 12)
    first, second = read_rejects([*values(before), *values(read_again_message("bars", 3, 2)), *values(after)])
    assert (first.restart, second.restart) == (None, ("bars", 3, 2))
    about = {"job": "bars", "shard": 3, "source": "market"}
    assert first.late.rows(named=True) == [{**about, "rejected_ms": 11, **row}]
    assert second.late.rows(named=True) == [{**about, "rejected_ms": 12, **row}]
    assert before["key"].to_list() == ['{"job":"bars","shard":3}']


@pytest.mark.parametrize("value", [b"not json", b'{"v":2,"job":"bars"}', b'{"hello":"world"}', b"[]", b""])
def test_what_is_not_ours_is_said_to_be_so(value: bytes) -> None:
    ours = values(bar_messages("bars", pl.DataFrame([a_bar()], BAR_SCHEMA)))
    with pytest.raises(MessageError):
        read_bars([*ours, value])
