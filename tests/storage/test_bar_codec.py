"""The codec of blocks: every value comes back, and damage is an error of the format."""

import random

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from barmill.storage.bar_blocks import ROW_SCHEMA
from barmill.storage.bar_codec import BlockFormatError, decode_bars, encode_bars
from tests.support.rollup import NAME, bars_each_second

_CLOSED = (
    pl.lit("closed").alias("state"),
    pl.lit(0, pl.Int64).alias("revision"),
    pl.lit(1, pl.Int64).alias("changed_ms"),
    pl.lit(1, pl.Int64).alias("change"),
)

_times = st.one_of(st.integers(1_700_000_000_000, 1_700_000_000_400), st.integers(-(2**63), 2**63 - 1))
_decimals = st.builds(lambda whole, digits: whole / 10**digits, st.integers(-(10**9), 10**9), st.integers(0, 9))
_floats = st.one_of(_decimals, _decimals, st.floats(), st.sampled_from([0.0, -0.0, 5e-324, 1e22, 2.0**53, 1e308]))
_ints = st.one_of(st.integers(0, 300), _times)
_bar = st.fixed_dictionaries(
    {
        "instrument": st.just("A"),
        "frame": st.just("1s"),
        "start_ms": _times,
        "end_ms": _times,
        **{name: st.one_of(st.none(), _floats, _floats, _floats) for name in ("volume", "vwap")},
        **dict.fromkeys(("open", "high", "low", "close"), _floats),
        **dict.fromkeys(("ticks", "revision", "change"), _ints),
        **{name: st.one_of(st.none(), _times, _times) for name in ("first_tick_ms", "last_tick_ms", "changed_ms")},
        "state": st.sampled_from(["closed", "revised", "forming"]),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_bar, min_size=1, max_size=12))
def test_every_value_comes_back_to_the_last_bit(rows: list[dict[str, object]]) -> None:
    bars = pl.DataFrame(rows, ROW_SCHEMA)
    assert bits(decode_bars(encode_bars(bars), ROW_SCHEMA, "A", "1s")) == bits(bars)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 10**7)] * 4, st.integers(0, 10**9)), min_size=1, max_size=50))
def test_prices_with_few_decimals_come_back(rows: list[tuple[int, ...]]) -> None:
    prices = [[whole / 100 for whole in row[:4]] for row in rows]
    bars = pl.DataFrame(
        [
            {
                **dict.fromkeys(ROW_SCHEMA, 1_700_000_000_000 + number),
                "instrument": "A",
                "frame": "1s",
                **dict(zip(("open", "high", "low", "close"), values, strict=True)),
                "volume": row[4] / 1e8,
                "vwap": round(sum(values) / 4, 11),
                "state": "closed",
            }
            for number, (row, values) in enumerate(zip(rows, prices, strict=True))
        ],
        ROW_SCHEMA,
    )
    assert bits(decode_bars(encode_bars(bars), ROW_SCHEMA, "A", "1s")) == bits(bars)


def bits(bars: pl.DataFrame) -> list[tuple[object, ...]]:
    """Return the rows, with floats as text that also tells zeros of different signs apart."""
    return [tuple(repr(value) if isinstance(value, float) else value for value in row) for row in bars.iter_rows()]


@pytest.mark.parametrize("place", [0, 1, 30, -1])
def test_a_payload_with_a_wrong_byte_is_refused(place: int) -> None:
    data = bytearray(encode_bars(bars_each_second(10).with_columns(_CLOSED)))
    data[place] ^= 0x55
    with pytest.raises(BlockFormatError):
        decode_bars(bytes(data), ROW_SCHEMA, NAME, "1s")


@pytest.mark.parametrize("count", [1, 10, 300, 5_000])
def test_a_damaged_payload_gives_the_same_bars_or_an_error_of_the_format(count: int) -> None:
    chance = random.Random(count)
    bars = bars_each_second(10).filter(frame="1s").with_columns(_CLOSED).sample(count, with_replacement=True, seed=1)
    bars = bars.with_columns(close=pl.Series([chance.random() for _ in range(count)]))
    data = encode_bars(bars)
    header_bits = 8 * 24
    flips = [*range(header_bits), *(chance.randrange(header_bits, 8 * len(data)) for _ in range(150))]
    lengths = [*range(24), *(chance.randrange(len(data)) for _ in range(50)), len(data) - 4, len(data) - 1]
    damaged = [*(_flipped(data, bit) for bit in flips), *(data[:length] for length in lengths), data + b"\0"]
    damaged += [_flipped(payload, chance.randrange(header_bits)) for payload in damaged[-60:] if len(payload) >= 24]
    refused = 0
    for payload in damaged:
        try:
            assert decode_bars(payload, ROW_SCHEMA, NAME, "1s").equals(bars.select(ROW_SCHEMA.keys()))
        except BlockFormatError:
            refused += 1
    assert refused > len(damaged) - 10


def _flipped(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def _with_content(content: bytes) -> bytes:
    return b"\x01" + zstandard.ZstdCompressor(write_checksum=True).compress(content)


def test_content_of_another_format_is_refused() -> None:
    data = encode_bars(bars_each_second(10).filter(frame="1s").with_columns(_CLOSED))
    content = zstandard.ZstdDecompressor().decompress(data[1:])
    for wrong in (b"", content[:40], content[:-1], content + b"\0", bytes(len(content)), b"\xff" * len(content)):
        with pytest.raises(BlockFormatError):
            decode_bars(_with_content(wrong), ROW_SCHEMA, NAME, "1s")
    with pytest.raises(BlockFormatError):  # larger than any block
        decode_bars(_with_content(bytes(2**25)), ROW_SCHEMA, NAME, "1s")
    assert decode_bars(_with_content(content), ROW_SCHEMA, NAME, "1s").height == 10
