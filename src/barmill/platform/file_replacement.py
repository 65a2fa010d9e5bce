"""Replacing a file as a whole: readers see the earlier content or the new content, never a part of it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from barmill.platform.operating_system import sync

PRIVATE_MODE = 0o600
_DEFAULT_MODE = 0o666


@contextmanager
def replacing(path: Path, *, mode: int = _DEFAULT_MODE, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a new file in the same folder that replaces `path` after the block; if the block fails, `path` is unchanged.

    mode: the permissions of the file, limited by the umask. durable: the content is on the disk before the rename.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            if durable:
                file.flush()
                sync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes, *, mode: int = _DEFAULT_MODE, durable: bool = False) -> None:
    """Replace the content of a file, with text in UTF-8; see `replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(path: Path) -> None:
    """Write the names in a folder to the disk, so that created and renamed files survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
