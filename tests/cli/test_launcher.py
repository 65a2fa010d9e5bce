"""The shell door: which Python it takes, when it sets up, and how it hands over. Stand-ins play Python here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from barmill.platform.home import PYTHON_PATH, REPO_ROOT

TOOLS = ("sh", "readlink", "dirname", "cmp", "cp", "mkdir", "chmod", "cat")
# Plays a system Python of one version. Asked to set up, it makes an environment whose Python tells what it was given.
SYSTEM_PYTHON = """#!/bin/sh
case "$*" in
    *"import sys"*) echo {version} ;;
    *ensurepip*) exit {venv_missing} ;;
    *setup.py*)
        echo "set-up by {name}" >&2
        mkdir -p "$BARMILL_VENV/bin"
        cp "{root}/requirements.lock" "{root}/requirements-test.lock" "$BARMILL_VENV/"
        cp "{folder}/inner" "$BARMILL_VENV/bin/python"
        ;;
esac
"""
INNER_PYTHON = """#!/bin/sh
echo "path=$PYTHONPATH"
for argument in "$@"; do echo "[$argument]"; done
exit 7
"""
BROKEN_SHIM = "#!/bin/sh\necho 'that version is not switched on' >&2\nexit 127\n"


class Machine:
    """A folder that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        for tool in TOOLS:
            (folder / tool).symlink_to(str(shutil.which(tool)))
        self.script("inner", INNER_PYTHON)

    def script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, name: str, version: str, *, venv_missing: int = 0) -> Path:
        text = SYSTEM_PYTHON.format(
            version=version, name=name, venv_missing=venv_missing, root=REPO_ROOT, folder=self.folder
        )
        return self.script(name, text)

    def call(
        self, *arguments: str, door: Path = REPO_ROOT / "barmill", **more: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder), "BARMILL_VENV": str(self.venv), **more}
        return subprocess.run(
            [str(door), *arguments], capture_output=True, text=True, check=False, env=environment, cwd=self.folder
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "a path"
    folder.mkdir()
    return Machine(folder)


def test_the_first_call_sets_up_and_every_call_hands_over(machine: Machine) -> None:
    machine.python("python3", "3.12")
    first = machine.call("bars", "BTC/USDT", "two words", "")
    assert first.stderr == "set-up by python3\n"
    assert first.stdout.splitlines() == [
        f"path={PYTHON_PATH}",
        *("[-P]", "[-m]", "[cli.main]", "[bars]", "[BTC/USDT]", "[two words]", "[]"),
    ]
    assert first.returncode == 7
    second = machine.call("status")
    assert (second.stderr, second.returncode) == ("", 7)


def test_it_works_through_links(machine: Machine) -> None:
    machine.python("python3", "3.11")
    (machine.folder / "links").mkdir()
    near, far = machine.folder / "links" / "near", machine.folder / "far"
    near.symlink_to(REPO_ROOT / "barmill")
    far.symlink_to(Path("links") / "near")
    assert machine.call("status", door=far).stdout.startswith(f"path={PYTHON_PATH}\n")


def test_a_changed_lock_file_sets_up_again(machine: Machine) -> None:
    machine.python("python3", "3.12")
    machine.call("status")
    (machine.venv / "requirements.lock").write_text("older\n")
    assert machine.call("status").stderr == "set-up by python3\n"
    assert machine.call("status").stderr == ""


def test_an_environment_without_its_stamp_counts_as_unfinished(machine: Machine) -> None:
    machine.python("python3", "3.12")
    machine.call("status")
    (machine.venv / "requirements-test.lock").unlink()
    assert machine.call("status").stderr == ""
    assert machine.call("test").stderr == "set-up by python3\n"
    (machine.venv / "bin" / "python").unlink()
    assert machine.call("status").stderr == "set-up by python3\n"


def test_versions_that_do_not_run_or_do_not_fit_are_passed_over(machine: Machine) -> None:
    machine.script("python3.11", BROKEN_SHIM)
    machine.python("python3.12", "3.12", venv_missing=1)
    machine.python("python3", "3.13")
    machine.python("python", "3.11")
    assert machine.call("status").stderr == "set-up by python\n"


def test_the_python_that_is_named_is_taken(machine: Machine) -> None:
    machine.python("python3", "3.11")
    other = machine.python("mine", "3.12")
    assert machine.call("status", BARMILL_PYTHON=str(other)).stderr == "set-up by mine\n"


def test_no_python_is_one_sentence(machine: Machine) -> None:
    done = machine.call("status")
    assert done.returncode == 1
    assert done.stderr.startswith("barmill: Barmill needs Python 3.11 or 3.12 and found none; install it")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["3.10", "3.13", "2.7"])
def test_a_wrong_python_is_one_sentence(machine: Machine, version: str) -> None:
    machine.python("python3", version)
    done = machine.call("status")
    assert done.returncode == 1
    assert f"found Python {version}; also install 3.12" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_python_without_venv_is_one_sentence(machine: Machine) -> None:
    machine.python("python3.11", "3.11", venv_missing=1)
    done = machine.call("status")
    assert done.returncode == 1
    assert "apt install python3.11-venv" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_named_python_that_does_not_fit_is_one_sentence(machine: Machine) -> None:
    machine.python("python3", "3.12")
    wrong = machine.python("wrong", "3.10")
    for named in (str(wrong), "/no/such/python"):
        done = machine.call("status", BARMILL_PYTHON=named)
        assert done.returncode == 1
        assert f"BARMILL_PYTHON={named} is not a Python 3.11 or 3.12" in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_door_is_plain_posix_shell() -> None:
    text = (REPO_ROOT / "barmill").read_text()
    assert text.startswith("#!/bin/sh\n")
    shell = shutil.which("dash") or "sh"
    assert subprocess.run([shell, "-n", str(REPO_ROOT / "barmill")], check=False).returncode == 0
    assert os.access(REPO_ROOT / "barmill", os.X_OK)
