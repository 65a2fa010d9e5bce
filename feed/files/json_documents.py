"""JSON arrays of any size as JSON Lines: one line for each element, in bounded memory."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from feed.files.containers import Document, peeked
from feed.files.errors import DamagedFileError
from feed.files.lines import MAX_LINE_BYTES, CutLine, Lines, gathered
from feed.files.texts import as_utf8, start_of

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]')


def json_kind(document: Document) -> Literal["lines", "array"] | None:
    """Tell whether a document is JSON, and of which kind, by its first bytes; None where it is not."""
    start = start_of(document.head).lstrip()
    if start.startswith(b"{"):
        return "lines"
    if not re.match(rb'\[\s*(?:[\[{\]"\d-]|$)', start):
        return None
    first, newline, rest = start.partition(b"\n")
    # A whole list in the first line is a row where others follow, or else a document of one line.
    return "lines" if newline and rest.strip() and _is_json(first) else "array"


def one_line(document: Document) -> tuple[Lines | None, Document]:
    """Return a JSON object that is laid out over several lines as one line, or None; and the document, unread."""
    head, pieces = peeked(document.pieces, MAX_LINE_BYTES + 1)
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


def array_lines(document: Document) -> Iterator[Lines | CutLine]:
    """Yield the elements of a JSON array as lines; the number of a line is that of the element, from 1.

    An element that is no JSON is a CutLine, and so is what follows the end of the array.
    """
    splitter = _Splitter(document.share)
    try:
        for piece in gathered(as_utf8(document.pieces, document.head)):
            # A character cut in two comes together again where the text is made bytes.
            yield from splitter.take(piece.decode("utf-8", "surrogateescape"))
    except DamagedFileError as error:
        yield CutLine(_bytes(splitter.rest), splitter.done + 1, str(error), damage=True)
        return
    yield from splitter.take("", final=True)


class _Splitter:
    """Takes a JSON array apart as it comes. done: how many elements were found; rest: the text not taken yet."""

    def __init__(self, share: Callable[[], float]) -> None:
        self.done, self.rest = 0, ""
        self._share = share
        self._opened = self._ended = False
        self._decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)

    def take(self, text: str, final: bool = False) -> Iterator[Lines | CutLine]:
        """Yield what is complete with this text; final: nothing more will come."""
        text, at, found = self.rest + text, 0, list[str]()
        while True:
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches also where no space is
            if at == len(text):
                break
            if self._ended:
                yield from self._lines(found)
                yield self._cut(text[at:], "text behind the end of the JSON array")
                found, at = [], len(text)
            elif not self._opened or text[at] in ",]":
                self._ended = self._opened and text[at] == "]"
                self._opened = True
                at += 1
            else:
                try:
                    _, end = self._decoder.raw_decode(text, at)
                except (ValueError, RecursionError) as error:
                    # It may only be incomplete as yet.
                    if not final and len(text) - at <= MAX_LINE_BYTES:
                        break
                    yield from self._lines(found)
                    found, end = [], _end_of_damaged(text, at)
                    # What is behind the last element of a whole array is its bracket.
                    cut_off = final and not text[end:].strip()
                    self._ended = cut_off
                    yield self._cut(text[at:end], f"not JSON ({error})", damage=cut_off)
                else:
                    if end == len(text) and not final:
                        break
                    found.append(text[at:end].replace("\n", " ").replace("\r", " "))
                at = end
        yield from self._lines(found)
        self.rest = text[at:]
        if final and self._opened and not self._ended:
            yield self._cut("", "the JSON array does not end", damage=True)

    def _lines(self, found: list[str]) -> Iterator[Lines]:
        if found:
            self.done += len(found)
            data = _bytes("\n".join(found) + "\n")
            yield Lines(data, self.done - len(found) + 1, self._share())

    def _cut(self, text: str, problem: str, damage: bool = False) -> CutLine:
        self.done += 1
        return CutLine(_bytes(text), self.done, problem, damage)


def _end_of_damaged(text: str, at: int) -> int:
    """Return where an element that is no JSON ends: where its brackets do, or else at the next comma or bracket."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        depth += (token[0] in "{[") - (token[0] in "}]")
        if depth == 0 and token[0] in "}]":
            return token.end()
        if depth < 0 or (depth == 0 and token[0] == ","):
            return max(token.start(), at + 1)
    return len(text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
