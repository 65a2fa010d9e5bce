"""Rotation of the key-encryption key: everything stays readable, whatever is cut off, wrong or repeated."""

import base64
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from barmill.audit.roles import Actor
from barmill.audit.trail import Search, search, verify_chain
from barmill.platform.clock import wait_until
from barmill.platform.errors import AuditError
from barmill.platform.home import PYTHON_PATH, Home
from barmill.platform.sqlite_file import read_control_db
from barmill.secrets.info import KekError, VaultError
from barmill.secrets.kek import KeyEncryption, SealedSecret, rewrap
from barmill.secrets.references import parse_reference
from barmill.secrets.rotation import KekRotation, _exclusive
from barmill.secrets.settings import (
    ADDRESS_VARIABLE,
    KEK_FILE_VARIABLE,
    KEK_VARIABLE,
    TOKEN_VARIABLE,
    TRANSIT_KEY_VARIABLE,
)
from barmill.secrets.store import KeyStore
from tests.support.control_db_edits import execute
from tests.support.openbao import OpenBao

ADA = Actor("ada")
SECRETS = {f"key{number}": f"secret {number}" for number in range(5)}


@pytest.fixture
def full(home: Home) -> Home:
    """A home with five keys."""
    with KeyStore.open(home, ADA) as store:
        for name, secret in SECRETS.items():
            store.add(name, "market", secret)
    return home


def rotate(home: Home) -> KekRotation:
    with KeyStore.open(home, ADA) as store:
        return store.rotate_kek()


def counts(done: KekRotation) -> tuple[int, int, int]:
    return done.rewrapped, done.skipped, len(done.failed)


def revealed(home: Home) -> dict[str, str]:
    with KeyStore.open(home, ADA) as store:
        return {info.name: store.reveal(info.name) for info in store.list()}


def keks(home: Home) -> set[str]:
    return {str(kek_id) for (kek_id,) in execute(home, "SELECT DISTINCT kek_id FROM secrets")}


def key_files(home: Home) -> list[str]:
    return sorted(path.name for path in home.keys.iterdir())


def test_every_key_moves_under_a_new_key_and_the_old_one_is_kept_beside_it(full: Home) -> None:
    (old,) = keks(full)
    done = rotate(full)
    assert counts(done) == (5, 0, 0)
    assert done.location == f"the key file {full.keys / 'kek'}"
    (new,) = keks(full)
    assert new != old
    assert key_files(full) == ["kek", f"kek.{old}.old"]
    assert {path.stat().st_mode & 0o777 for path in full.keys.iterdir()} == {0o600}
    assert revealed(full) == SECRETS


def test_once_nothing_needs_an_old_key_it_may_go(full: Home) -> None:
    rotate(full)
    for path in full.keys.glob("*.old"):
        path.unlink()
    assert revealed(full) == SECRETS


def test_each_call_makes_a_key_of_its_own(full: Home) -> None:
    assert [counts(rotate(full)) for _ in range(3)] == [(5, 0, 0)] * 3
    assert len(key_files(full)) == 4
    assert revealed(full) == SECRETS


def test_a_rotation_that_was_cut_off_is_finished_before_another_begins(full: Home) -> None:
    cut_off_after(full, rows=2)
    assert len(keks(full)) == 2
    assert revealed(full) == SECRETS
    assert counts(rotate(full)) == (3, 2, 0)
    assert len(keks(full)) == 1
    assert len(key_files(full)) == 2
    assert counts(rotate(full)) == (5, 0, 0)


def cut_off_after(home: Home, rows: int) -> None:
    """Rotate, but fail like a full disk after some rows."""
    execute(
        home,
        "CREATE TRIGGER full BEFORE UPDATE OF kek_id ON secrets WHEN"
        f" (SELECT count(*) FROM secrets WHERE kek_id = NEW.kek_id) = {rows}"
        " BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    )
    with pytest.raises(AuditError, match="disk full"):
        rotate(home)
    execute(home, "DROP TRIGGER full")


def test_keys_that_hold_no_secret_here_are_left_alone(full: Home) -> None:
    with KeyStore.open(full, ADA) as store:
        store.revoke("key0")
        store.rotate("key1", parse_reference("env:MARKET_KEY"))
    assert counts(rotate(full)) == (3, 0, 0)


def test_nothing_stored_needs_no_key(home: Home) -> None:
    assert rotate(home) == KekRotation(None, 0, 0, ())
    assert key_files(home) == []


def test_a_changed_row_fails_alone_and_does_not_keep_the_others_from_another_rotation(full: Home) -> None:
    execute(full, "UPDATE secrets SET version = 9 WHERE name = 'key3'")
    before = execute(full, "SELECT * FROM secrets WHERE name = 'key3'")
    first, second = rotate(full), rotate(full)
    assert counts(first) == counts(second) == (4, 0, 1)
    assert second.failed == ("key3",)
    assert execute(full, "SELECT * FROM secrets WHERE name = 'key3'") == before
    with KeyStore.open(full, ADA) as store:
        store.delete("key3")
    assert counts(rotate(full)) == (4, 0, 0)


def test_a_lost_key_is_one_sentence_and_nothing_is_made_or_moved(full: Home) -> None:
    cut_off_after(full, rows=2)
    (lost,) = full.keys.glob("*.old")
    kept = lost.read_bytes()
    lost.unlink()
    before = keks(full), key_files(full)
    with pytest.raises(KekError, match="another key-encryption key than the current one"):
        rotate(full)
    assert (keks(full), key_files(full)) == before
    lost.write_bytes(kept)
    lost.chmod(0o600)
    assert counts(rotate(full)) == (3, 2, 0)


def test_an_old_key_that_is_open_to_others_is_refused(full: Home) -> None:
    rotate(full)
    (old,) = full.keys.glob("*.old")
    old.chmod(0o644)
    with pytest.raises(KekError, match=r"\.old is accessible to other users .* chmod 600"):
        rotate(full)


def test_only_one_rotation_runs_at_a_time(full: Home) -> None:
    with _exclusive(full), pytest.raises(KekError, match=r"Another rotation .* is running"):
        rotate(full)
    assert counts(rotate(full)) == (5, 0, 0)


def test_a_key_that_is_rotated_meanwhile_is_left_as_it_is(full: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(old: KeyEncryption, new: KeyEncryption, label: bytes, sealed: SealedSecret) -> SealedSecret:
        if b'"key2"' in label:
            with KeyStore.open(full, Actor("bob")) as store:
                store.rotate("key2", "newer")
        return rewrap(old, new, label, sealed)

    monkeypatch.setattr("barmill.secrets.rotation.rewrap", meanwhile)
    assert counts(rotate(full)) == (4, 1, 0)
    assert revealed(full) == {**SECRETS, "key2": "newer"}


def test_the_trail_tells_when_a_rotation_began_what_it_moved_and_how_it_ended(full: Home) -> None:
    execute(full, "UPDATE secrets SET version = 9 WHERE name = 'key3'")
    rotate(full)
    db = read_control_db(full)
    with closing(db.conn):
        (began,) = search(db, Search(action="kek.rotate", stage="issued"))
        records = search(db, Search(trace_id=began.trace_id))
        assert [(record.action, record.subject, record.stage) for record in reversed(records)] == [
            ("kek.rotate", "kek", "issued"),
            *(("key.rewrap", name, "refused" if name == "key3" else "executed") for name in SECRETS),
            ("kek.rotate", "kek", "failed"),
        ]
        assert records[0].result.startswith("4 re-wrapped, 0 skipped, 1 failed; now the key file")
        assert verify_chain(db).problem == ""


def test_everything_moves_from_the_file_to_openbao_within_it_and_back(
    full: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = openbao.new_transit_key()
    verbs = {f"transit/{verb}/{key}": "update" for verb in ("encrypt", "decrypt", "hmac")}
    openbao.use(monkeypatch, token=openbao.token({**verbs, f"transit/keys/{key}/rotate": "update"}), key=key)
    assert revealed(full) == SECRETS  # before anything has moved
    done = rotate(full)
    assert (counts(done), done.location) == ((5, 0, 0), f"the transit key transit/{key} at {openbao.address}")
    assert [name for name in key_files(full) if not name.endswith(".old")] == []
    for path in full.keys.iterdir():
        path.unlink()
    assert revealed(full) == SECRETS

    (first,) = keks(full)
    assert counts(rotate(full)) == (5, 0, 0)
    (second,) = keks(full)
    assert first != second
    openbao.client.secrets.transit.update_key_configuration(key, min_decryption_version=2)
    assert revealed(full) == SECRETS  # nothing needs the first version any more

    monkeypatch.delenv(TRANSIT_KEY_VARIABLE)
    assert revealed(full) == SECRETS
    assert counts(rotate(full)) == (5, 0, 0)
    assert key_files(full) == ["kek"]
    for variable in (ADDRESS_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.delenv(variable)
    assert revealed(full) == SECRETS


def test_everything_moves_from_the_file_to_the_environment_and_to_a_new_key_there(
    full: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (base64.b64encode(letter * 32).decode() for letter in (b"1", b"2"))
    monkeypatch.setenv(KEK_VARIABLE, first)
    with pytest.raises(KekError, match=r"different keys; .* rename the file to kek\.old"):
        rotate(full)
    (full.keys / "kek").rename(full.keys / "kek.old")
    done = rotate(full)
    assert (counts(done), done.location) == ((5, 0, 0), f"the key in {KEK_VARIABLE}")
    with pytest.raises(KekError, match="a key in BARMILL_KEK; write NEW,OLD there"):
        rotate(full)
    secret = full.root / "secret"
    secret.write_text(first)
    secret.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.delenv(KEK_VARIABLE)
        patch.setenv(KEK_FILE_VARIABLE, str(secret))
        with pytest.raises(KekError, match="a key in the file that BARMILL_KEK_FILE names; write NEW,OLD there"):
            rotate(full)
    (full.keys / "kek.old").unlink()
    monkeypatch.setenv(KEK_VARIABLE, f"{second}, {first}")
    assert counts(rotate(full)) == (5, 0, 0)
    monkeypatch.setenv(KEK_VARIABLE, second)
    assert revealed(full) == SECRETS
    assert key_files(full) == []


def test_a_transit_key_may_be_rotated_by_its_operator_alone(
    full: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = openbao.new_transit_key()
    rights = {f"transit/{verb}/{key}": "update" for verb in ("encrypt", "decrypt", "hmac")}
    openbao.use(monkeypatch, token=openbao.token(rights), key=key)
    assert counts(rotate(full)) == (5, 0, 0)
    with pytest.raises(KekError, match=rf"may not rotate .* run `bao write -f transit/keys/{key}/rotate`"):
        rotate(full)
    openbao.client.secrets.transit.rotate_key(key)
    assert counts(rotate(full)) == (5, 0, 0)
    openbao.client.secrets.transit.update_key_configuration(key, min_decryption_version=2)
    assert revealed(full) == SECRETS


def test_a_token_that_ends_in_the_middle_ends_the_rotation_and_a_repeat_finishes_it(
    full: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = openbao.new_transit_key()
    token = openbao.token({f"transit/{verb}/{key}": "update" for verb in ("encrypt", "decrypt", "hmac")})
    openbao.use(monkeypatch, token=token, key=key)

    def revoked(old: KeyEncryption, new: KeyEncryption, label: bytes, sealed: SealedSecret) -> SealedSecret:
        if b'"key3"' in label:
            openbao.client.auth.token.revoke(token)
        return rewrap(old, new, label, sealed)

    with monkeypatch.context() as patched:
        patched.setattr("barmill.secrets.rotation.rewrap", revoked)
        with pytest.raises(VaultError, match="does not permit this token to use"):
            rotate(full)
    openbao.use(monkeypatch, key=key)
    assert len(keks(full)) == 2
    assert revealed(full) == SECRETS
    assert counts(rotate(full)) == (2, 3, 0)


# What a crash may come between: whatever changes a file, a folder or the database.
STEPS = ("open", "write", "fsync", "link", "rename", "replace", "unlink", "execute", "flock", "commit", "rollback")


def rotate_until(home: Path, step: int) -> None:
    """Rotate in this process, and be killed before the given step."""
    taken = 0

    def profile(_frame: FrameType, event: str, function: Any) -> None:
        nonlocal taken
        if event == "c_call" and function.__name__ in STEPS:
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)

    with KeyStore.open(Home(home), ADA) as store:
        sys.setprofile(profile)
        store.rotate_kek()
        sys.setprofile(None)


def crash_everywhere(home: Home, scratch: Path) -> int:
    """Kill a rotation before each of its steps, each time in a copy of the home; return how many steps there are."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "hvac"])
    step = 0
    while True:
        step += 1
        copy = Home(scratch / f"step{step}")
        shutil.copytree(home.root, copy.root)
        process = context.Process(target=rotate_until, args=(copy.root, step))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), step
        assert revealed(copy) == SECRETS, step
        done = rotate(copy)
        assert done.rewrapped + done.skipped == len(SECRETS), step
        assert not done.failed, step
        assert len(keks(copy)) == 1, step
        assert revealed(copy) == SECRETS, step
        shutil.rmtree(copy.root)
        if process.exitcode == 0:
            return step - 1


def test_a_crash_at_any_step_loses_nothing_and_a_repeat_finishes(full: Home, tmp_path: Path) -> None:
    assert crash_everywhere(full, tmp_path) > 40


def test_a_crash_at_any_step_of_a_move_to_openbao_loses_nothing(
    full: Home, tmp_path: Path, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    openbao.use(monkeypatch, key=openbao.new_transit_key())
    assert crash_everywhere(full, tmp_path) > 40


def test_the_command_is_killed_in_the_middle_and_repeated(home: Home) -> None:
    names = [f"key{number}" for number in range(150)]
    with KeyStore.open(home, ADA) as store:
        for name in names:
            store.add(name, "market", f"secret of {name}")
        command = [sys.executable, "-P", "-m", "cli.main", "key", "rotate-kek"]
        environment = os.environ | {"BARMILL_HOME": str(home.root), "PYTHONPATH": PYTHON_PATH}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as rotating:
            assert wait_until(lambda: len(keks(home)) == 2, 30, every_s=0.001)
            rotating.kill()
        done = store.rotate_kek()
        assert (done.rewrapped + done.skipped, len(done.failed)) == (len(names), 0)
        assert min(done.rewrapped, done.skipped) > 0
        assert all(store.reveal(name) == f"secret of {name}" for name in names)
