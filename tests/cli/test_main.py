import errno
import importlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from barmill.platform.home import PYTHON_PATH, REPO_ROOT
from cli import main
from cli.common import UserError


class Failing:
    """A command whose run raises the given exception."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def add_arguments(self, _parser: object) -> None:
        pass

    def run(self, _args: object) -> int:
        raise self._error


def outcome(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr(importlib, "import_module", lambda _name: Failing(error))
    code = main.main(["status"])
    return code, capsys.readouterr().err


def store_error(code: int, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("Port 1 is in use; choose another."), "Port 1 is in use; choose another."),
        (OSError(errno.ENOSPC, "full", "/x/ticks.sqlite"), "The disk is full at /x/ticks.sqlite; free some space"),
        (store_error(sqlite3.SQLITE_FULL, "full"), "The disk is full; free some space"),
        (store_error(sqlite3.SQLITE_IOERR_READ, "disk I/O error"), "Reading or writing a file in "),
        (store_error(sqlite3.SQLITE_READONLY, "readonly database"), "The files in "),
        (store_error(sqlite3.SQLITE_CANTOPEN, "unable to open database file"), "The files in "),
        (PermissionError(errno.EACCES, "no", "/x"), "Access is not allowed at /x; set BARMILL_HOME"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_a_failure(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = outcome(error, monkeypatch, capsys)
    assert code == 1
    assert said.startswith(f"barmill: {sentence}")
    assert said.endswith(".\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", ["bench", "test"])
def test_developer_commands_need_a_checkout(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "REPO_ROOT", tmp_path)
    assert main.main([command]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"barmill: `barmill {command}` needs a checkout of the repository")
    assert said.count("\n") == 1


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(KeyboardInterrupt(), monkeypatch, capsys) == (130, "")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError(), monkeypatch, capsys)
    with pytest.raises(OSError, match="loop"):
        outcome(OSError(errno.ELOOP, "loop"), monkeypatch, capsys)


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "cli.main", *arguments]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


def test_help_lists_every_command() -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert main.COMMANDS.keys() <= {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = cli(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: barmill {command}")


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["status", "--loud"], ["up", "--port", "99999"], ["up", "--port", "x"]]
)
def test_a_command_line_nobody_understands_is_refused(arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["bars", "--instrument", "A\udcff"], ["instrument", "enable", "A\udcff"]])
def test_an_argument_that_is_not_utf_8_is_refused_in_a_sentence(arguments: list[str]) -> None:
    done = cli(*arguments)  # the half of a pair is passed on as the byte FF
    assert done.returncode == 1
    assert done.stderr.startswith(r'barmill: The argument "A\xff" is not valid UTF-8; correct it')
    assert done.stderr.count("\n") == 1


# The largest libraries, which take most of the time of a command that imports them without need.
HEAVY = {"confluent_kafka", "hvac", "httpx", "jsonpath_rfc9535", "numpy", "pandas", "pyarrow", "pyflink", "requests"}
HEAVY |= {"streamlit", "supervisor", "websockets"}


@pytest.mark.parametrize(
    ("arguments", "also_heavy"),
    [
        (["--help"], {"polars", "pydantic", "sqlite_utils", "cli.up"}),
        (["status"], set()),
        (["instrument", "list"], set()),
        (["instrument", "feed", "list"], set()),
        (["user", "list"], set()),
        (["audit", "list"], {"polars"}),
    ],
)
def test_light_commands_import_no_heavy_library(arguments: list[str], also_heavy: set[str], tmp_path: Path) -> None:
    code = (
        "import sys; from cli import main\n"
        f"try: main.main({arguments})\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    environment = os.environ | {"BARMILL_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=REPO_ROOT)
    assert not (HEAVY | also_heavy) & set(done.stderr.split())


def test_a_replay_of_csv_files_imports_no_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "ticks.csv").write_text("time,instrument,price\n2026-11-27T09:30:00Z,ACME,1\n")
    code = "import sys; from cli import main; main.main(sys.argv[1:]); print('pyarrow' in sys.modules)"
    command = [sys.executable, "-c", code, "replay", "--dry-run", str(tmp_path / "ticks.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO_ROOT)
    assert "1 ticks" in done.stdout
    assert done.stdout.endswith("False\n")
