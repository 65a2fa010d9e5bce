"""The peers' own Python environment, so that nothing of theirs mixes with ours."""

import shutil
import subprocess
import sys
from pathlib import Path

_LOCK = Path(__file__).with_name("requirements.lock")


class PeerMissingError(Exception):
    """A peer cannot be installed here; the sentence says why."""


def peer_python(folder: Path) -> Path:
    """Return the Python of the environment in `folder`, making it where it is missing or out of date."""
    python, stamp = folder / "bin" / "python", folder / _LOCK.name
    if stamp.is_file() and stamp.read_bytes() == _LOCK.read_bytes() and python.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _call([sys.executable, "-I", "-m", "venv", str(folder)])
    options = ["--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    _call([str(python), "-I", "-m", "pip", "install", *options, "-r", str(_LOCK)])
    shutil.copyfile(_LOCK, stamp)  # written last: without it the environment is made anew
    return python


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = said[-1] if said else "no reason given"
        raise PeerMissingError(f"Bytewax could not be installed beside Barmill: {reason}")
