"""supervisord, made to outlive a full disk, and the only one of its home: HOME, then supervisord's own arguments.

supervisord's own handlers report a log that cannot be written on standard error, which goes to the same disk; that
fails too and ends it, and every process with it. Here a log drops what cannot be written, counts it, and notes the
count as soon as there is room again.

The lock is on the folder of the home itself: a lock file, or the note of a process id, can be deleted while it counts.
"""

import fcntl
import os
import sys
from pathlib import Path

from supervisor import loggers, supervisord


class DroppingLog(loggers.Handler):  # type: ignore[misc]
    """A log file of bounded size with older ones beside it (`.1`, `.2`, ...), whose writing never fails.

    max_bytes: 0 for no bound. A message is written as a whole or counted in `dropped`.
    """

    def __init__(self, path: str, max_bytes: int = 0, backups: int = 0) -> None:
        super().__init__()
        self.baseFilename = path  # the name by which supervisord asks for it
        self._path, self._max_bytes, self._backups = Path(path), max_bytes, backups
        self._descriptor: int | None = None
        self.dropped = self.dropped_bytes = 0

    def emit(self, record: loggers.LogRecord) -> None:
        """Write a record, or count it."""
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
            self.close()  # and open it again next time, should it have been moved or its disk replaced

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def reopen(self) -> None:
        """Go on in the file that has the name now."""
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
        if written < len(data):  # the disk became full in the middle
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
    """Give a logger its file, as the function of this name in supervisord does."""
    handler = DroppingLog(filename, maxbytes if rotating else 0, backups)
    handler.setFormat(fmt)
    handler.setLevel(logger.level)
    logger.addHandler(handler)


def main(arguments: list[str]) -> None:
    """Run supervisord until it ends; exit with a sentence where another one has the home."""
    home, *others = arguments
    try:
        fcntl.flock(os.open(home, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
    except BlockingIOError:
        sys.exit(f"Another supervisor is at work on {home}.")
    os.umask(0o077)  # inherited by all programs; supervisord's own setting has no effect without a daemon
    loggers.handle_file = _handle_file
    supervisord.main(others)


if __name__ == "__main__":
    main(sys.argv[1:])
