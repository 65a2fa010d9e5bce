"""What a path holds, by its content and never by its name: documents, out of zip archives and compressed streams."""

import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from feed.files.errors import DamagedFileError, ReplayFileError
from feed.files.streams import compression, decompressed, inflated

HEAD_BYTES = 1 << 16
_PIECE_BYTES = 1 << 18
_ZIP_PIECE_BYTES = 1 << 14
# A stream in a stream in a stream is a mistake, or an attack.
_MAX_DEPTH = 3
_LOCAL_HEADER = b"PK\x03\x04"
_DEFLATED = 8
# Formats that are recognized in order to say what they are.
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x04\x22\x4d\x18": "lz4 data",
    b"\xff\x06\x00\x00sNaPpY": "snappy data",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"FEA1": "a Feather file of version 1",
    b"PARE": "an encrypted Parquet file",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel or Office file",
    b"\x80\x04\x95": "a Python pickle",
    b"\x80\x05\x95": "a Python pickle",
}


@dataclass(frozen=True)
class Document:
    """One file, or one member of an archive, with all compression removed.

    shown: its name for messages. packing: the containers it was in, such as ("zip", "gzip"). head: its first bytes;
    pieces: all of its bytes, which raise DamagedFileError behind the last good one. share: how much of the file has
    been read, 0 to 1. plain: the file itself, where it was in no container.
    """

    shown: str
    packing: tuple[str, ...]
    head: bytes
    pieces: Iterator[bytes]
    share: Callable[[], float]
    plain: Path | None = None

    def seekable(self) -> BinaryIO:
        """Return the document as a file that can be read from any place; a temporary one if it was in a container.

        What came before damage is all that is in it.
        """
        if self.plain is not None:
            return self.plain.open("rb")
        return _spooled(self.pieces)


def documents(path: Path) -> Iterator[Document]:
    """Yield what the file holds, one document after the other; raise ReplayFileError where nothing can read it."""
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        size = max(path.stat().st_size, 1)
        pieces = iter(lambda: stream.read(_PIECE_BYTES), b"")
        yield from _opened(str(path), (), pieces, lambda: min(stream.tell() / size, 1.0), path)


def _opened(
    shown: str, packing: tuple[str, ...], pieces: Iterator[bytes], share: Callable[[], float], plain: Path | None
) -> Iterator[Document]:
    head, pieces = peeked(pieces, HEAD_BYTES)
    kind = "zip" if head.startswith(_LOCAL_HEADER) or head.startswith(b"PK\x05\x06") else compression(head)
    if kind is None:
        _refuse_foreign(shown, head)
        yield Document(shown, packing, head, pieces, share, plain)
        return
    if len(packing) == _MAX_DEPTH:
        raise ReplayFileError(f"{shown} is packed more than {_MAX_DEPTH} times; unpack it first.")
    packing = (*packing, kind)
    if kind == "zip":
        with plain.open("rb") if plain is not None else _spooled(pieces) as archive:
            yield from _archived(shown, packing, archive, share)
    else:
        yield from _opened(shown, packing, decompressed(pieces, kind), share, None)


def _archived(
    shown: str, packing: tuple[str, ...], archive: BinaryIO, share: Callable[[], float]
) -> Iterator[Document]:
    """Yield the members of a zip archive in natural order; of one without its directory, the first member."""
    try:
        opened = zipfile.ZipFile(archive)
    except zipfile.BadZipFile:
        yield from _opened(f"{shown} (its first member)", packing, _first_member(archive), share, None)
        return
    with opened:
        members = sorted((one for one in opened.infolist() if _is_data(one)), key=lambda one: natural(one.filename))
        if any(one.filename == "[Content_Types].xml" for one in members):
            raise ReplayFileError(f"{shown} is an Excel or Office file; save it as CSV first.")
        if not members:
            raise ReplayFileError(f"{shown} is an empty archive; name a file that holds ticks.")
        for number, member in enumerate(members):
            name = shown if len(members) == 1 else f"{shown}/{member.filename}"

            def part(number: int = number) -> float:
                return (number + 1) / len(members)

            yield from _opened(name, packing, _member(opened, member, name), part, None)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> Iterator[bytes]:
    if member.flag_bits & 0x1:
        raise ReplayFileError(f"{shown} is encrypted; unpack it with its password first.")
    at = 0
    try:
        with archive.open(member) as stream:
            while piece := stream.read(_ZIP_PIECE_BYTES):
                at += len(piece)
                yield piece
    except NotImplementedError as error:
        raise ReplayFileError(
            f"{shown} is packed by a method that cannot be read ({error}); unpack it first."
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DamagedFileError(f"{member.filename} is damaged behind its byte {at:,} ({error})") from error


def _first_member(archive: BinaryIO) -> Iterator[bytes]:
    """Yield the first member of an archive whose directory (at its end) is missing."""
    archive.seek(0)
    header = archive.read(30)
    if len(header) == 30 and int.from_bytes(header[8:10], "little") == _DEFLATED and not header[6] & 0x1:
        archive.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        yield from inflated(iter(lambda: archive.read(_PIECE_BYTES), b""))
    raise DamagedFileError("the zip archive has no directory at its end, so only its first member is known")


def _is_data(member: zipfile.ZipInfo) -> bool:
    """Tell whether this is a file, and none of those that desktops leave in archives."""
    name = member.filename
    return not (member.is_dir() or name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith("."))


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which part-2 comes before part-10."""
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in re.split(r"(\d+)", name)]


def peeked(pieces: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, `size` or fewer, and the pieces as they were; damage shows when the pieces are read."""
    taken, length, damage = list[bytes](), 0, list[DamagedFileError]()
    try:
        while length < size and (piece := next(pieces, None)) is not None:
            taken.append(piece)
            length += len(piece)
    except DamagedFileError as error:
        damage.append(error)

    def again() -> Iterator[bytes]:
        yield from taken
        if damage:
            raise damage[0]
        yield from pieces

    return b"".join(taken)[:size], again()


def _spooled(pieces: Iterator[bytes]) -> BinaryIO:
    """Write the pieces to a temporary file that goes when it is closed."""
    spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # the reader closes it
    try:
        for piece in pieces:
            spool.write(piece)
    except DamagedFileError:
        pass  # the reader of the file finds what is missing, and says which part
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool  # type: ignore[return-value]  # a file opened for bytes


def _refuse_foreign(shown: str, head: bytes) -> None:
    what = next((text for magic, text in _FOREIGN.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        what = "a tar archive"
    if what is not None:
        raise ReplayFileError(
            f"{shown} is {what}, which cannot be read; convert it to CSV, JSON Lines, Parquet or Arrow first."
        )
