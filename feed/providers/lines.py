"""Text files cut into chunks of whole lines, plain or compressed, however damaged."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

CHUNK_BYTES = 8 << 20
MAX_LINE_BYTES = 16 << 20
_PIECE_BYTES = 1 << 18

# Both give objects with decompress(), eof and unused_data; 31 tells zlib to expect gzip's header and checksum.
_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(31),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


class DamagedFileError(Exception):
    """The compressed data ends too early or is not valid; what came before it is good."""


@dataclass(frozen=True)
class Lines:
    """Some whole lines of a file: their bytes, each line ended by a newline, and the number of the first one.

    share: how much of the file has been read with them, 0 to 1.
    """

    data: bytes
    first_line: int
    share: float = 1.0


@dataclass(frozen=True)
class CutLine:
    """One line that could not be read to its end, as far as it was read, with its number and what went wrong.

    damage: the rest of the file is lost with it.
    """

    data: bytes
    line: int
    problem: str
    damage: bool


def read_lines(path: Path) -> Iterator[Lines | CutLine]:
    """Yield the file's lines in chunks; where it is damaged, a CutLine ends it."""
    rest, line, skipping = b"", 1, False
    try:
        with path.open("rb") as stream:
            size = max(path.stat().st_size, 1)
            for piece in _gathered(_decompressed(stream, path.suffix)):
                data = rest + piece
                if skipping:
                    _, newline, data = data.partition(b"\n")
                    skipping = not newline
                end = data.rfind(b"\n") + 1
                if end:
                    yield Lines(data[:end], line, stream.tell() / size)
                    line += data.count(b"\n", 0, end)
                rest = data[end:]
                if len(rest) > MAX_LINE_BYTES:
                    yield CutLine(rest, line, f"the line is longer than {MAX_LINE_BYTES >> 20} MB", damage=False)
                    rest, line, skipping = b"", line + 1, True
    except DamagedFileError as error:
        yield CutLine(rest, line, str(error), damage=True)
        return
    if rest:
        yield Lines(rest + b"\n", line)


def _decompressed(stream: BinaryIO, suffix: str) -> Iterator[bytes]:
    """Yield the bytes behind a file name's suffix; raise DamagedFileError after the last good one."""
    new = _DECOMPRESSORS.get(suffix)
    pieces = iter(lambda: stream.read(_PIECE_BYTES), b"")
    if new is None:
        yield from pieces
        return
    decompressor = new()
    for piece in pieces:
        try:
            yield decompressor.decompress(piece)
            # Compressed files may be several, one after the other.
            while decompressor.eof and decompressor.unused_data:
                follower = decompressor.unused_data
                decompressor = new()
                yield decompressor.decompress(follower)
        except (zlib.error, zstandard.ZstdError) as error:
            raise DamagedFileError(f"the compressed data is damaged ({error})") from error
    if not decompressor.eof:
        raise DamagedFileError("the compressed data ends in the middle")


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces into chunks; what came before damage is passed on first."""
    parts, size = list[bytes](), 0
    try:
        for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    except DamagedFileError:
        yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)
