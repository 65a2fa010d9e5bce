"""Compressed streams: gzip, bzip2, xz and zstd, with any number of members, in bounded memory."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from barmill.ingest.connection.provider import ProviderError


class ReplayFileError(ProviderError):
    """The file, or an archive member in it, cannot be read; the message says why and what to do."""


class DamagedFileError(Exception):
    """The data is damaged or truncated; all data before this error is valid. The message says where or why."""


# Input steps are small, because a failing step loses its decompressed output, and because one byte of zstd may expand
# to 30 KB.
_STEP_BYTES = 1_024
_OUTPUT_BYTES = 1 << 20
# 128 MB is the default limit of the command zstd; data of xz -9 needs 65 MB.
_ZSTD_WINDOW_BYTES = 128 << 20
_XZ_MEMORY_BYTES = 192 << 20

# The first bytes of Parquet and Arrow files.
PARQUET_MAGIC, ARROW_MAGIC, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BZ2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


class _Decompressor(Protocol):
    """One member of a stream. eof: the member has ended; rest: input after its end."""

    @property
    def eof(self) -> bool: ...

    @property
    def rest(self) -> bytes: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Deflate:
    """gzip, or the raw deflate data in zip archives. wbits: as defined by zlib."""

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        has_more = True
        while has_more and not self.eof:
            piece = self._inner.decompress(data, _OUTPUT_BYTES)
            data = self._inner.unconsumed_tail
            has_more = bool(data) or len(piece) == _OUTPUT_BYTES
            yield piece


class _Block:
    """bzip2 and xz, whose classes in the standard library have the same interface."""

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
    """zstd: frames with or without a stated size, and skippable frames."""

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
    """Return the compression detected from the first bytes of a stream: gzip, bzip2, xz, zstd, or None."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in _BZ2_BLOCKS:
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    skippable = 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18" if len(head) > 3 else False
    return "zstd" if head.startswith(_ZSTD_MAGIC) or skippable else None


def decompress(pieces: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """Yield the decompressed content of a stream, in pieces of at most one megabyte, or about 30 MB for zstd.

    Zeros after a member are padding. Raise DamagedFileError, whose message names the position, after the last good
    piece.
    """
    return _members(pieces, kind, _KINDS[kind])


def inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the decompressed content of a raw deflate stream up to its end; ignore what follows.

    Raise DamagedFileError, whose message names the position, after the last good piece.
    """
    member, position = _Deflate(-15), 0
    for step in _steps(pieces):
        yield from _feed(member, step, position, "deflate")
        position += len(step)
        if member.eof:
            return
    raise DamagedFileError(f"the compressed data is truncated at byte {position:,}")


def _members(pieces: Iterator[bytes], kind: str, new_member: Callable[[], _Decompressor]) -> Iterator[bytes]:
    member, is_between, position = new_member(), False, 0
    for step in _steps(pieces):
        position += len(step)
        data = step
        while data:
            if is_between:
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, is_between = new_member(), False
            yield from _feed(member, data, position - len(data), kind)
            data, is_between = (member.rest, True) if member.eof else (b"", False)
    if not is_between:
        raise DamagedFileError(f"the {kind} data is truncated at byte {position:,}")


def _steps(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), _STEP_BYTES):
            yield piece[start : start + _STEP_BYTES]


def _feed(member: _Decompressor, data: bytes, position: int, kind: str) -> Iterator[bytes]:
    """Decompress; raise DamagedFileError with the position on damage."""
    try:
        yield from member.feed(data)
    except _ERRORS as error:
        advice = ""
        if kind == "zstd" and "memory" in str(error):
            advice = (
                f"; it needs more than {_ZSTD_WINDOW_BYTES >> 20} MB of memory: compress it without --long or --ultra"
            )
        raise DamagedFileError(f"the {kind} data cannot be read at byte {position:,} ({error}){advice}") from error
