"""The key store: what goes in comes out, and nothing else gets it out."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.platform.clock import now_ms
from barmill.platform.errors import AuditError
from barmill.platform.home import Home
from barmill.platform.sqlite_file import open_control_db
from barmill.secrets.info import KeyExistsError
from barmill.secrets.kek import LocalKek, seal
from barmill.secrets.keyring import create_kek_file, local_keks
from barmill.secrets.records import keystore_migrations
from barmill.secrets.store import KekError, KeyStore, KeyStoreError, NoSuchSecretError, TamperedSecretError
from tests.support.canary import canary, leaks
from tests.support.control_db_edits import execute

ADA = Actor("ada")
SECRET = "sk-live-4f1dbb0c9a6e42d7"


def audit(home: Home) -> list[tuple[object, ...]]:
    return execute(home, "SELECT actor, action, subject, stage, result FROM audit ORDER BY number")


def test_a_key_comes_back_after_the_store_was_closed(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        added = store.add("demo", "market", SECRET)
    with KeyStore.open(home, ADA) as store:
        assert store.list() == (added,)
        assert store.reveal("demo") == SECRET
    assert (added.name, added.provider, added.version) == ("demo", "market", 1)


def test_a_key_of_any_text_comes_back(home: Home) -> None:
    text = "-----BEGIN KEY-----\nÄ \U0001f511 \x00\n-----END KEY-----\n"
    with KeyStore.open(home, ADA) as store:
        store.add("pem", "ccxt", text)
        assert store.reveal("pem") == text


def test_a_name_is_added_once(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        with pytest.raises(
            KeyExistsError, match=r"already exists; give it a new secret with ./barmill key rotate demo,"
        ):
            store.add("demo", "rest", "other")
        assert store.reveal("demo") == SECRET


def test_a_deleted_key_is_gone(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        store.delete("demo")
        assert store.list() == ()
        with pytest.raises(NoSuchSecretError, match="no stored key named 'demo'"):
            store.reveal("demo")
        with pytest.raises(NoSuchSecretError):
            store.delete("demo")


@pytest.mark.parametrize(
    ("name", "provider", "secret"),
    [
        ("", "market", SECRET),
        ("a b", "market", SECRET),
        ("a", "", SECRET),
        ("a", "market", ""),
        ("a", "market", "half a character \udcc3"),
        ("a", "Market", SECRET),
        ("a", "m", "x" * 70_000),
    ],
)
def test_what_cannot_be_a_key_is_refused(home: Home, name: str, provider: str, secret: str) -> None:
    with KeyStore.open(home, ADA) as store:
        with pytest.raises(KeyStoreError):
            store.add(name, provider, secret)
        assert store.list() == ()


def test_no_file_and_no_text_form_holds_the_key(home: Home) -> None:
    secret = canary()
    with KeyStore.open(home, ADA) as store:
        added = store.add("demo", "market", secret)
        store.reveal("demo")
        store.rotate("demo", f"{secret}2")
        texts = [repr(info) for info in (store, store.list(), local_keks(home), audit(home), vars(store), added)]
        assert len(list(home.root.rglob("*.sqlite*"))) >= 1
        assert leaks(secret, home.root, *texts) == []
    assert len(added.fingerprint) == 8
    int(added.fingerprint, 16)


def test_a_secret_whose_time_is_over_is_overwritten_in_the_file(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("one", "market", SECRET)
        store.add("two", "market", SECRET)
        store.add("three", "market", SECRET)
        old = [value for row in execute(home, "SELECT wrapped_key, ciphertext FROM secrets") for value in row]
        store.revoke("one")
        store.delete("two")
        store.rotate("three", "new")
    execute(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    files = [path.read_bytes() for path in home.root.glob("control.sqlite*")]
    assert not any(bytes(value) in content for value in old for content in files)  # type: ignore[call-overload]


def test_a_fingerprint_cannot_be_recomputed_without_the_key_encryption_key(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other").create()
    with KeyStore.open(home, ADA) as store, KeyStore.open(other, ADA) as two:
        mine = store.add("pin", "market", "1234").fingerprint
        assert store.rotate("pin", "1234").fingerprint == mine
        assert two.add("pin", "market", "1234").fingerprint != mine
        assert store.add("pin2", "market", "1234").fingerprint != mine


def flipped(value: object) -> object:
    """Change one thing in a stored value."""
    if isinstance(value, bytes):
        return bytes([*value[:-1], value[-1] ^ 1])
    return value + 1 if isinstance(value, int) else f"{value}0"


@pytest.mark.parametrize(
    "column", ["id", "provider", "version", "wrapped_key", "ciphertext", "fingerprint", "created_ms", "expires_ms"]
)
def test_a_changed_row_does_not_decrypt(home: Home, column: str) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET, expires_ms=now_ms() + 3_600_000)
        ((value,),) = execute(home, f"SELECT {column} FROM secrets")
        execute(home, f"UPDATE secrets SET {column} = ?", flipped(value))
        with pytest.raises(TamperedSecretError, match="'demo' was changed outside Barmill"):
            store.reveal("demo")
        execute(home, f"UPDATE secrets SET {column} = ?", value)
        assert store.reveal("demo") == SECRET


def test_an_expiry_date_cannot_be_taken_away(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET, expires_ms=now_ms() + 3_600_000)
        execute(home, "UPDATE secrets SET expires_ms = NULL")
        with pytest.raises(TamperedSecretError):
            store.reveal("demo")


def test_a_shortened_ciphertext_does_not_decrypt(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        for column in ("wrapped_key", "ciphertext"):
            ((value,),) = execute(home, f"SELECT {column} FROM secrets")
            execute(home, f"UPDATE secrets SET {column} = ?", b"short")
            with pytest.raises(TamperedSecretError):
                store.reveal("demo")
            execute(home, f"UPDATE secrets SET {column} = ?", value)


def test_rows_cannot_be_swapped(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("harmless", "market", "public")
        store.add("precious", "market", SECRET)
        execute(home, "DELETE FROM secrets WHERE name = 'harmless'")
        execute(home, "UPDATE secrets SET name = 'harmless' WHERE name = 'precious'")
        with pytest.raises(TamperedSecretError):
            store.reveal("harmless")


def test_parts_of_rows_cannot_be_swapped(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("one", "market", "first")
        store.add("two", "market", "second")
        execute(
            home,
            "UPDATE secrets SET (wrapped_key, ciphertext) ="
            " (SELECT wrapped_key, ciphertext FROM secrets WHERE name = 'two') WHERE name = 'one'",
        )
        with pytest.raises(TamperedSecretError):
            store.reveal("one")


def test_the_key_file_is_private_and_made_on_first_use(home: Home) -> None:
    path = home.keys / "kek"
    with KeyStore.open(home, ADA) as store:
        assert store.list() == ()
        assert not path.exists()
        store.add("demo", "market", SECRET)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in home.keys.iterdir()] == ["kek"]
    assert home.control_db.stat().st_mode & 0o777 == 0o600


def test_making_the_key_file_never_replaces_one(home: Home) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = {kek.id for kek in pool.map(lambda _: create_kek_file(home), range(8))}
    assert len(made) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_open_to_others_is_refused(home: Home, mode: int) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        (home.keys / "kek").chmod(mode)
        with pytest.raises(KekError, match=r"accessible to other users .* chmod 600"):
            store.reveal("demo")
        (home.keys / "kek").chmod(0o600)
        assert store.reveal("demo") == SECRET


@pytest.mark.parametrize("content", ["", "no base64!", base64.b64encode(b"short").decode()])
def test_a_damaged_key_file_is_named_and_kept(home: Home, content: str) -> None:
    path = home.keys / "kek"
    path.write_text(content)
    path.chmod(0o600)
    with KeyStore.open(home, ADA) as store, pytest.raises(KekError, match="does not contain a key-encryption key"):
        store.add("demo", "market", SECRET)
    assert path.read_text() == content


def test_a_missing_key_encryption_key_is_never_replaced(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        before = execute(home, "SELECT * FROM secrets")
        kept = (home.keys / "kek").rename(home.keys / "elsewhere")
        with pytest.raises(KekError, match="is missing"):
            store.reveal("demo")
        with pytest.raises(KekError, match="is missing"):
            store.rotate("demo", "new")
        assert not (home.keys / "kek").exists()
        assert execute(home, "SELECT * FROM secrets") == before
        kept.rename(home.keys / "kek")
        assert store.reveal("demo") == SECRET


def test_a_wrong_key_encryption_key_changes_nothing(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        before = execute(home, "SELECT * FROM secrets")
        right = (home.keys / "kek").read_text()
        (home.keys / "kek").write_text(base64.b64encode(b"w" * 32).decode())
        actions: list[Callable[[], object]] = [
            lambda: store.reveal("demo"),
            lambda: store.add("other", "market", "new"),
            lambda: store.rotate("demo", "new"),
            store.rotate_kek,
        ]
        for action in actions:
            with pytest.raises(KekError, match="another key-encryption key"):
                action()
        assert execute(home, "SELECT * FROM secrets") == before
        (home.keys / "kek").write_text(right)
        assert store.reveal("demo") == SECRET


def test_keys_can_be_listed_and_deleted_without_the_key_encryption_key(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        (home.keys / "kek").unlink()
        assert [shown.name for shown in store.list()] == ["demo"]
        store.delete("demo")
        store.add("demo", "market", SECRET)
        assert store.reveal("demo") == SECRET


def test_the_key_encryption_key_may_come_from_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BARMILL_KEK", base64.b64encode(b"k" * 32).decode())
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        assert not (home.keys / "kek").exists()
        assert store.reveal("demo") == SECRET
        monkeypatch.setenv("BARMILL_KEK", "rubbish")
        with pytest.raises(KekError, match="BARMILL_KEK does not contain") as refused:
            store.reveal("demo")
        assert "rubbish" not in str(refused.value)


def test_two_different_key_encryption_keys_are_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        monkeypatch.setenv("BARMILL_KEK", (home.keys / "kek").read_text())
        assert store.reveal("demo") == SECRET
        monkeypatch.setenv("BARMILL_KEK", base64.b64encode(b"k" * 32).decode())
        with pytest.raises(KekError, match="different keys"):
            store.reveal("demo")


def test_a_short_key_encryption_key_is_refused() -> None:
    with pytest.raises(KekError):
        LocalKek(b"k" * 16)


def test_every_use_and_change_is_on_record(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        store.reveal("demo")
        store.rotate("demo", "new")
        store.revoke("demo")
        store.delete("demo")
        with pytest.raises(NoSuchSecretError):
            store.reveal("demo")
    assert audit(home) == [
        ("ada", "key.add", "demo", "executed", ""),
        ("ada", "key.reveal", "demo", "executed", ""),
        ("ada", "key.rotate", "demo", "executed", ""),
        ("ada", "key.revoke", "demo", "executed", ""),
        ("ada", "key.delete", "demo", "executed", ""),
        ("ada", "key.reveal", "demo", "refused", "There is no stored key named 'demo'; add it first."),
    ]


def test_without_a_record_nothing_happens(home: Home) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", SECRET)
        before = execute(home, "SELECT * FROM secrets")
        execute(home, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        actions: list[Callable[[], object]] = [
            lambda: store.reveal("demo"),
            lambda: store.add("new", "market", "x"),
            lambda: store.rotate("demo", "x"),
            lambda: store.revoke("demo"),
            lambda: store.delete("demo"),
            store.rotate_kek,
        ]
        for action in actions:
            with pytest.raises(AuditError, match="nothing was done: disk full"):
                action()
    assert execute(home, "SELECT * FROM secrets") == before
    assert len(audit(home)) == 1


def test_a_new_home_may_be_opened_by_many_at_once(home: Home) -> None:
    def put(number: int) -> str:
        with KeyStore.open(home, ADA) as store:
            store.add(f"key{number}", "market", f"secret {number}")
            return store.reveal(f"key{number}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(put, range(8))) == [f"secret {number}" for number in range(8)]
    with KeyStore.open(home, ADA) as store:
        assert len(store.list()) == 8


def test_keys_of_the_first_version_of_the_table_stay_readable(home: Home) -> None:
    kek = create_kek_file(home)
    said = {"name": "demo", "provider": "market", "version": 3, "fingerprint": "0a1b2c3d", "created_ms": 1_700_000}
    label = json.dumps(["barmill secret 1", "0123456789abcdef", said], sort_keys=True).encode()
    sealed = seal(kek, label, SECRET.encode())
    db = open_control_db(home)
    keystore_migrations.apply(db, stop_before="keep_versions_and_lifetimes")
    row = {**said, "id": "0123456789abcdef", "kek_id": kek.id}
    db.table("secrets").insert({**row, "wrapped_key": sealed.wrapped_key, "ciphertext": sealed.ciphertext})
    db.conn.close()
    with KeyStore.open(home, ADA) as store:
        assert store.reveal("demo") == SECRET
        (shown,) = store.list()
        assert (shown.version, shown.expires_ms, shown.revoked_ms, shown.reference) == (3, None, None, None)
        assert shown.hosts == ("127.0.0.1", "localhost")
        assert [(version.version, version.fingerprint, version.created_by) for version in store.versions("demo")] == [
            (3, "0a1b2c3d", "")
        ]
        assert store.rotate("demo", "new").version == 4
