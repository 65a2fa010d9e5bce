"""The parts of operating_system.py that differ between systems; test_process_table.py covers processes."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from barmill.platform.operating_system import LinuxProcesses, PortableProcesses, sync
from barmill.platform.sqlite_file import open_for_writing

FULL_SYNC = 51  # F_FULLFSYNC of macOS


class Calls:
    """Records which of the two calls wrote to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuse: bool) -> None:
        self.names: list[str] = []
        self._refuse = refuse
        monkeypatch.setattr(os, "fsync", lambda _descriptor: self.names.append("fsync"))
        monkeypatch.setattr(fcntl, "fcntl", self._fcntl)

    def _fcntl(self, _descriptor: int, command: int) -> None:
        assert command == FULL_SYNC
        self.names.append("full")
        if self._refuse:
            raise OSError(errno.ENOTSUP, "not supported")


@pytest.mark.parametrize(
    ("offered", "refuse", "names"),
    [(False, False, ["fsync"]), (True, False, ["full"]), (True, True, ["full", "fsync"])],
    ids=["Linux", "macOS", "macOS, network disk"],
)
def test_a_sync_empties_the_cache_of_the_disk_where_fsync_does_not(
    monkeypatch: pytest.MonkeyPatch, offered: bool, refuse: bool, names: list[str]
) -> None:
    if offered:
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL_SYNC, raising=False)
    calls = Calls(monkeypatch, refuse=refuse)
    sync(0)
    assert calls.names == names


@pytest.mark.parametrize("durable", [True, False])
def test_durable_stores_empty_the_cache_of_the_disk(tmp_path: Path, durable: bool) -> None:
    connection = open_for_writing(tmp_path / "store.sqlite", durable=durable).conn
    assert connection.execute("PRAGMA fullfsync").fetchone() == (int(durable),)
    connection.close()


def test_both_sources_agree_about_this_process() -> None:
    linux, portable = LinuxProcesses().sample(os.getpid()), PortableProcesses().sample(os.getpid())
    assert linux
    assert portable
    assert (portable.parent, portable.ended) == (linux.parent, linux.ended) == (os.getppid(), False)
    assert set(PortableProcesses().samples()) >= {os.getpid(), os.getppid()}
