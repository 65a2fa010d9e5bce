"""Where everything lives on disk."""

import errno
import os
import stat
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
        """Make the folders where they are missing, and close them, and the home itself, to other users.

        A home that belongs to another user, as a volume may, is left as it is, and so is a public folder such as /tmp.
        Raise OSError where nothing can be written.
        """
        folders = (self.root, self.keys, self.log, self.run, self.flink, self.market)
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.root, os.W_OK):  # folders that are there already say nothing about that
            raise PermissionError(errno.EACCES, "cannot be written", str(self.root))
        for folder in folders:
            _close_to_others(folder)
        return self

    def close_to_others(self) -> None:
        """Take every right of other users from all that Barmill wrote here: an earlier version, or by a lax umask."""
        stores = (self.ticks_db, self.bars_db, self.control_db, self.monitor_db)
        for path in (path for store in stores for path in self.root.glob(f"{store.name}*")):
            _close_to_others(path)
        for folder in (self.keys, self.log, self.run, self.flink, self.market, self.tls, self.root / "kafka"):
            for inside, _, names in os.walk(folder):
                for path in (Path(inside), *(Path(inside, name) for name in names)):
                    _close_to_others(path)

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


def _close_to_others(path: Path) -> None:
    """Leave a file or folder of this user to its owner alone."""
    try:
        found = path.lstat()
    except FileNotFoundError:  # deleted meanwhile
        return
    shared = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX
    if found.st_mode & 0o077 and found.st_uid == os.geteuid() and not shared:
        path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
