"""The first set-up with the real venv and pip, from packages made here: nothing comes from a network."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from barmill.platform.home import REPO_ROOT
from barmill.platform.ports import free_ports
from cli import setup

SETUP = [sys.executable, "-I", str(REPO_ROOT / "cli" / "setup.py")]


class Project:
    """A project with lock files, and a folder of wheels in place of the package index."""

    def __init__(self, folder: Path) -> None:
        self.root, self.wheels, self.venv = folder / "root", folder / "wheels", folder / "venv"
        self.root.mkdir()
        self.wheels.mkdir()
        library = self.wheel("find_libpython", "1", "print('/lib/libpython.so')")
        self.lock("requirements-build.lock", self.wheel("tool", "1"))
        self.lock("requirements.lock", library, self.wheel("thing", "1", "version = 1"))
        self.lock("requirements-test.lock", library, self.wheel("thing", "1", "version = 1"), self.wheel("probe", "1"))

    def wheel(self, name: str, version: str, code: str = "") -> str:
        """Make a wheel and return its line for a lock file."""
        path = self.wheels / f"{name}-{version}-py3-none-any.whl"
        about = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(f"{name}.py"), code)
            archive.writestr(
                zipfile.ZipInfo(f"{about}/METADATA"), f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            archive.writestr(
                zipfile.ZipInfo(f"{about}/WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(zipfile.ZipInfo(f"{about}/RECORD"), "")
        return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    def lock(self, name: str, *lines: str) -> None:
        (self.root / name).write_text("".join(lines))

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        return inherited | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), **more}

    def command(self, lock: str = "requirements.lock") -> list[str]:
        return [*SETUP, "--root", str(self.root), "--venv", str(self.venv), "--lock", lock]

    def set_up(self, lock: str = "requirements.lock", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(lock), capture_output=True, text=True, check=False, env=self.environment(more)
        )

    def installed(self, code: str) -> str:
        done = subprocess.run([self.venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def complete(self, lock: str = "requirements.lock") -> bool:
        stamp = self.venv / lock
        return stamp.exists() and stamp.read_text() == (self.root / lock).read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("barmill: ")
    assert "Traceback" not in done.stderr
    return last


def test_from_nothing_to_ready_and_then_from_lock_to_lock(project: Project) -> None:
    first = project.set_up()
    assert first.returncode == 0, first.stderr
    assert "the first time takes a minute or two" in first.stderr
    assert "2 of 2 packages fetched (100 %)" in first.stderr
    assert "Ready after" in first.stderr
    assert project.complete()
    assert project.installed("import thing, tool; print(thing.version)") == "1"
    assert not (project.venv / "tmp").exists()
    assert list(project.venv.glob("lib/*/site-packages/__pycache__/thing.*.pyc"))

    marker = project.venv / "marker"
    marker.touch()
    again = project.set_up()
    assert (again.returncode, again.stderr) == (0, "")

    project.lock(
        "requirements.lock",
        project.wheel("find_libpython", "1", "print('x')"),
        project.wheel("thing", "2", "version = 2"),
    )
    changed = project.set_up()
    assert "Updating the packages in" in changed.stderr
    assert project.installed("import thing; print(thing.version)") == "2"
    assert project.complete()

    with_tests = project.set_up("requirements-test.lock")
    assert with_tests.returncode == 0, with_tests.stderr
    assert project.installed("import probe; print('here')") == "here"
    assert project.complete("requirements-test.lock")
    assert marker.exists()  # none of this began from nothing


def test_a_set_up_that_was_killed_is_made_anew(project: Project) -> None:
    # What is left then: files without a stamp. The lock went with the process.
    (project.venv / "bin").mkdir(parents=True)
    (project.venv / "bin" / "python").symlink_to("/bin/false")
    (project.venv / "half").touch()
    done = project.set_up()
    assert done.returncode == 0, done.stderr
    assert project.complete()
    assert not (project.venv / "half").exists()


def test_two_at_once_do_the_work_once(project: Project) -> None:
    pipes = {"stderr": subprocess.PIPE, "text": True, "env": project.environment({})}
    both = [subprocess.Popen(project.command(), **pipes) for _ in range(2)]  # type: ignore[call-overload]
    said = Counter(line for process in both for line in process.communicate(timeout=120)[1].splitlines())
    assert [process.returncode for process in both] == [0, 0]
    assert said["  Python environment"] == 1
    assert said["Another ./barmill is setting up; waiting for it."] == 1
    assert project.complete()


def test_a_package_that_is_not_what_the_lock_says_is_refused(project: Project) -> None:
    project.wheel("thing", "1", "version = 'another'")
    said = one_sentence(project.set_up())
    assert "does not match the lock file" in said
    assert str(project.venv.with_name("venv.log")) in said
    assert not project.complete()


def test_a_package_that_is_nowhere_is_named(project: Project) -> None:
    (project.wheels / "thing-1-py3-none-any.whl").unlink()
    assert "has no thing==1 for this machine" in one_sentence(project.set_up())


def test_no_network_is_one_sentence(project: Project) -> None:
    [closed] = free_ports(1)
    index = {
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": f"http://127.0.0.1:{closed}/",
        "PIP_RETRIES": "1",
    }
    said = one_sentence(project.set_up(**index))
    assert "the package index cannot be reached; check the network" in said
    assert f"127.0.0.1:{closed}" in project.venv.with_name("venv.log").read_text()


def test_a_python_without_its_shared_library_is_one_sentence(project: Project) -> None:
    project.lock("requirements.lock", project.wheel("find_libpython", "2", "print('')"))
    assert "has no shared library; install it" in one_sentence(project.set_up())
    assert not project.complete()


def test_a_folder_that_cannot_be_written_is_one_sentence(project: Project) -> None:
    project.venv = Path("/proc/no/venv")
    said = one_sentence(project.set_up())
    assert "set BARMILL_VENV to a folder that you can write to" in said or "The setup stopped" in said


def test_a_disk_too_small_is_said_before_anything_is_done(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "NEEDED_BYTES", 10**18)
    with pytest.raises(
        setup.SetupError, match=r"needs 1000000000\.0 GB.* set BARMILL_VENV to a folder on another disk"
    ):
        setup.Setup(project.root, project.venv, "requirements.lock").run()
    assert not project.venv.exists()


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "does not match the lock file"),
        ("ReadTimeoutError(\"HTTPSConnectionPool(host='x')\")", "cannot be reached"),
        ("× Download failed because not enough bytes were received", "a download was incomplete"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "writing is not permitted"),
        ("something quite new", "see the end of"),
    ],
)
def test_what_pip_says_becomes_a_way_out(project: Project, said: str, meaning: str) -> None:
    assert meaning in setup.Setup(project.root, project.venv, "requirements.lock")._explain(said)


def test_the_packages_of_other_systems_are_not_counted() -> None:
    pins = ("a==1", "b==2 ; sys_platform == 'win32'", "c==3 ; sys_platform != 'win32'")
    assert setup.count_packages("".join(f"{pin} \\\n    --hash=sha256:0\n" for pin in pins)) == 2


def test_the_lock_files_pin_everything_with_hashes_and_name_no_machine() -> None:
    for name in (setup.BUILD_LOCK, *setup.LOCKS):
        lock = (REPO_ROOT / name).read_text()
        assert all(line.startswith("    --hash=sha256:") or "==" in line for line in lock.splitlines())
        assert "/" not in lock
    plain, with_tests = ((REPO_ROOT / name).read_text() for name in setup.LOCKS)
    assert {line for line in plain.splitlines() if "==" in line} <= set(with_tests.splitlines())


def test_set_up_needs_nothing_but_the_standard_library() -> None:
    assert shutil.which("python3")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import setup\n"
        "files = [getattr(module, '__file__', None) or '' for module in sys.modules.values()]\n"
        "print([file for file in files if 'site-packages' in file])"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(REPO_ROOT / "cli")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
