"""Make or mend the Python environment: called by ./barmill with the system's Python, so only the standard library.

The environment is complete when it holds a copy of its lock file, written last. Without that copy an earlier set-up
was cut off, and the environment is made anew; with an older copy it is brought up to date.
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# The environment itself, and the packages on their way into it.
NEEDED_BYTES = 2_500_000_000
_LINES_KEPT = 400  # of what pip says, to find the cause in
BUILD_LOCK = "requirements-build.lock"
LOCKS = ("requirements.lock", "requirements-test.lock")
_PINNED = re.compile(r"^[A-Za-z0-9._-]+==[^ ]+( ; (?P<marker>.*?))? \\$", re.MULTILINE)
# Settings that would send the packages elsewhere.
_MISLEADING = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


class SetupError(Exception):
    """The environment could not be made; one sentence with the way out."""


# What pip says, and what that means; the first that fits counts.
CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full; free about 3 GB or set BARMILL_VENV to a folder"
     " on another disk"),
    (r"DO NOT MATCH THE HASHES", "a downloaded package is not the one the lock file names, so it was not installed;"
     " try again, and if it stays so, ask who runs your package index"),
    (r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|Temporary failure in name resolution"
     r"|Network is unreachable|ProxyError|ConnectionResetError|SSLError|ProtocolError",
     "the package index cannot be reached; check the network and its proxy, then try again"),
    (r"not enough bytes were received", "a download was cut off; check the network and the free space on the disk,"
     " then try again"),
    (r"No matching distribution found for (?P<what>\S+)", "the package index has no {what} for this machine; Barmill"
     " runs on Linux on x86-64 with Python 3.11 or 3.12"),
    (r"Permission denied|Read-only file system", "writing is not allowed there; set BARMILL_VENV to a folder of"
     " your own"),
)  # fmt: skip


class Setup:
    """One set-up of one environment."""

    def __init__(self, root: Path, venv: Path, lock: str) -> None:
        self._root, self._venv, self._lock = root, venv, lock
        self._log = venv.with_name(venv.name + ".log")
        self._progress = Progress()

    def run(self) -> None:
        """Bring the environment to what the lock file says."""
        try:
            self._venv.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                if not self._complete():
                    self._make()
        except OSError as error:
            raise SetupError(self._explain(f"{error.strerror}: {error.filename}")) from error

    def _make(self) -> None:
        started = time.monotonic()
        self._log.write_text("")
        fresh = not self._usable()
        if fresh:
            self._check_space()
            self._progress.say(f"Setting Barmill up in {self._venv}; this takes a minute or two, once.")
            shutil.rmtree(self._venv, ignore_errors=True)
            self._progress.say("  Python environment")
            self._call([sys.executable, "-I", "-m", "venv", str(self._venv)])
        else:
            self._progress.say(f"Bringing the packages in {self._venv} up to date.")
        # From here on it counts as unfinished.
        for name in (self._lock, *LOCKS):
            (self._venv / name).unlink(missing_ok=True)
        temporary = self._venv / "tmp"
        temporary.mkdir(exist_ok=True)
        self._progress.say("  tools to install with")
        self._pip(["-r", str(self._root / BUILD_LOCK)])
        self._pip(["--no-build-isolation", "-r", str(self._root / self._lock)], self._show)
        self._progress.clear()
        self._check_library()
        shutil.rmtree(temporary, ignore_errors=True)
        self._stamp()
        self._progress.say(f"Ready after {time.monotonic() - started:.0f} s.")

    def _complete(self) -> bool:
        stamp = self._venv / self._lock
        return stamp.is_file() and stamp.read_bytes() == (self._root / self._lock).read_bytes() and self._usable()

    def _usable(self) -> bool:
        """Tell whether an earlier set-up was finished and its Python still runs."""
        python = self._venv / "bin" / "python"
        if not any((self._venv / name).is_file() for name in LOCKS) or not python.exists():
            return False
        return subprocess.run([python, "-I", "-c", "import pip"], capture_output=True, check=False).returncode == 0

    def _stamp(self) -> None:
        # The packages of the tests come on top of all others, so with them both are complete.
        for name in LOCKS if self._lock == LOCKS[1] else (self._lock,):
            beside = self._venv / f"{name}.new"
            shutil.copyfile(self._root / name, beside)
            beside.replace(self._venv / name)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._venv.parent).free
        if free < NEEDED_BYTES:
            raise SetupError(
                f"The set-up needs {NEEDED_BYTES / 1e9:.1f} GB, and the disk of {self._venv.parent} has"
                f" {free / 1e9:.1f} GB left; free some space or set BARMILL_VENV to a folder on another disk."
            )

    def _check_library(self) -> None:
        """Refuse a Python that cannot run inside the Java process of the TaskManager."""
        call = [str(self._venv / "bin" / "python"), "-I", "-m", "find_libpython"]
        if not subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip():
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise SetupError(
                f"{sys.executable} has no shared library; install it (Debian, Ubuntu: apt install libpython{version})"
                " or name another Python with BARMILL_PYTHON, then try again."
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other set-up of this environment is at work; the kernel frees the lock of one that died."""
        with self._venv.with_name(self._venv.name + ".lock").open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress.say("Another ./barmill is setting up; waiting for it.")
                fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _pip(self, arguments: Sequence[str], show: Callable[[str], None] | None = None) -> None:
        python = str(self._venv / "bin" / "python")
        options = ["--require-hashes", "--no-deps", "--no-compile", "--no-input", "--disable-pip-version-check"]
        self._call([python, "-I", "-m", "pip", "install", "--no-color", *options, *arguments], show)

    def _call(self, command: Sequence[str], show: Callable[[str], None] | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
        environment |= {"PYTHONUNBUFFERED": "1"}
        if (temporary := self._venv / "tmp").is_dir():
            environment |= {"TMPDIR": str(temporary)}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        said = deque[str](maxlen=_LINES_KEPT)
        with self._log.open("a") as log:
            child = subprocess.Popen(command, env=environment, text=True, errors="replace", **pipes)  # type: ignore[call-overload]
            try:
                for line in child.stdout:
                    said.append(line)
                    log.write(line)
                    if show is not None:
                        show(line)
            finally:
                if child.poll() is None:
                    child.terminate()
                code = child.wait()
        if code != 0:
            raise SetupError(self._explain("".join(said)))

    def _show(self, line: str) -> None:
        """Say how far pip is: n of m packages fetched, then m being unpacked."""
        total = count_packages((self._root / self._lock).read_text())
        if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
            self._progress.step("packages fetched", total)
        elif line.startswith("Installing collected packages"):
            self._progress.say("  unpacking them")

    def _explain(self, said: str) -> str:
        for pattern, meaning in CAUSES:
            if found := re.search(pattern, said):
                story = f" The whole story is in {self._log}." if os.access(self._log, os.R_OK) else ""
                return f"The set-up stopped: {meaning.format(**found.groupdict())}.{story}"
        return f"The set-up stopped; the reason stands at the end of {self._log}. Mend it and try again."


class Progress:
    """Says on stderr how far the set-up is: one line that is redrawn on a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._redraws = sys.stderr.isatty()
        self._done = 0

    def say(self, text: str) -> None:
        """Write one line."""
        self.clear()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def step(self, what: str, total: int) -> None:
        """Count one more of `total`."""
        self._done = min(self._done + 1, total)
        text = f"  {self._done} of {total} {what} ({self._done * 100 // max(total, 1)} %)"
        if self._redraws:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
        elif self._done % 10 == 0 or self._done == total:
            self.say(text)

    def clear(self) -> None:
        """Take a line that is being redrawn away."""
        if self._redraws:
            sys.stderr.write("\r\x1b[2K")


def count_packages(lock: str) -> int:
    """Return how many packages of a lock file are for this machine, closely enough for a progress bar."""
    return sum("win32'" not in (found["marker"] or "") or "!=" in found["marker"] for found in _PINNED.finditer(lock))


def main() -> int:
    """Read the command line of ./barmill and return the exit code."""
    parser = argparse.ArgumentParser(description="Make Barmill's Python environment.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--lock", choices=LOCKS, required=True)
    given = parser.parse_args()
    try:
        Setup(given.root, given.venv.absolute(), given.lock).run()
    except SetupError as error:
        sys.stderr.write(f"barmill: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nbarmill: The set-up was interrupted; the next call starts it again.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
