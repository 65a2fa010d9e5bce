"""JSON arrays of any size as JSON Lines: one line per element, in bounded memory."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from barmill.ingest.files.containers import Document, peek
from barmill.ingest.files.lines import MAX_LINE_BYTES, Lines, TruncatedLine, as_utf8, join_pieces, start_of
from barmill.ingest.files.streams import DamagedFileError

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]')


def json_kind(document: Document) -> Literal["lines", "array"] | None:
    """Return the kind of JSON by the document's first bytes, or None for any other format."""
    start = start_of(document.head).lstrip()
    if start.startswith(b"{"):
        return "lines"
    if not re.match(rb'\[\s*(?:[\[{\]"\d-]|$)', start):
        return None
    first, newline, rest = start.partition(b"\n")
    # A complete list in the first line is a row if other lines follow, otherwise the whole document.
    return "lines" if newline and rest.strip() and _is_json(first) else "array"


def as_one_line(document: Document) -> tuple[Lines | None, Document]:
    """Return a JSON object spread over several lines as one line, or None; and the document, unread."""
    head, pieces = peek(document.pieces, MAX_LINE_BYTES + 1)
    document = replace(document, pieces=pieces)
    text = start_of(head)
    first, _, rest = text.lstrip().partition(b"\n")
    if len(head) > MAX_LINE_BYTES or not rest.strip() or _is_json(first) or not _is_json(text):
        return None, document
    return Lines(text.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n", 1), document


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def array_lines(document: Document) -> Iterator[Lines | TruncatedLine]:
    """Yield the elements of a JSON array as lines; a line's number is that of the element, from 1.

    An element that is not JSON becomes a TruncatedLine, as do damage, a missing end of the array and text after its
    end.
    """
    splitter = _Splitter(document.share)
    try:
        for piece in join_pieces(as_utf8(document.pieces, document.head)):
            # A character split between two pieces is restored when the text is encoded to bytes.
            yield from splitter.take(piece.decode("utf-8", "surrogateescape"))
    except DamagedFileError as error:
        yield TruncatedLine(_encode(splitter.rest), splitter.done + 1, str(error), damage=True)
        return
    yield from splitter.take("", final=True)


class _Splitter:
    """An incremental splitter of a JSON array. done: number of elements found; rest: the text not consumed yet."""

    def __init__(self, share: Callable[[], float]) -> None:
        self.done, self.rest = 0, ""
        self._share = share
        self._opened = self._ended = False
        self._decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)

    def take(self, text: str, final: bool = False) -> Iterator[Lines | TruncatedLine]:
        """Yield the elements that this text completes; final: no more text follows."""
        text, position, records = self.rest + text, 0, list[str]()
        while True:
            position = _SPACE.match(text, position).end()  # type: ignore[union-attr]  # the pattern also matches no space
            if position == len(text):
                break
            if self._ended:
                yield from self._lines(records)
                yield self._truncated_line(text[position:], "text after the end of the JSON array")
                records, position = [], len(text)
            elif not self._opened or text[position] in ",]":
                self._ended = self._opened and text[position] == "]"
                self._opened = True
                position += 1
            else:
                try:
                    _, end = self._decoder.raw_decode(text, position)
                except (ValueError, RecursionError) as error:
                    # The element may only be incomplete so far.
                    if not final and len(text) - position <= MAX_LINE_BYTES:
                        break
                    yield from self._lines(records)
                    records, end = [], _end_of_damaged(text, position)
                    # In a complete array, at least the closing bracket follows each element.
                    is_truncated = final and not text[end:].strip()
                    self._ended = is_truncated
                    yield self._truncated_line(text[position:end], f"not JSON ({error})", damage=is_truncated)
                else:
                    if end == len(text) and not final:
                        break
                    records.append(text[position:end].replace("\n", " ").replace("\r", " "))
                position = end
        yield from self._lines(records)
        self.rest = text[position:]
        if final and self._opened and not self._ended:
            yield self._truncated_line("", "the JSON array has no end", damage=True)

    def _lines(self, records: list[str]) -> Iterator[Lines]:
        if records:
            self.done += len(records)
            data = _encode("\n".join(records) + "\n")
            yield Lines(data, self.done - len(records) + 1, self._share())

    def _truncated_line(self, text: str, problem: str, damage: bool = False) -> TruncatedLine:
        self.done += 1
        return TruncatedLine(_encode(text), self.done, problem, damage)


def _end_of_damaged(text: str, position: int) -> int:
    """Return the end of an invalid element: its closing bracket, or else the next comma or bracket."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        depth += (token[0] in "{[") - (token[0] in "}]")
        if depth == 0 and token[0] in "}]":
            return token.end()
        if depth < 0 or (depth == 0 and token[0] == ","):
            return max(token.start(), position + 1)
    return len(text)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
