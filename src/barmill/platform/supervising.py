"""supervisord, made to survive a full disk and limited to one instance per home.

Arguments: HOME, then those of supervisord.

If a log cannot be written, supervisord's own handlers report that on standard error, which is on the same disk. That
fails too and ends supervisord with all its processes. The handler here drops what cannot be written, counts it, and
logs the count before the first message that can be written again.

The lock is on the folder of the home itself: a lock file or PID file could be deleted while it is in use.
"""

import fcntl
import os
import sys
from pathlib import Path

from supervisor import loggers, supervisord


class DroppingLog(loggers.Handler):  # type: ignore[misc]
    """A log file of bounded size with older ones next to it (`.1`, `.2`, ...). A failure to write raises no error.

    max_bytes: the size from which a new file is begun, 0 for no bound. backups: the number of older files. A message is
    written completely or counted in `dropped`.
    """

    def __init__(self, path: str, max_bytes: int = 0, backups: int = 0) -> None:
        super().__init__()
        self.baseFilename = path  # the attribute in which supervisord looks for the path
        self._path, self._max_bytes, self._backups = Path(path), max_bytes, backups
        self._descriptor: int | None = None
        self.dropped = self.dropped_bytes = 0

    def emit(self, record: loggers.LogRecord) -> None:
        """Write a record, or count it as dropped."""
        data = self._text_of(record)
        try:
            if self.dropped:
                self._append(
                    f"[{self.dropped} messages ({self.dropped_bytes} bytes) could not be written here]\n".encode()
                )
                self.dropped = self.dropped_bytes = 0
            self._append(data)
        except OSError:
            self.dropped += 1
            self.dropped_bytes += len(data)
            self.close()  # reopened for the next record, in case it was moved or its disk replaced

    def close(self) -> None:
        """Close the file. The next record opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def reopen(self) -> None:
        """Close the file, so that the next record goes to the file that has its name then."""
        self.close()

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _text_of(self, record: loggers.LogRecord) -> bytes:
        if self.fmt == "%(message)s" and isinstance(record.msg, bytes):  # output of a program
            return record.msg
        return str(self.fmt % record.asdict()).encode("utf-8", "backslashreplace")

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        if written < len(data):  # the disk became full during the write
            try:
                written += os.write(self._descriptor, data[written:])
            except OSError:
                os.ftruncate(self._descriptor, before)
                raise
        if 0 < self._max_bytes <= before + written:
            self._rotate()

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._backups + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        if not self._backups:
            self._path.unlink(missing_ok=True)


def _handle_file(
    logger: loggers.Logger, filename: str, fmt: str, rotating: bool = False, maxbytes: int = 0, backups: int = 0
) -> None:
    """Add a log file to a logger. This replaces the function `loggers.handle_file` of supervisord."""
    handler = DroppingLog(filename, maxbytes if rotating else 0, backups)
    handler.setFormat(fmt)
    handler.setLevel(logger.level)
    logger.addHandler(handler)


def main(arguments: list[str]) -> None:
    """Run supervisord until it ends. Exit with an error message if another supervisor uses the home."""
    home, *supervisord_arguments = arguments
    try:
        fcntl.flock(os.open(home, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until this process ends
    except BlockingIOError:
        sys.exit(f"Another supervisor is running for {home}; stop it first.")
    os.umask(0o077)  # inherited by all programs; supervisord's own setting only works as a daemon
    loggers.handle_file = _handle_file
    supervisord.main(supervisord_arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
