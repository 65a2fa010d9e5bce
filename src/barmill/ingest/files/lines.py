"""Text documents in any common encoding, split into chunks of whole lines in UTF-8, even if damaged."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from barmill.ingest.files.containers import Document
from barmill.ingest.files.streams import DamagedFileError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 400


def encoding_of(head: bytes) -> tuple[str, int]:
    """Return the encoding detected from the first bytes, and the length of the byte order mark."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark)
    # Without a byte order mark, UTF-16 is visible as a zero in every other byte of ASCII text.
    sample = head[: min(len(head) & ~1, _SAMPLE_BYTES)]
    if len(sample) >= 4:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if odd > len(sample) // 4 and even == 0:
            return "utf-16-le", 0
        if even > len(sample) // 4 and odd == 0:
            return "utf-16-be", 0
    return "utf-8", 0


def as_utf8(pieces: Iterator[bytes], head: bytes) -> Iterator[bytes]:
    """Yield the text as UTF-8 without a byte order mark, with lines that end in newlines.

    Invalid text remains invalid, so that it is found in its line. Carriage returns alone end lines only in a text that
    begins without any newline, as old spreadsheets write it. Raise DamagedFileError if UTF-16 or UTF-32 is invalid.
    """
    name, mark_bytes = encoding_of(head)
    start = start_of(head)
    has_only_returns = b"\r" in start and b"\n" not in start
    for piece in _recode(pieces, name, mark_bytes):
        yield piece.replace(b"\r", b"\n") if has_only_returns else piece


def start_of(head: bytes) -> bytes:
    """Return the first bytes of a text as UTF-8 without a byte order mark; the last character may be incomplete."""
    name, mark = encoding_of(head)
    return head[mark:] if name == "utf-8" else head[mark:].decode(name, "ignore").encode()


def _recode(pieces: Iterator[bytes], name: str, mark_bytes: int) -> Iterator[bytes]:
    decoder = None if name == "utf-8" else codecs.getincrementaldecoder(name)("surrogatepass")
    position = 0
    for piece in chain(pieces, [b""]):
        part, mark_bytes = piece[mark_bytes:], max(mark_bytes - len(piece), 0)
        try:
            # A lone surrogate becomes bytes that are not UTF-8, and its line is rejected like any other invalid line.
            yield part if decoder is None else decoder.decode(part, not piece).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"the text is not valid {name} after byte {position:,}") from error
        position += len(piece)


CHUNK_BYTES = 8 << 20
MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True)
class Lines:
    """Some whole lines of a file: their bytes, each line ending in a newline, and the number of the first line.

    share: how much of the file has been read up to their end, 0 to 1.
    """

    data: bytes
    first_line: int
    share: float = 1.0


@dataclass(frozen=True)
class TruncatedLine:
    """One line that could not be read to its end: the part that was read, its number and the problem.

    damage: the rest of the document is lost.
    """

    data: bytes
    line: int
    problem: str
    damage: bool


def read_lines(document: Document) -> Iterator[Lines | TruncatedLine]:
    """Yield the document's lines in chunks.

    A line of more than MAX_LINE_BYTES becomes a TruncatedLine, as does the line in which damage begins, which is last.
    """
    rest, line, skipping = b"", 1, False
    try:
        for piece in join_pieces(as_utf8(document.pieces, document.head)):
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
                yield TruncatedLine(rest, line, f"the line is longer than {MAX_LINE_BYTES >> 20} MB", damage=False)
                rest, line, skipping = b"", line + 1, True
    except DamagedFileError as error:
        yield TruncatedLine(rest, line, str(error), damage=True)
        return
    if rest:
        yield Lines(rest + b"\n", line)


def join_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces into chunks; yield the data before damage, then raise."""
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
