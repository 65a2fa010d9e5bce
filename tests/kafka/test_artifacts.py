"""The jars of Kafka, and what is said where they cannot be had."""

import os
from pathlib import Path

import pytest

from control.kafka import artifacts
from control.kafka.artifacts import ArtifactsError, connector_jar, fetch, jars


@pytest.fixture
def nothing_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(artifacts, "JARS", tmp_path / "jars")
    return tmp_path / "jars"


def maven(folder: Path, script: str) -> str:
    """Make a program called mvn; return the search path that has nothing else of that name."""
    program = folder / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.defpath}"


def test_the_connector_is_fetched_once_and_found_again() -> None:
    [jar] = fetch("connector")
    assert jar.name.startswith("flink-sql-connector-kafka-")
    assert connector_jar() == jar
    assert fetch("connector") == [jar]


def test_without_maven_a_sentence_says_to_install_it(nothing_fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(nothing_fetched))
    assert connector_jar() is None
    with pytest.raises(ArtifactsError, match=r"is not installed; install it"):
        fetch("connector")


def test_what_maven_says_is_passed_on_and_half_a_download_does_not_count(
    nothing_fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = nothing_fetched / "connector"
    script = f"mkdir -p {folder}; touch {folder}/half.jar; echo '[ERROR] no such host'; exit 1"
    monkeypatch.setenv("PATH", maven(tmp_path, script))
    with pytest.raises(ArtifactsError, match=r"Maven could not fetch Kafka's jars; check .*no such host"):
        fetch("connector")
    assert jars("connector") == []


def test_jars_of_another_pom_are_fetched_anew(
    nothing_fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = nothing_fetched / "connector"
    folder.mkdir(parents=True)
    (folder / "old.jar").touch()
    (folder / "pom.xml").write_text("<project/>")
    monkeypatch.setenv("PATH", maven(tmp_path, f"mkdir -p {folder}; touch {folder}/new.jar"))
    assert jars("connector") == []
    assert [jar.name for jar in fetch("connector")] == ["new.jar"]
