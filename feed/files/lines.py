"""Text documents cut into chunks of whole lines, however damaged."""

from collections.abc import Iterator
from dataclasses import dataclass

from feed.files.containers import Document
from feed.files.errors import DamagedFileError
from feed.files.texts import as_utf8

CHUNK_BYTES = 8 << 20
MAX_LINE_BYTES = 16 << 20


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

    damage: the rest of the document is lost with it.
    """

    data: bytes
    line: int
    problem: str
    damage: bool


def read_lines(document: Document) -> Iterator[Lines | CutLine]:
    """Yield the document's lines in chunks; where it is damaged, a CutLine ends it."""
    rest, line, skipping = b"", 1, False
    try:
        for piece in gathered(as_utf8(document.pieces, document.head)):
            data = rest + piece
            if skipping:
                _, newline, data = data.partition(b"\n")
                skipping = not newline
            end = data.rfind(b"\n") + 1
            if end:
                yield Lines(data[:end], line, document.share())
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


def gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
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
