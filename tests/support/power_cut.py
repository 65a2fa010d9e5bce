"""Power cuts: SQLite's file operations are recorded, and files are made as a cut could have left them.

A disk may lose, in any combination, the pages that were written since the last sync of their file; what was synced
stays. The recorder is a VFS of SQLite that hands every call to the usual one.
"""

import _sqlite3
import ctypes
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PAGE = 4096
_OK = 0
_POINTER, _INT, _INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64

# Names are passed on as pointers, because SQLite keeps them.
_OPEN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, ctypes.POINTER(_INT))
_DELETE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT)
_WRITE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _INT64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _POINTER, _INT64)
_SYNC = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", _INT),
        ("file_size", _INT),
        ("max_path", _INT),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("app_data", _POINTER),
        ("open", _POINTER),
        ("delete", _POINTER),
        ("others", _POINTER * 14),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", _INT),
        ("close", _POINTER),
        ("read", _POINTER),
        ("write", _POINTER),
        ("truncate", _POINTER),
        ("sync", _POINTER),
        ("others", _POINTER * 13),
    ]


@dataclass
class _Change:
    """One write (data), truncation to `at` (neither) or sync of a file."""

    path: str
    at: int = 0
    data: bytes | None = None
    synced: bool = False


@dataclass
class Recorder:
    """What was done to the files that were opened since the recording began."""

    changes: list[_Change] = field(default_factory=list)

    @property
    def now(self) -> int:
        """Return the present moment, to be given to `image`."""
        return len(self.changes)

    def image(self, path: Path, moment: int, into: Path, chance: random.Random) -> None:
        """Write into a folder the database at `path` and its WAL as a power cut at that moment could leave them."""
        for suffix in ("", "-wal"):
            content = self._content(f"{path}{suffix}", moment, chance)
            if content is not None:
                (into / f"{path.name}{suffix}").write_bytes(content)

    def _content(self, path: str, moment: int, chance: random.Random) -> bytes | None:
        mine = [change for change in self.changes[:moment] if change.path == path]
        if not mine:
            return None
        safe = max((place for place, change in enumerate(mine) if change.synced), default=-1)
        content = bytearray()
        for place, change in enumerate(mine):
            if change.synced:
                continue
            if change.data is None:
                if place < safe or chance.random() < 0.5:
                    del content[change.at :]
                continue
            for begin in range(0, len(change.data), _PAGE):
                if place < safe or chance.random() < 0.5:
                    _put(content, change.at + begin, change.data[begin : begin + _PAGE])
        return bytes(content)


def _put(content: bytearray, at: int, data: bytes) -> None:
    content.extend(bytes(max(0, at + len(data) - len(content))))
    content[at : at + len(data)] = data


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Record what SQLite does to the files that are opened in the block."""
    # The SQLite that Python itself uses, wherever it is linked.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    usual = library.sqlite3_vfs_find(None)
    recorder, kept, paths = Recorder(), list[object](), dict[int, str]()
    usual_open, usual_delete = _OPEN(usual.contents.open), _DELETE(usual.contents.delete)

    def open_file(vfs: int, name: int | None, file: int, flags: int, out: object) -> int:
        result = int(usual_open(vfs, name, file, flags, out))
        methods = _POINTER.from_address(file)
        if result == _OK and methods.value and name:
            paths[file] = ctypes.string_at(name).decode()
            ours = _recording(_Methods.from_address(methods.value), recorder, paths)
            kept.append(ours)
            methods.value = ctypes.addressof(ours[0])
        return result

    def delete(vfs: int, name: int, sync: int) -> int:
        path = ctypes.string_at(name).decode()
        recorder.changes += [_Change(path), _Change(path, synced=True)]
        return int(usual_delete(vfs, name, sync))

    ours = _Vfs.from_buffer_copy(usual.contents)
    callbacks = _OPEN(open_file), _DELETE(delete)
    ours.name = b"recording"
    ours.open, ours.delete = (ctypes.cast(callback, _POINTER).value for callback in callbacks)
    library.sqlite3_vfs_register(ctypes.byref(ours), 1)
    try:
        yield recorder
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(ours))
        library.sqlite3_vfs_register(usual, 1)


def _recording(usual: _Methods, recorder: Recorder, paths: dict[int, str]) -> tuple[_Methods, object]:
    """Return methods that record, and what must be kept in memory as long as they are used."""
    write, truncate, sync = _WRITE(usual.write), _TRUNCATE(usual.truncate), _SYNC(usual.sync)

    def on_write(file: int, data: int, size: int, at: int) -> int:
        recorder.changes.append(_Change(paths[file], at, ctypes.string_at(data, size)))
        return int(write(file, data, size, at))

    def on_truncate(file: int, size: int) -> int:
        recorder.changes.append(_Change(paths[file], size))
        return int(truncate(file, size))

    def on_sync(file: int, flags: int) -> int:
        result = int(sync(file, flags))
        recorder.changes.append(_Change(paths[file], synced=True))
        return result

    ours = _Methods.from_buffer_copy(usual)
    callbacks = _WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync)
    ours.write, ours.truncate, ours.sync = (ctypes.cast(callback, _POINTER).value for callback in callbacks)
    return ours, callbacks
