"""The home: where Barmill stores its data on disk."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

REPO_ROOT = Path(__file__).resolve().parents[3]
# Where Python finds the applications and, in src/, the library.
PYTHON_PATH = os.pathsep.join((str(REPO_ROOT), str(REPO_ROOT / "src")))


@dataclass(frozen=True)
class Home:
    """The home of one Barmill installation: a folder and the paths in it."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().absolute())

    @classmethod
    def find(cls) -> Self:
        """Return the home named by BARMILL_HOME, or `var/` next to the code."""
        path = os.environ.get("BARMILL_HOME", "")
        return cls(Path(path) if path else REPO_ROOT / "var")

    def create(self) -> Self:
        """Create missing folders, and deny other users access to them and to the home.

        A home that belongs to another user, as a volume may, is not changed, nor is a public folder such as /tmp. Raise
        OSError if the home is not writable.
        """
        folders = (self.root, self.keys, self.log, self.run, self.flink, self.market)
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.root, os.W_OK):  # existing folders do not show whether the home is writable
            raise PermissionError(errno.EACCES, "cannot be written", str(self.root))
        for folder in folders:
            _make_private(folder)
        return self

    def make_private(self) -> None:
        """Remove other users' access to Barmill's files, as left by an earlier version or a lax umask."""
        stores = (self.ticks_db, self.bars_db, self.control_db, self.monitor_db)
        for path in (path for store in stores for path in self.root.glob(f"{store.name}*")):
            _make_private(path)
        for folder in (self.keys, self.log, self.run, self.flink, self.market, self.tls, self.root / "kafka"):
            for subfolder, _, names in os.walk(folder):
                for path in (Path(subfolder), *(Path(subfolder, name) for name in names)):
                    _make_private(path)

    @property
    def ticks_db(self) -> Path:
        """Return the path of the tick log."""
        return self.root / "ticks.sqlite"

    @property
    def bars_db(self) -> Path:
        """Return the path of the bar store."""
        return self.root / "bars.sqlite"

    @property
    def control_db(self) -> Path:
        """Return the path of the control database: job specs, runs, key records, accounts, audit log, and more."""
        return self.root / "control.sqlite"

    @property
    def monitor_db(self) -> Path:
        """Return the path of the database of measurements over time."""
        return self.root / "monitor.sqlite"

    @property
    def keys(self) -> Path:
        """Return the folder of key files, mode 0700."""
        return self.root / "keys"

    @property
    def log(self) -> Path:
        """Return the folder of the log files of all processes."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Return the folder of PID files, locks, sockets and chosen ports."""
        return self.root / "run"

    @property
    def flink(self) -> Path:
        """Return the folder of the cluster's configuration, checkpoints and job specs."""
        return self.root / "flink"

    @property
    def tls(self) -> Path:
        """Return the folder of the certificate with which this home's processes authenticate each other, mode 0700."""
        return self.root / "tls"

    @property
    def market(self) -> Path:
        """Return the folder of the demo market's state."""
        return self.root / "market"


def _make_private(path: Path) -> None:
    """Deny other users access to a file or folder of this user."""
    try:
        status = path.lstat()
    except FileNotFoundError:  # deleted meanwhile
        return
    is_shared = stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX
    if status.st_mode & 0o077 and status.st_uid == os.geteuid() and not is_shared:
        path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
