"""`barmill key` as scripts and people call it."""

import io
import json
import os
import pty
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from barmill.audit.roles import Actor
from barmill.platform.home import PYTHON_PATH, Home
from barmill.secrets.settings import ALL_VARIABLES
from barmill.secrets.store import MAX_SECRET_BYTES, KeyStore
from cli.main import main
from tests.support.canary import canary, leaks
from tests.support.key_tests import settle_port
from tests.support.market_process import KEY, running_market

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _settings(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BARMILL_HOME", str(home.root))
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)


def key(*arguments: str, secret: str | bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run the command in this process: a new one takes most of a second to start."""
    given = secret if isinstance(secret, bytes) else secret.encode()
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        try:
            code = main(["key", *arguments])
        except SystemExit as end:
            code = int(str(end.code))
    return subprocess.CompletedProcess(["key", *arguments], code, out.getvalue(), err.getvalue())


def key_process(*arguments: str, secret: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process, including all output of Python at its start and end."""
    command = [sys.executable, "-P", "-m", "cli.main", "key", *arguments]
    done = subprocess.run(command, input=secret, capture_output=True, text=True, check=False, cwd="/")
    return subprocess.CompletedProcess(["key", *arguments], done.returncode, done.stdout, done.stderr)


def listed() -> list[dict[str, Any]]:
    done = key("list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def revealed(home: Home, name: str) -> str:
    with KeyStore.open(home, Actor("ada")) as store:
        return store.reveal(name)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence of a command that failed as it should."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("barmill: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("barmill: ").strip()


def test_a_key_lives_from_its_addition_to_its_end_and_its_secret_is_never_shown(home: Home) -> None:
    first, second = canary(), canary()
    said = [key_process("add", "demo", "--provider", "market", secret=f"{first}\n")]
    assert said[-1].stdout.startswith("The key demo is stored (fingerprint ")
    assert revealed(home, "demo") == first
    said += [key("list"), key_process("list", "--json")]
    (shown,) = json.loads(said[-1].stdout)
    used_ms, created_ms = shown.pop("last_used_ms"), shown.pop("created_ms")
    assert time.time() * 1_000 - 60_000 < created_ms <= used_ms <= time.time() * 1_000
    fingerprint = shown.pop("fingerprint")
    assert shown == {
        "name": "demo",
        "provider": "market",
        "version": 1,
        "expires_ms": None,
        "state": "active",
        "reference": None,
        "hosts": ["127.0.0.1", "localhost"],
    }
    assert fingerprint in said[1].stdout
    said.append(key_process("rotate", "demo", secret=second))
    assert said[-1].stdout.startswith("The key demo is now at version 2 (fingerprint ")
    assert revealed(home, "demo") == second
    said += [key("history", "demo"), key("history", "demo", "--json"), key("rotate-kek"), key_process("test", "demo")]
    assert [key["version"] for key in json.loads(said[-3].stdout)] == [2, 1]
    assert revealed(home, "demo") == second
    said.append(key("revoke", "demo"))
    assert [key["state"] for key in listed()] == ["revoked"]
    said += [key("test", "demo"), key("delete", "demo")]
    assert listed() == []
    # No market runs, and a revoked key is not tried: both tests fail, and may show nothing either.
    failed = [result.args[1] for result in said if result.returncode]
    assert failed == ["test", "test"]
    output = [text for result in said for text in (result.stdout, result.stderr)]
    for secret in (first, second):
        assert leaks(secret, home.root, *output) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        ("secret\n\n", "secret\n"),
        (" secret ", " secret "),
        ("-----BEGIN-----\nÄ🔑\n-----END-----\n", "-----BEGIN-----\nÄ🔑\n-----END-----"),
    ],
)
def test_exactly_one_line_end_is_taken_off(home: Home, given: str, kept: str) -> None:
    assert key("add", "demo", "--provider", "market", secret=given).returncode == 0
    assert revealed(home, "demo") == kept


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (b"", "A key must be 1 to 65536 bytes long."),
        (b"\n", "A key must be 1 to 65536 bytes long."),
        (b"x" * (MAX_SECRET_BYTES + 1), "A key must be 1 to 65536 bytes long."),
        (b"\xff\xfe", "The secret on standard input is not UTF-8 text; copy it again from the provider."),
    ],
)
def test_what_cannot_be_a_secret_is_refused(given: bytes, sentence: str) -> None:
    assert refused(key("add", "demo", "--provider", "market", secret=given)) == sentence
    assert listed() == []


def test_the_longest_secret_fits(home: Home) -> None:
    longest = "x" * MAX_SECRET_BYTES
    assert key("add", "demo", "--provider", "market", secret=f"{longest}\r\n").returncode == 0
    assert revealed(home, "demo") == longest


def test_a_name_that_is_taken_points_to_the_rotation() -> None:
    key("add", "demo", "--provider", "market", secret="one")
    said = refused(key("add", "demo", "--provider", "market", secret="two"))
    assert "already exists; give it a new secret with ./barmill key rotate demo" in said


@pytest.mark.parametrize("action", ["rotate", "revoke", "delete", "test", "history"])
def test_a_name_that_is_not_there_is_one_sentence(action: str) -> None:
    assert "There is no " in refused(key(action, "absent", secret="x"))


def test_a_last_day_is_kept_warned_of_and_enforced_only_in_the_future() -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).date()
    assert key("add", "soon", "--provider", "market", "--expires", str(soon), secret="x").returncode == 0
    assert key("add", "late", "--provider", "market", "--expires", "2999-12-31T12:00:00Z", secret="x").returncode == 0
    late, near = listed()
    assert (late["state"], near["state"]) == ("active", "expiring")
    end = datetime.combine(soon + timedelta(days=1), datetime.min.time(), UTC)
    assert near["expires_ms"] == end.timestamp() * 1_000
    assert "The key soon expires in 3 days" in key("list").stdout
    for date, sentence in (("2001-01-01", "is in the past"), ("tomorrow", "--expires tomorrow is not a time")):
        assert sentence in refused(key("add", "x", "--provider", "market", "--expires", date, secret="x"))


def test_a_key_may_be_kept_elsewhere(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    done = key("add", "demo", "--provider", "market", "--from", "env:MARKET_KEY")
    bound = "Feeds may send it only to 127.0.0.1, localhost."
    assert done.stdout == f"The key demo is stored as a reference to env:MARKET_KEY. {bound}\n"
    (shown,) = listed()
    assert (shown["reference"], shown["fingerprint"]) == ("env:MARKET_KEY", None)
    monkeypatch.setenv("MARKET_KEY", "elsewhere")
    assert revealed(home, "demo") == "elsewhere"
    assert key("rotate", "demo", "--from", "vault:secret/team#key").returncode == 0
    assert [key["reference"] for key in listed()] == ["vault:secret/team#key"]
    said = refused(key("rotate", "demo", "--from", "sk-live-4f1dbb0c9a6e42d7"))
    assert said == "This is not a reference to a key; write env:NAME or vault:MOUNT/PATH#FIELD."


def test_at_a_terminal_the_secret_is_asked_for_and_not_echoed(home: Home) -> None:
    secret, shown = canary(), b""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "cli.main", "key", "add", "demo", "--provider", "market"]
    # Without a separate session, it would prompt at the terminal that the tests were started from.
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as asking:
        os.close(theirs)
        with suppress(OSError):  # the other end is gone
            while data := os.read(ours, 4_096):
                if b"not shown" in data:
                    os.write(ours, secret.encode() + b"\n")
                shown += data
    os.close(ours)
    assert asking.returncode == 0, shown
    assert shown.startswith(b"Secret of demo (not shown): ")
    assert leaks(secret, shown) == []
    assert revealed(home, "demo") == secret


def test_a_key_is_tried_at_the_market(home: Home) -> None:
    key("add", "demo", "--provider", "market", secret=KEY)
    key("add", "wrong", "--provider", "market", secret="no market knows this one")
    assert "start Barmill with ./barmill up" in refused(key("test", "demo"))
    with running_market(home) as market:
        settle_port(home, market.port)
        done = key("test", "demo")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("The market accepts the key; it gives access to ")
        assert "keys of the market never contain" in refused(key("test", "wrong"))
    assert [key["last_used_ms"] is not None for key in listed()] == [True, True]


def test_the_key_encryption_key_is_rotated_with_counts(home: Home) -> None:
    assert key("rotate-kek").stdout == "Nothing is encrypted yet.\n"
    for name in ("one", "two", "three"):
        key("add", name, "--provider", "market", secret=name)
    done = key("rotate-kek", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    counts = json.loads(done.stdout)
    assert counts == {
        "rewrapped": 3,
        "skipped": 0,
        "failed": 0,
        "failed_names": [],
        "kek": f"the key file {home.keys / 'kek'}",
    }
    assert key("rotate-kek").stdout.startswith(
        "3 re-wrapped, 0 skipped, 0 failed; the key-encryption key is the key fi"
    )
    with KeyStore.open(home, Actor("ada")) as store:
        store.db.conn.execute("UPDATE secrets SET version = 9 WHERE name = 'two'")
        store.db.conn.commit()
    done = key("rotate-kek", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"] == 1
    assert "delete them and add them again: two" in done.stderr


def test_a_lost_key_encryption_key_is_one_sentence(home: Home) -> None:
    key("add", "demo", "--provider", "market", secret="x")
    (home.keys / "kek").unlink()
    for arguments in (("add", "other", "--provider", "market"), ("rotate", "demo"), ("rotate-kek",), ("test", "demo")):
        assert "is missing, so the stored keys cannot be decrypted" in refused(key(*arguments, secret="x"))
    assert not (home.keys / "kek").exists()


@pytest.mark.parametrize("action", ["add", "rotate", "list", "history", "test", "revoke", "delete", "rotate-kek"])
def test_every_action_explains_itself(action: str) -> None:
    done = key(action, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: barmill key {action}")
