"""Compressed streams: gzip, bzip2, xz and zstd, of any number of members, in bounded memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from feed.files.errors import DamagedFileError

# A step of input is small, because what a failing step had already decompressed is lost with it, and because a byte of
# zstd may become 30 KB.
_STEP_BYTES = 1_024
_OUTPUT_BYTES = 1 << 20
# What the command line tools allow unless asked for more: 128 MB for zstd; xz -9 needs 65 MB.
_ZSTD_WINDOW_BYTES = 128 << 20
_XZ_MEMORY_BYTES = 192 << 20

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BZ2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


class _Decompressor(Protocol):
    """One member of a stream. eof: it has ended; rest: input behind its end."""

    @property
    def eof(self) -> bool: ...

    @property
    def rest(self) -> bytes: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Deflate:
    """gzip, or raw deflate as zip holds it. wbits: as zlib defines it."""

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        more = True
        while more and not self.eof:
            piece = self._inner.decompress(data, _OUTPUT_BYTES)
            data = self._inner.unconsumed_tail
            more = bool(data) or len(piece) == _OUTPUT_BYTES
            yield piece


class _Block:
    """bzip2 and xz, whose classes in the standard library work alike."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data, _OUTPUT_BYTES)
        while not self.eof and not self._inner.needs_input:
            yield self._inner.decompress(b"", _OUTPUT_BYTES)


class _Zstd:
    """zstd: frames with or without a size, and skippable ones."""

    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data)


_KINDS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": _Deflate,
    "bzip2": lambda: _Block(bz2.BZ2Decompressor()),
    "xz": lambda: _Block(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)),
    "zstd": _Zstd,
}
_ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, ValueError)


def compression(head: bytes) -> str | None:
    """Name the compression that the first bytes of a stream tell of: gzip, bzip2, xz, zstd, or None."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in _BZ2_BLOCKS:
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    skippable = 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18" if len(head) > 3 else False
    return "zstd" if head.startswith(_ZSTD_MAGIC) or skippable else None


def decompressed(pieces: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """Yield what a stream of this compression holds, in pieces of about a megabyte at most.

    Zeros behind a member are padding. Raise DamagedFileError, with the place, after the last good piece.
    """
    return _members(pieces, kind, _KINDS[kind])


def inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what a raw deflate stream holds, up to its end; what follows is left alone."""
    member, at = _Deflate(-15), 0
    for step in _steps(pieces):
        yield from _guarded(member, step, at, "deflate")
        at += len(step)
        if member.eof:
            return
    raise DamagedFileError(f"the compressed data ends in the middle, at byte {at:,}")


def _members(pieces: Iterator[bytes], kind: str, new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    member, between, at = new(), False, 0
    for step in _steps(pieces):
        at += len(step)
        data = step
        while data:
            if between:
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, between = new(), False
            yield from _guarded(member, data, at - len(data), kind)
            data, between = (member.rest, True) if member.eof else (b"", False)
    if not between:
        raise DamagedFileError(f"the {kind} data ends in the middle, at byte {at:,}")


def _steps(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), _STEP_BYTES):
            yield piece[start : start + _STEP_BYTES]


def _guarded(member: _Decompressor, data: bytes, at: int, kind: str) -> Iterator[bytes]:
    """Decompress, naming the place of damage."""
    try:
        yield from member.feed(data)
    except _ERRORS as error:
        advice = ""
        if kind == "zstd" and "memory" in str(error):
            advice = (
                f"; it needs more than {_ZSTD_WINDOW_BYTES >> 20} MB of memory: compress it without --long or --ultra"
            )
        raise DamagedFileError(f"the {kind} data cannot be read at byte {at:,} ({error}){advice}") from error
