"""The payload of a block of bars: its columns as small whole numbers, exact to the last bit.

    byte 0    version of this format
    the rest  one zstd frame with its checksum, which holds
              the number of bars, 4 bytes; the first start, changed_ms and change, 8 bytes each
              by column of BLOCK_COLUMNS, one byte each: the width of its numbers in bytes, plus 16 if some are null;
              and the decimals of its floats, or 255 for integers and for floats stored as their bits
              by column of BLOCK_COLUMNS: if some are null, one bit for each bar; then the numbers (zigzag-encoded):
              first the lowest bytes of all of them, then the next bytes

Times are differences from the start or end of the bar, or from the bar before. Floats become whole numbers of their
last decimal if that restores every bit, and are stored as their bits otherwise. As whole numbers, opens are relative to
the close of the bar before, closes to the open, highs and lows to the nearer of open and close, and vwaps to the middle
of high and low.

The module imports NumPy, which takes longer than a light command; import it only where bars are encoded or decoded.
"""

import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import zstandard

from barmill.model.bar import BarState

BLOCK_COLUMNS = (
    *("start_ms", "end_ms", "open", "high", "low", "close", "volume", "vwap"),
    *("ticks", "first_tick_ms", "last_tick_ms", "state", "revision", "changed_ms", "change"),
)
_PRICES = ("open", "high", "low", "close")
_FLOATS = (*_PRICES, "volume", "vwap")
_RISING = ("start_ms", "changed_ms", "change")
_HEAD = struct.Struct("<Iqqq")
_STATES = pl.Series([BarState.FORMING.value, BarState.CLOSED.value, BarState.REVISED.value])
_VERSION = 1
_AS_BITS = 255
_MAX_DECIMALS = 18
# Whole numbers below this are exact as floats.
_EXACT_BELOW = 2.0**53
_SAMPLES = 16
_WIDTH, _NULLS = 15, 16
_LEVEL = 3
# Eight times the largest block (MoveSizes), and the most bytes that so many bars take.
_MAX_BARS = 65_536
_MAX_BYTES = _HEAD.size + len(BLOCK_COLUMNS) * (2 + _MAX_BARS * 8 + _MAX_BARS // 8)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class BlockFormatError(ValueError):
    """The bytes are not a block that this version can read: they are damaged, or a later version wrote them."""


def encode_bars(bars: pl.DataFrame) -> bytes:
    """Encode the BLOCK_COLUMNS of bars of one instrument and frame, oldest first; 1 to 65,536 bars."""
    assert 0 < bars.height <= _MAX_BARS
    nulls = {name: bars[name].is_null().to_numpy() for name in BLOCK_COLUMNS if bars[name].null_count()}
    states = pl.col("state").replace_strict(_STATES, pl.int_range(len(_STATES), eager=True), return_dtype=pl.Int64)
    table = bars.select(BLOCK_COLUMNS).with_columns(states).fill_null(0)
    ints: dict[str, Ints] = {name: table[name].to_numpy() for name in BLOCK_COLUMNS if table[name].dtype == pl.Int64}
    start, end = ints["start_ms"], ints["end_ms"]
    first_values = [int(ints[name][0]) for name in _RISING]
    ints |= {
        "end_ms": end - start,
        "first_tick_ms": ints["first_tick_ms"] - start,
        "last_tick_ms": end - ints["last_tick_ms"],
        **{name: np.diff(ints[name], prepend=ints[name][:1]) for name in _RISING},
    }
    floats: dict[str, Floats] = {name: table[name].to_numpy() for name in _FLOATS}
    decimals = dict.fromkeys(_PRICES, _decimals_of(np.concatenate([floats[name] for name in _PRICES])))
    with np.errstate(all="ignore"):  # values that overflow here are not used
        middle = (floats["high"] + floats["low"]) / 2
    decimals |= {"volume": _decimals_of(floats["volume"]), "vwap": _decimals_of(floats["vwap"], middle)}
    ints |= {name: _whole(values, decimals[name]) for name, values in floats.items()}
    if decimals["open"] != _AS_BITS:
        opened, high, low, close = (ints[name] for name in _PRICES)
        ints |= {
            "open": opened - np.concatenate(([0], close[:-1])),
            "high": high - np.maximum(opened, close),
            "low": np.minimum(opened, close) - low,
            "close": close - opened,
        }
    if decimals["vwap"] != _AS_BITS:
        ints["vwap"] = ints["vwap"] - _whole(middle, decimals["vwap"])
    head, body = [_HEAD.pack(bars.height, *first_values)], list[bytes]()
    for name in BLOCK_COLUMNS:
        unsigned = ((ints[name] << 1) ^ (ints[name] >> 63)).view(np.uint64)  # small numbers of either sign
        width = (int(unsigned.max(initial=0)).bit_length() + 7) // 8
        head.append(bytes([width + _NULLS * (name in nulls), decimals.get(name, _AS_BITS)]))
        body.append(np.packbits(nulls[name]).tobytes() if name in nulls else b"")
        body.append(unsigned.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8).T[:width].tobytes())
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    return bytes([_VERSION]) + compressor.compress(b"".join([*head, *body]))


def decode_bars(data: bytes, schema: Mapping[str, pl.DataType], instrument: str, frame: str) -> pl.DataFrame:
    """Decode the result of `encode_bars` to bars with the columns of a schema, and no others.

    Raise BlockFormatError on damage.
    """
    content = Content.read(data)
    return bars_of([(content, slice(0, content.height))], schema, [instrument], [frame])


def bars_of(
    parts: Sequence[tuple["Content", slice]],
    schema: Mapping[str, pl.DataType],
    instruments: Sequence[str],
    frames: Sequence[str],
) -> pl.DataFrame:
    """Return the bars of one or more parts of payloads with the columns of a schema, in the order of the parts.

    instruments, frames: of the bars of each part. One call for many parts takes less time than one for each.
    """
    counts = [part.stop - part.start for _, part in parts]
    columns = list[pl.Series]()
    for name in schema:
        if name in ("instrument", "frame"):
            columns.append(_repeated(name, instruments if name == "instrument" else frames, counts))
            continue
        values = pl.Series(name, np.concatenate([content.column(name)[part] for content, part in parts]))
        if name == "state":
            values = _STATES.gather(values).alias(name)
        if any(name in content.nulls for content, _ in parts):
            nulls = [content.nulls.get(name, np.zeros(content.height, np.bool_))[part] for content, part in parts]
            values = values.set(pl.Series(np.concatenate(nulls)), None)
        columns.append(values)
    return pl.DataFrame(columns)


def _repeated(name: str, texts: Sequence[str], counts: Sequence[int]) -> pl.Series:
    """Return each text as many times as its count says."""
    if len(set(texts)) == 1:
        return pl.Series(name, texts[:1], pl.String).new_from_index(0, sum(counts))
    return pl.Series(name, texts, pl.String).gather(pl.Series(np.repeat(np.arange(len(texts)), counts)))


class Summary(NamedTuple):
    """The columns of bar_blocks that repeat what is in the payload. change: the highest `change` of the bars."""

    first_start_ms: int
    last_start_ms: int
    bars: int
    ticks: int
    change: int


class Content:
    """The columns of a payload, each decoded when it is first read.

    height: the number of bars. nulls: for each column that has nulls, which bars have one.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) < _HEAD.size + 2 * len(BLOCK_COLUMNS):
            raise BlockFormatError("it ends too early")
        self.height, *first_values = _HEAD.unpack_from(content)
        self._first_values = dict(zip(_RISING, first_values, strict=True))
        self.nulls = dict[str, npt.NDArray[np.bool_]]()
        self._content, self._decimals = content, dict[str, int]()
        self._places = dict[str, tuple[int, int]]()
        self._decoded, self._floats = dict[str, Ints](), dict[str, Floats]()
        place = _HEAD.size + 2 * len(BLOCK_COLUMNS)
        formats = content[_HEAD.size : place]
        for name, kind, decimals in zip(BLOCK_COLUMNS, formats[::2], formats[1::2], strict=True):
            self._decimals[name] = decimals
            if kind >= 2 * _NULLS or kind & _WIDTH > 8 or _MAX_DECIMALS < decimals < _AS_BITS:
                raise BlockFormatError("a column has an unknown format")
            if kind & _NULLS:
                if place + (self.height + 7) // 8 > len(content):
                    raise BlockFormatError("it ends too early")
                bits = np.frombuffer(content, np.uint8, (self.height + 7) // 8, place)
                self.nulls[name] = np.unpackbits(bits, count=self.height).view(np.bool_)
                place += bits.size
            self._places[name] = place, kind & _WIDTH
            place += self.height * (kind & _WIDTH)
        if not 0 < self.height <= _MAX_BARS or place != len(content):
            raise BlockFormatError(f"{self.height} bars do not take {len(content)} bytes")
        states = self.integers("state")
        if states.min() < 0 or states.max() >= len(_STATES):
            raise BlockFormatError("the state of a bar is unknown")

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Return the content of a payload. Raise BlockFormatError on damage."""
        if data[:1] != bytes([_VERSION]):
            raise BlockFormatError("its format is unknown")
        frame = memoryview(data)[1:]
        try:
            parameters = zstandard.get_frame_parameters(frame)
            if parameters.content_size > _MAX_BYTES:  # zstandard would reserve this much memory, or more than there is
                raise BlockFormatError("it is larger than any block")
            if not parameters.has_checksum:
                raise BlockFormatError("it has no checksum")
            return cls(zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False))
        except zstandard.ZstdError as error:
            raise BlockFormatError(str(error)) from error

    def summary(self) -> Summary:
        """Return what the other columns of bar_blocks must hold."""
        starts = self.integers("start_ms")
        change = int(self.integers("change").max())
        return Summary(int(starts[0]), int(starts[-1]), self.height, int(self.integers("ticks").sum()), change)

    def within(self, from_ms: int, to_ms: int) -> slice:
        """Return which bars start in [from_ms, to_ms)."""
        first, end = np.searchsorted(self.integers("start_ms"), (from_ms, to_ms)).tolist()
        return slice(first, end)

    def known(self, part: slice, as_of_ms: int | None) -> int:
        """Return how many bars of a part last changed at or before `as_of_ms`; for None, all of them."""
        return (
            part.stop - part.start if as_of_ms is None else int((self.integers("changed_ms")[part] <= as_of_ms).sum())
        )

    def changed_starts(self, part: slice, after_change: int, or_from_ms: int) -> list[int]:
        """Return start_ms of a part's bars that changed after `after_change`, or start from `or_from_ms` on."""
        starts = self.integers("start_ms")[part]
        found: list[int] = starts[(self.integers("change")[part] > after_change) | (starts >= or_from_ms)].tolist()
        return found

    def newest_tick_ms(self, before_ms: int, known_ms: int) -> int | None:
        """Return last_tick_ms of the newest bar that starts before `before_ms`; None if there is none.

        Only bars that last changed at or before `known_ms` count.
        """
        known = np.flatnonzero(self.integers("changed_ms")[: self.within(before_ms, before_ms).stop] <= known_ms)
        return int(self.integers("last_tick_ms")[known[-1]]) if known.size else None

    def closes(self, from_ms: int, count: int) -> tuple[list[int], list[int], list[float]]:
        """Return start_ms, last_tick_ms and close of `count` bars, or fewer at the end of the block.

        The first of them is the last bar that starts at or before `from_ms`. The block must have such a bar.
        This takes a quarter of the time of all columns.
        """
        place = self.within(from_ms + 1, from_ms + 1).start - 1
        part = slice(place, place + count)
        starts, last_ticks = (self.integers(name)[part].tolist() for name in ("start_ms", "last_tick_ms"))
        return starts, last_ticks, _float(self._whole("close")[part], self._decimals["close"]).tolist()

    def ticks_at(self, starts_ms: Sequence[int]) -> list[int]:
        """Return the ticks of the bars that start at these times, -1 for no bar."""
        starts = self.integers("start_ms")
        places = np.minimum(np.searchsorted(starts, starts_ms), self.height - 1)
        found: list[int] = np.where(starts[places] == starts_ms, self.integers("ticks")[places], -1).tolist()
        return found

    def column(self, name: str) -> Ints | Floats:
        """Return a column, with any value for nulls and a number for each state."""
        return self.floats(name) if name in _FLOATS else self.integers(name)

    def integers(self, name: str) -> Ints:
        """Return a column of whole numbers, with any value for nulls."""
        if name not in self._decoded:
            stored = self._stored(name)
            match name:
                case "start_ms" | "changed_ms" | "change":
                    np.cumsum(stored, out=stored)
                    stored += self._first_values[name]
                case "end_ms" | "first_tick_ms":
                    stored = self.integers("start_ms") + stored
                case "last_tick_ms":
                    stored = self.integers("end_ms") - stored
            self._decoded[name] = stored
        return self._decoded[name]

    def floats(self, name: str) -> Floats:
        """Return a column of floats, with any value for nulls."""
        if name not in self._floats:
            self._floats[name] = _float(self._whole(name), self._decimals[name])
        return self._floats[name]

    def _whole(self, name: str) -> Ints:
        """Return a column of floats as whole numbers of their last decimal, or as their bits."""
        if name in self._decoded:
            return self._decoded[name]
        stored = self._stored(name)
        if self._decimals[name] != _AS_BITS:
            match name:
                case "open" | "close":
                    other = self._stored("close" if name == "open" else "open")
                    self._decoded["close"] = np.cumsum(stored + other)
                    self._decoded["open"] = self._decoded["close"] - (other if name == "open" else stored)
                    return self._decoded[name]
                case "high":
                    stored = np.maximum(self._whole("open"), self._whole("close")) + stored
                case "low":
                    stored = np.minimum(self._whole("open"), self._whole("close")) - stored
                case "vwap":
                    stored = stored + _whole((self.floats("high") + self.floats("low")) / 2, self._decimals[name])
        self._decoded[name] = stored
        return stored

    def _stored(self, name: str) -> Ints:
        """Return the numbers of a column as they are stored. Narrow numbers take less time."""
        place, width = self._places[name]
        if not width:
            return np.zeros(self.height, np.int64)
        size = next(size for size in (1, 2, 4, 8) if size >= width)
        planes = np.frombuffer(self._content, np.uint8, width * self.height, place).reshape(width, self.height)
        numbers = np.zeros((self.height, size), np.uint8)
        for byte in range(width):
            numbers[:, byte] = planes[byte]
        unsigned = numbers.view(f"<u{size}")[:, 0]
        return ((unsigned >> 1) ^ -(unsigned & 1)).view(f"<i{size}").astype(np.int64, copy=False)


def _decimals_of(values: Floats, near: Floats | None = None) -> int:
    """Return the number of decimals with which all values are exact; _AS_BITS if there is none.

    near: values that are to be rounded to the same decimals.
    """
    texts = (repr(value) for value in values[:: max(1, values.size // _SAMPLES)].tolist())
    exponents = (Decimal(text).as_tuple().exponent for text in texts)
    least = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)
    if (np.signbit(values) & (values == 0)).any():  # a zero would lose its sign
        return _AS_BITS
    with np.errstate(all="ignore"):
        for decimals in range(max(least, 0), _MAX_DECIMALS + 1):
            scale = 10.0**decimals
            whole = np.rint(values * scale)
            if not ((np.abs(whole) < _EXACT_BELOW).all() and (near is None or (np.abs(near) * scale < 2**62).all())):
                return _AS_BITS
            if (whole / scale == values).all():
                return decimals
    return _AS_BITS


def _whole(values: Floats, decimals: int) -> Ints:
    return values.view(np.int64) if decimals == _AS_BITS else np.rint(values * 10.0**decimals).astype(np.int64)


def _float(values: Ints, decimals: int) -> Floats:
    return values.view(np.float64) if decimals == _AS_BITS else values / 10.0**decimals
