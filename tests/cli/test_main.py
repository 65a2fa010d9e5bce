import errno
import importlib
import os
import subprocess
import sys

import pytest

from cli import main
from cli.errors import UserError
from control.home import REPO_ROOT


class Failing:
    """A command whose run raises what it is told to."""

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


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("Port 1 is in use; choose another."), "Port 1 is in use; choose another."),
        (OSError(errno.ENOSPC, "full", "/x/ticks.sqlite"), "The disk is full at /x/ticks.sqlite; free some space"),
        (PermissionError(errno.EACCES, "no", "/x"), "Writing is not allowed at /x; set BARMILL_HOME"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_a_failure(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = outcome(error, monkeypatch, capsys)
    assert code == 1
    assert said.startswith(f"barmill: {sentence}")
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
    environment = os.environ | {"PYTHONPATH": str(REPO_ROOT)}
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


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from cli import main\ntry: main.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO_ROOT)
    modules = done.stdout.splitlines()[-1]
    assert not any(f"'{heavy}'" in modules for heavy in ("polars", "streamlit", "pyflink", "requests", "cli.up"))
