"""Text of any usual encoding and line ends made UTF-8 with newlines."""

import codecs
from collections.abc import Iterator
from itertools import chain

from feed.files.errors import DamagedFileError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 400


def encoding_of(head: bytes) -> tuple[str, int]:
    """Return the encoding that the first bytes tell of, and the length of its byte order mark."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark)
    # Without a mark, UTF-16 shows by the zero in every other byte of plain letters, digits and commas.
    sample = head[: min(len(head) & ~1, _SAMPLE_BYTES)]
    if len(sample) >= 4:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if odd > len(sample) // 4 and even == 0:
            return "utf-16-le", 0
        if even > len(sample) // 4 and odd == 0:
            return "utf-16-be", 0
    return "utf-8", 0


def as_utf8(pieces: Iterator[bytes], head: bytes) -> Iterator[bytes]:
    """Yield the text as UTF-8 without a byte order mark, its lines ended by newlines.

    What is not valid stays not valid, so that it is found in its line. Carriage returns alone end lines only in a
    text that begins without any newline, as old spreadsheets write it.
    """
    name, mark = encoding_of(head)
    start = start_of(head)
    returns = b"\r" in start and b"\n" not in start
    for piece in _recoded(pieces, name, mark):
        yield piece.replace(b"\r", b"\n") if returns else piece


def start_of(head: bytes) -> bytes:
    """Return the first bytes of a text as UTF-8, without its byte order mark; the last character may be missing."""
    name, mark = encoding_of(head)
    return head[mark:] if name == "utf-8" else head[mark:].decode(name, "ignore").encode()


def _recoded(pieces: Iterator[bytes], name: str, mark: int) -> Iterator[bytes]:
    decoder = None if name == "utf-8" else codecs.getincrementaldecoder(name)("surrogatepass")
    at = 0
    for piece in chain(pieces, [b""]):
        part, mark = piece[mark:], max(mark - len(piece), 0)
        try:
            # A lone surrogate becomes bytes that are no UTF-8, and its line is refused like any other that is none.
            yield part if decoder is None else decoder.decode(part, not piece).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"the text is no valid {name} behind byte {at:,}") from error
        at += len(piece)
