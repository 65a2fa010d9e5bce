"""The documents in a file, even inside zip archives and compressed streams, detected by content only."""

import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from barmill.ingest.files.streams import DamagedFileError, ReplayFileError, compression, decompress, inflate

HEAD_BYTES = 1 << 16
_PIECE_BYTES = 1 << 18
_ZIP_PIECE_BYTES = 1 << 14
# Deeper nesting is a mistake or an attack.
_MAX_DEPTH = 3
_LOCAL_HEADER = b"PK\x03\x04"
_DEFLATED = 8
# Formats that are recognized only to name them in the error message.
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

    label: its name for messages. packing: the containers it was in, such as ("zip", "gzip"). head: its first bytes, at
    most HEAD_BYTES. pieces: all of its bytes; raises DamagedFileError after the last good byte. share: how much of the
    file has been read, 0 to 1. plain_path: the path of the file, if it was in no container.
    """

    label: str
    packing: tuple[str, ...]
    head: bytes
    pieces: Iterator[bytes]
    share: Callable[[], float]
    plain_path: Path | None = None

    def seekable(self) -> BinaryIO:
        """Return the document as a seekable file; a temporary file if it was in a container.

        If the document is damaged, the file contains only the bytes before the damage.
        """
        if self.plain_path is not None:
            return self.plain_path.open("rb")
        return _spool(self.pieces)


def documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file one by one; raise ReplayFileError if one is in an unsupported format."""
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        size = max(path.stat().st_size, 1)
        pieces = iter(lambda: stream.read(_PIECE_BYTES), b"")
        yield from _open_packed(str(path), (), pieces, lambda: min(stream.tell() / size, 1.0), path)


def _open_packed(
    label: str, packing: tuple[str, ...], pieces: Iterator[bytes], share: Callable[[], float], plain_path: Path | None
) -> Iterator[Document]:
    head, pieces = peek(pieces, HEAD_BYTES)
    kind = "zip" if head.startswith(_LOCAL_HEADER) or head.startswith(b"PK\x05\x06") else compression(head)
    if kind is None:
        _reject_foreign(label, head)
        yield Document(label, packing, head, pieces, share, plain_path)
        return
    if len(packing) == _MAX_DEPTH:
        raise ReplayFileError(f"{label} is compressed more than {_MAX_DEPTH} times; unpack it first.")
    packing = (*packing, kind)
    if kind == "zip":
        with plain_path.open("rb") if plain_path is not None else _spool(pieces) as archive:
            yield from _archive_members(label, packing, archive, share)
    else:
        yield from _open_packed(label, packing, decompress(pieces, kind), share, None)


def _archive_members(
    label: str, packing: tuple[str, ...], archive: BinaryIO, share: Callable[[], float]
) -> Iterator[Document]:
    """Yield the members of a zip archive in natural order; without a directory, yield the first member."""
    try:
        opened = zipfile.ZipFile(archive)
    except zipfile.BadZipFile:
        yield from _open_packed(f"{label} (its first member)", packing, _first_member(archive), share, None)
        return
    with opened:
        members = sorted(
            (info for info in opened.infolist() if _is_data(info)), key=lambda info: natural_key(info.filename)
        )
        if any(info.filename == "[Content_Types].xml" for info in members):
            raise ReplayFileError(f"{label} is an Excel or Office file; save it as CSV first.")
        if not members:
            raise ReplayFileError(f"{label} is an empty archive; choose a file that contains ticks.")
        for number, member in enumerate(members):
            name = label if len(members) == 1 else f"{label}/{member.filename}"

            def share_read(number: int = number) -> float:
                return (number + 1) / len(members)

            yield from _open_packed(name, packing, _member(opened, member, name), share_read, None)


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str) -> Iterator[bytes]:
    if member.flag_bits & 0x1:
        raise ReplayFileError(f"{label} is encrypted; first unpack it with its password.")
    position = 0
    try:
        with archive.open(member) as stream:
            while piece := stream.read(_ZIP_PIECE_BYTES):
                position += len(piece)
                yield piece
    except NotImplementedError as error:
        raise ReplayFileError(f"{label} is compressed by an unsupported method ({error}); unpack it first.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DamagedFileError(f"{member.filename} is damaged after byte {position:,} ({error})") from error


def _first_member(archive: BinaryIO) -> Iterator[bytes]:
    """Yield the first member of an archive whose directory (at its end) is missing; then raise DamagedFileError."""
    archive.seek(0)
    header = archive.read(30)
    if len(header) == 30 and int.from_bytes(header[8:10], "little") == _DEFLATED and not header[6] & 0x1:
        archive.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        yield from inflate(iter(lambda: archive.read(_PIECE_BYTES), b""))
    raise DamagedFileError("the zip archive has no directory at its end, so only its first member was read")


def _is_data(member: zipfile.ZipInfo) -> bool:
    """Return whether this is a data file, not a directory or a hidden file that a desktop system added."""
    name = member.filename
    return not (member.is_dir() or name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith("."))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that sorts part-2 before part-10."""
    return [(int(text), "") if text.isdecimal() else (-1, text) for text in re.split(r"(\d+)", name)]


def peek(pieces: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first `size` bytes (or fewer) and an iterator over all pieces; damage is raised by the iterator."""
    read_pieces, length, damage = list[bytes](), 0, list[DamagedFileError]()
    try:
        while length < size and (piece := next(pieces, None)) is not None:
            read_pieces.append(piece)
            length += len(piece)
    except DamagedFileError as error:
        damage.append(error)

    def replay() -> Iterator[bytes]:
        yield from read_pieces
        if damage:
            raise damage[0]
        yield from pieces

    return b"".join(read_pieces)[:size], replay()


def _spool(pieces: Iterator[bytes]) -> BinaryIO:
    """Write the pieces to a temporary file that is deleted when closed."""
    spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # the reader closes it
    try:
        for piece in pieces:
            spool.write(piece)
    except DamagedFileError:
        pass  # the reader of the file detects what is missing and reports which part
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool  # type: ignore[return-value]  # a file opened in binary mode


def _reject_foreign(label: str, head: bytes) -> None:
    format_name = next((text for magic, text in _FOREIGN.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        format_name = "a tar archive"
    if format_name is not None:
        raise ReplayFileError(
            f"{label} is {format_name}, which is not supported; convert it to CSV, JSON Lines, Parquet or Arrow first."
        )
