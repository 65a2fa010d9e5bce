"""`user` at the command line, on a home where Barmill never ran."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from barmill.audit.accounts import open_audited_db
from barmill.audit.roles import Actor, Role
from barmill.audit.trail import Search, search
from barmill.auth import sign_in
from barmill.auth.sessions import Client, sessions_of
from barmill.auth.settings import SignInSettings
from barmill.platform.clock import now_ms
from barmill.platform.home import PYTHON_PATH, Home
from tests.support.signed_in import signed_in

PASSWORD = "correct horse"


def user(home: Home, *arguments: str, stdin: str = "", before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-P", "-m", "cli.main", "user", *arguments]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "BARMILL_HOME": str(home.root)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/", input=stdin)


def done(home: Home, *arguments: str, stdin: str = "") -> str:
    result = user(home, *arguments, stdin=stdin)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def refused(home: Home, *arguments: str, stdin: str = "") -> str:
    result = user(home, *arguments, stdin=stdin)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("barmill: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")  # not made yet


def token_in(text: str) -> str:
    found = re.fullmatch(
        r".* with this link; it works once and expires after a day:\nhttp://127\.0\.0\.1:8501/welcome\?token=([\w-]{43})\n",
        text,
        re.DOTALL,
    )
    assert found, text
    return found[1]


def test_an_account_is_added_with_a_link_that_chooses_its_password(home: Home) -> None:
    said = done(home, "add", "Ada", "--role", "admin")
    assert said.startswith("Added ada as admin.\n")
    with open_audited_db(home) as db:
        assert sign_in.account_of_link(db, token_in(said)) == "ada"
        assert search(db, Search(action="account.add"))[0].actor == Actor.at_command_line().name
    newer = token_in(done(home, "link", "ada"))
    with open_audited_db(home) as db:
        assert sign_in.account_of_link(db, newer) == "ada"
        assert newer != token_in(said)


def test_an_account_is_added_with_a_password_from_standard_input(home: Home) -> None:
    assert (
        done(home, "add", "ada", "--role", "admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        == "Added ada as admin.\n"
    )
    with open_audited_db(home) as db:
        assert sign_in.sign_in(db, "ada", PASSWORD, Client("192.0.2.1"), SignInSettings())


def test_accounts_are_listed(home: Home) -> None:
    assert json.loads(done(home, "list", "--json")) == []
    done(home, "add", "ada", "--role", "admin")
    signed_in(home, Role.TRADER, "bob")
    done(home, "disable", "bob")
    ada, bob = json.loads(done(home, "list", "--json"))
    assert (ada["name"], ada["role"], ada["disabled"], ada["last_seen_ms"]) == ("ada", "admin", False, None)
    assert (bob["name"], bob["role"], bob["disabled"]) == ("bob", "trader", True)
    assert set(ada) == {"name", "role", "disabled", "created_ms", "last_seen_ms"}
    assert abs(bob["last_seen_ms"] - now_ms()) < 60_000
    first, second = done(home, "list").splitlines()
    assert first.split() == ["ada", "admin", "never", "seen", "link", "not", "used", "yet"]
    assert second.endswith("disabled")


def test_roles_sessions_and_sign_out(home: Home) -> None:
    signed_in(home, Role.ADMIN, "ada")
    signed_in(home, Role.TRADER, "bob")
    assert done(home, "role", "bob", "operator") == "bob now has the role operator.\n"
    (session,) = json.loads(done(home, "sessions", "bob", "--json"))
    assert (session["address"], session["user_agent"]) == ("127.0.0.1", "a test")
    assert session["id"] in done(home, "sessions", "bob")
    assert done(home, "sign-out", "bob") == "bob is signed out everywhere; sessions ended: 1.\n"
    assert done(home, "disable", "bob") == "bob is disabled, and signed out everywhere.\n"
    assert done(home, "enable", "bob") == "bob is enabled.\n"
    with open_audited_db(home) as db:
        assert sessions_of(db, "bob", now_ms()) == []


def test_preferences_are_shown_and_set(home: Home) -> None:
    done(home, "add", "ada", "--role", "admin")
    shown = done(home, "preferences", "ada").splitlines()
    assert [line.split() for line in shown[:2]] == [["theme", "system"], ["frame", "1m"]]
    changed = ("--set", "theme=dark", "--set", "favourites=AAA/USD, BBB", "--set", "fill=yes")
    assert "favourites   AAA/USD, BBB" in done(home, "preferences", "ada", *changed).splitlines()
    found = json.loads(done(home, "preferences", "ada", "--json"))
    assert (found["theme"], found["fill"], found["favourites"]) == ("dark", True, ["AAA/USD", "BBB"])
    done(home, "preferences", "ada", "--set", "favourites=")
    assert json.loads(done(home, "preferences", "ada", "--json"))["favourites"] == []
    with open_audited_db(home) as db:
        assert search(db, Search(action="account.preferences"))[-1].actor == Actor.at_command_line().name


def test_what_cannot_be_done_is_one_sentence(home: Home) -> None:
    assert "There is no account named zoe" in refused(home, "link", "zoe")
    assert "There is no account named zoe" in refused(home, "sessions", "zoe")
    assert "use at least 10" in refused(home, "add", "ada", "--role", "admin", "--password-stdin", stdin="short")
    assert json.loads(done(home, "list", "--json")) == []
    assert "There is no account named zoe" in refused(home, "preferences", "zoe", "--set", "theme=dark")
    done(home, "add", "ada", "--role", "admin")
    assert "The preference theme is invalid" in refused(home, "preferences", "ada", "--set", "theme=pink")
    assert "There is no preference colour; choose one of theme," in refused(
        home, "preferences", "ada", "--set", "colour=1"
    )
    assert "already" in refused(home, "add", "ada", "--role", "trader")
    assert "ada is the last active admin" in refused(home, "role", "ada", "trader")
    assert "ada is the last active admin" in refused(home, "disable", "ada")


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "ada"],
        ["add", "ada", "--role", "king"],
        ["role", "ada", "king"],
        ["preferences", "ada", "--set", "x"],
        [],
    ],
)
def test_a_command_line_nobody_understands_is_refused(home: Home, arguments: list[str]) -> None:
    result = user(home, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")
    assert not home.root.exists()


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become another user")
@pytest.mark.parametrize("arguments", [["list"], ["add", "eve", "--role", "admin"], ["role", "ada", "trader"]])
def test_another_user_of_the_machine_is_turned_away_by_the_file_system(home: Home, arguments: list[str]) -> None:
    done(home, "add", "ada", "--role", "admin")
    for path in (home.root, *home.root.rglob("*")):
        os.chown(path, 65_534, 65_534)
    # Root, but with no more rights in another user's folders than any user has.
    result = user(home, *arguments, before=["setpriv", "--bounding-set", "-dac_override,-dac_read_search"])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"barmill: Access is not allowed at {home.root}")
    assert result.stderr.count("\n") == 1
