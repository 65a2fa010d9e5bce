"""The setup of the Python environment. ./barmill runs it with the system's Python, without other packages.

The environment is complete when it contains a copy of its lock file, which is written last, and its Python runs. With
an older copy, or a copy of the other lock file, it is updated. Without any copy, an earlier setup was interrupted, and
the environment is created again.
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

# The space for the environment, and for the downloaded packages.
NEEDED_BYTES = 2_500_000_000
# Packages' tests and the exchanges of ccxt are large and rarely used, so they are compiled when they are first used.
_NOT_COMPILED = r"/site-packages/(.*/)?(tests?|ccxt)/"
_MAX_LINES = 400  # the newest lines of output, which are searched for the cause of a failure
BUILD_LOCK = "requirements-build.lock"
LOCKS = ("requirements.lock", "requirements-test.lock")
_PINNED = re.compile(r"^[A-Za-z0-9._-]+==[^ ]+( ; (?P<marker>.*?))? \\$", re.MULTILINE)
# Settings that would redirect the installation.
_HARMFUL_VARIABLES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


class SetupError(Exception):
    """The environment could not be created; the message says why and what to do."""


# Patterns in pip's output and their meaning; the first match counts.
CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full; free about 3 GB or set BARMILL_VENV to a folder"
     " on another disk"),
    (r"DO NOT MATCH THE HASHES", "a downloaded package does not match the lock file, so it was not installed;"
     " try again; if it fails again, ask the operator of your package index"),
    (r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|Temporary failure in name resolution"
     r"|Network is unreachable|ProxyError|ConnectionResetError|SSLError|ProtocolError",
     "the package index cannot be reached; check the network and its proxy, then try again"),
    (r"not enough bytes were received", "a download was incomplete; check the network and the free space on the disk,"
     " then try again"),
    (r"No matching distribution found for (?P<what>\S+)", "the package index has no {what} for this machine; Barmill"
     " runs on Linux on x86-64 and on macOS 14 or later on Apple silicon, with Python 3.11 or 3.12"),
    (r"Permission denied|Read-only file system", "writing is not permitted there; set BARMILL_VENV to a folder that"
     " you can write to"),
)  # fmt: skip


class Setup:
    """The setup of one environment."""

    def __init__(self, root: Path, venv: Path, lock: str) -> None:
        self._root, self._venv, self._lock = root, venv, lock
        self._log = venv.with_name(venv.name + ".log")
        self._progress = Progress()

    def run(self) -> None:
        """Create or update the environment, so that it matches the lock file."""
        try:
            self._venv.parent.mkdir(parents=True, exist_ok=True)
            with self._exclusive():
                if not self._is_complete():
                    self._create()
        except OSError as error:
            raise SetupError(self._explain(f"{error.strerror}: {error.filename}")) from error

    def _create(self) -> None:
        started = time.monotonic()
        self._log.write_text("")
        is_new = not self._is_usable()
        if is_new:
            self._check_space()
            self._progress.say(f"Setting up Barmill in {self._venv}; the first time takes a minute or two.")
            shutil.rmtree(self._venv, ignore_errors=True)
            self._progress.say("  Python environment")
            self._call([sys.executable, "-I", "-m", "venv", str(self._venv)])
        else:
            self._progress.say(f"Updating the packages in {self._venv}.")
        # From here on, the environment counts as incomplete.
        for name in (self._lock, *LOCKS):
            (self._venv / name).unlink(missing_ok=True)
        temporary = self._venv / "tmp"
        temporary.mkdir(exist_ok=True)
        self._progress.say("  installation tools")
        self._pip(["-r", str(self._root / BUILD_LOCK)])
        self._pip(["--no-build-isolation", "-r", str(self._root / self._lock)], self._show_pip_progress)
        self._progress.clear()
        self._check_library()
        self._compile()
        shutil.rmtree(temporary, ignore_errors=True)
        self._mark_complete()
        self._progress.say(f"Ready after {time.monotonic() - started:.0f} s.")

    def _compile(self) -> None:
        """Compile the packages; otherwise all processes of the first start would do so at the same time."""
        self._progress.say("  compiling packages")
        packages = next((self._venv / "lib").glob("python*")) / "site-packages"
        options = ["-q", "-j", "0", "-x", _NOT_COMPILED]
        # A package may contain files that are not meant for this version of Python.
        self._call(
            [str(self._venv / "bin" / "python"), "-I", "-m", "compileall", *options, str(packages)],
            allowed_codes=(0, 1),
        )

    def _is_complete(self) -> bool:
        stamp = self._venv / self._lock
        return stamp.is_file() and stamp.read_bytes() == (self._root / self._lock).read_bytes() and self._is_usable()

    def _is_usable(self) -> bool:
        """Return whether an earlier setup was completed and its Python still runs."""
        python = self._venv / "bin" / "python"
        if not any((self._venv / name).is_file() for name in LOCKS) or not python.exists():
            return False
        return subprocess.run([python, "-I", "-c", "import pip"], capture_output=True, check=False).returncode == 0

    def _mark_complete(self) -> None:
        # The packages of the tests are installed in addition to all others, so both locks are complete.
        for name in LOCKS if self._lock == LOCKS[1] else (self._lock,):
            new_file = self._venv / f"{name}.new"
            shutil.copyfile(self._root / name, new_file)
            new_file.replace(self._venv / name)

    def _check_space(self) -> None:
        free_bytes = shutil.disk_usage(self._venv.parent).free
        if free_bytes < NEEDED_BYTES:
            raise SetupError(
                f"The setup needs {NEEDED_BYTES / 1e9:.1f} GB, and the disk of {self._venv.parent} has"
                f" {free_bytes / 1e9:.1f} GB left; free some space or set BARMILL_VENV to a folder on another disk."
            )

    def _check_library(self) -> None:
        """Reject a Python that cannot run inside the TaskManager's Java process."""
        call = [str(self._venv / "bin" / "python"), "-I", "-m", "find_libpython"]
        if not subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip():
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise SetupError(
                f"{sys.executable} has no shared library; install it (Debian, Ubuntu: apt install libpython{version};"
                f" macOS: brew install python@{version}) or set BARMILL_PYTHON to another Python, then try again."
            )

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the lock of this environment, once no other setup does; the kernel releases it when a setup dies."""
        with self._venv.with_name(self._venv.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress.say("Another ./barmill is setting up; waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _pip(self, arguments: Sequence[str], show: Callable[[str], None] | None = None) -> None:
        python = str(self._venv / "bin" / "python")
        options = ["--require-hashes", "--no-deps", "--no-compile", "--no-input", "--disable-pip-version-check"]
        self._call([python, "-I", "-m", "pip", "install", "--no-color", *options, *arguments], show)

    def _call(
        self, command: Sequence[str], show: Callable[[str], None] | None = None, allowed_codes: Sequence[int] = (0,)
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _HARMFUL_VARIABLES}
        environment |= {"PYTHONUNBUFFERED": "1"}
        if (temporary := self._venv / "tmp").is_dir():
            environment |= {"TMPDIR": str(temporary)}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        lines = deque[str](maxlen=_MAX_LINES)
        with self._log.open("a") as log:
            child = subprocess.Popen(command, env=environment, text=True, errors="replace", **pipes)  # type: ignore[call-overload]
            try:
                for line in child.stdout:
                    lines.append(line)
                    log.write(line)
                    if show is not None:
                        show(line)
            finally:
                if child.poll() is None:
                    child.terminate()
                code = child.wait()
        if code not in allowed_codes:
            raise SetupError(self._explain("".join(lines)))

    def _show_pip_progress(self, line: str) -> None:
        """Show pip's progress: the number of packages fetched, then that they are being unpacked."""
        total = count_packages((self._root / self._lock).read_text())
        if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
            self._progress.step("packages fetched", total)
        elif line.startswith("Installing collected packages"):
            self._progress.say("  unpacking packages")

    def _explain(self, output: str) -> str:
        for pattern, meaning in CAUSES:
            if match := re.search(pattern, output):
                log_hint = f" The full log is {self._log}." if os.access(self._log, os.R_OK) else ""
                return f"The setup stopped: {meaning.format(**match.groupdict())}.{log_hint}"
        return f"The setup stopped; see the end of {self._log}. Correct the problem and try again."


class Progress:
    """The progress of the setup on stderr: one line, redrawn on a terminal; elsewhere a line every few packages."""

    def __init__(self) -> None:
        self._redraws = sys.stderr.isatty()
        self._done = 0

    def say(self, text: str) -> None:
        """Write one line."""
        self.clear()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def step(self, step_name: str, total: int) -> None:
        """Count one more package of `total`."""
        self._done = min(self._done + 1, total)
        text = f"  {self._done} of {total} {step_name} ({self._done * 100 // max(total, 1)} %)"
        if self._redraws:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
        elif self._done % 10 == 0 or self._done == total:
            self.say(text)

    def clear(self) -> None:
        """Remove a line that is being redrawn."""
        if self._redraws:
            sys.stderr.write("\r\x1b[2K")


def count_packages(lock: str) -> int:
    """Return the approximate number of packages in a lock file for this machine, for a progress display."""
    return sum("win32'" not in (match["marker"] or "") or "!=" in match["marker"] for match in _PINNED.finditer(lock))


def main() -> int:
    """Create or update the environment with the arguments from ./barmill; return the exit code."""
    parser = argparse.ArgumentParser(description="Create or update Barmill's Python environment.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--lock", choices=LOCKS, required=True)
    arguments = parser.parse_args()
    try:
        Setup(arguments.root, arguments.venv.absolute(), arguments.lock).run()
    except SetupError as error:
        sys.stderr.write(f"barmill: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nbarmill: The setup was interrupted; run the command again to restart it.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
