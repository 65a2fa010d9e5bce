"""Where everything lives on disk."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

REPO_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Home:
    """One Barmill installation's state: a folder, and the names of what is in it."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().absolute())

    @classmethod
    def find(cls) -> Self:
        """Return the home named by BARMILL_HOME, or `var/` beside the code."""
        named = os.environ.get("BARMILL_HOME", "")
        return cls(Path(named) if named else REPO_ROOT / "var")

    def create(self) -> Self:
        """Make the folders, private to this user, where they are missing."""
        for folder in (self.root, self.keys, self.log, self.run, self.flink, self.market):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keys.chmod(0o700)  # it may have been made by hand, with the shell's umask
        return self

    @property
    def ticks_db(self) -> Path:
        """Tick log."""
        return self.root / "ticks.sqlite"

    @property
    def bars_db(self) -> Path:
        """Bar store."""
        return self.root / "bars.sqlite"

    @property
    def control_db(self) -> Path:
        """Job specs, runs, key records, accounts."""
        return self.root / "control.sqlite"

    @property
    def monitor_db(self) -> Path:
        """What was measured over time."""
        return self.root / "monitor.sqlite"

    @property
    def keys(self) -> Path:
        """Key files, mode 0700."""
        return self.root / "keys"

    @property
    def log(self) -> Path:
        """Log files of all processes."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Process ids, sockets, chosen ports: true only while the processes live."""
        return self.root / "run"

    @property
    def flink(self) -> Path:
        """Cluster configuration, checkpoints, job specs."""
        return self.root / "flink"

    @property
    def tls(self) -> Path:
        """Certificate by which the processes of this home know each other, mode 0700."""
        return self.root / "tls"

    @property
    def market(self) -> Path:
        """State of the demo market."""
        return self.root / "market"
