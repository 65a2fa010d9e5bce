"""Where the key-encryption key comes from, and what is said when it does not: with a real OpenBao."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import Home
from barmill.platform.ports import LOOPBACK, Ports, free_ports
from barmill.secrets.info import KekError, KeyStoreError, TamperedSecretError, VaultError
from barmill.secrets.settings import (
    ADDRESS_VARIABLE,
    CA_FILE_VARIABLE,
    KEK_FILE_VARIABLE,
    KEK_VARIABLE,
    SECRET_VARIABLES,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    TRANSIT_KEY_VARIABLE,
    TRANSIT_MOUNT_VARIABLE,
)
from barmill.secrets.store import KeyStore
from barmill.secrets.vault import TransitKek, Vault
from control.flink.cluster import Cluster
from control.system.readiness import programs
from tests.support.canary import canary, leaks
from tests.support.control_db_edits import execute
from tests.support.openbao import OpenBao, running_openbao

ADA = Actor("ada")


def stored(home: Home) -> list[tuple[object, ...]]:
    return execute(home, "SELECT name, id, version, kek_id, wrapped_key, ciphertext FROM secrets")


def transit(openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> TransitKek:
    openbao.use(monkeypatch)
    return TransitKek.create(Vault.from_environment(), "transit", openbao.new_transit_key())


def refused_everywhere(home: Home, sentence: str, kind: type[KeyStoreError] = KeyStoreError) -> None:
    """See every use of the stored key `demo` refused in these words, and nothing changed by the attempts."""
    before, files = stored(home), sorted(home.keys.iterdir())
    with KeyStore.open(home, ADA) as store:
        attempts: tuple[Callable[[], object], ...] = (
            lambda: store.reveal("demo"),
            lambda: store.add("other", "market", "new"),
            lambda: store.rotate("demo", "new"),
            store.rotate_kek,
        )
        for attempt in attempts:
            with pytest.raises(kind, match=sentence) as refused:
                attempt()
            assert str(refused.value).count("\n") == 0
    assert (stored(home), sorted(home.keys.iterdir())) == (before, files)


def test_a_transit_key_wraps_bound_to_its_context_and_signs(openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    kek = transit(openbao, monkeypatch)
    wrapped = kek.wrap(b"k" * 32, b"label")
    assert kek.unwrap(wrapped, b"label") == b"k" * 32
    changed = wrapped[:-9] + b"AAAA" + wrapped[-5:]
    for ciphertext, label in ((wrapped, b"other"), (changed, b"label"), (b"short", b"label")):
        with pytest.raises(TamperedSecretError):
            kek.unwrap(ciphertext, label)
    assert kek.mac(b"one") == kek.mac(b"one") != kek.mac(b"two")
    assert len(kek.mac(b"one")) == 32
    kek.check()


def test_the_vault_keeps_the_key_and_the_home_keeps_none(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, key = canary(), openbao.new_transit_key()
    rights = {f"transit/{verb}/{key}": "update" for verb in ("encrypt", "decrypt", "hmac")}
    openbao.use(monkeypatch, token=openbao.token(rights), key=key)
    with KeyStore.open(home, ADA) as store:
        added = store.add("demo", "market", secret)
        assert store.reveal("demo") == secret
        assert store.rotate("demo", secret).fingerprint == added.fingerprint
        store.add("other", "market", secret)
        assert store.problem() is None
    assert list(home.keys.iterdir()) == []
    assert len({kek_id for _, _, _, kek_id, _, _ in stored(home)}) == 1
    assert leaks(secret, home.root) == []
    assert leaks(os.environ[TOKEN_VARIABLE], home.root) == []


def test_a_transit_key_comes_before_the_key_file_and_the_environment(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEK_VARIABLE, base64.b64encode(b"k" * 32).decode())
    openbao.use(monkeypatch, key=openbao.new_transit_key())
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", "x")
    assert str(stored(home)[0][3]).startswith("transit-")


def test_a_transit_key_that_is_rotated_by_its_operator_still_decrypts(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = openbao.new_transit_key()
    openbao.use(monkeypatch, key=key)
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", "one")
        openbao.client.secrets.transit.rotate_key(key)
        store.add("other", "market", "two")
        assert (store.reveal("demo"), store.reveal("other")) == ("one", "two")
        openbao.client.secrets.transit.update_key_configuration(key, min_decryption_version=2)
        with pytest.raises(KekError, match="lower its min_decryption_version"):
            store.reveal("demo")


@pytest.fixture
def transit_home(home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with one key, `demo`, under a transit key."""
    openbao.use(monkeypatch, key=openbao.new_transit_key())
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", "x")
    return home


def test_a_sealed_vault_is_one_sentence(transit_home: Home, openbao: OpenBao) -> None:
    with openbao.sealed():
        refused_everywhere(transit_home, rf"The vault at {openbao.address} is sealed; unseal it and try again\.$")
    with KeyStore.open(transit_home, ADA) as store:
        assert store.reveal("demo") == "x"


def test_an_unreachable_vault_is_one_sentence(transit_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv(ADDRESS_VARIABLE, f"http://{LOOPBACK}:{port}")
    refused_everywhere(transit_home, rf"The vault at http://{LOOPBACK}:{port} cannot be reached", VaultError)


def test_a_token_without_rights_is_one_sentence(
    transit_home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in (openbao.token({}), "nonsense"):
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        refused_everywhere(transit_home, "does not permit this token to use the transit key", VaultError)


def test_a_missing_address_names_the_key_that_is_needed(transit_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE)
    refused_everywhere(transit_home, "need the transit key transit/key-.*BARMILL_VAULT_ADDR is not set", KekError)
    with KeyStore.open(transit_home, ADA) as store:
        assert "need the transit key" in (store.problem() or "")


def test_settings_that_name_no_transit_key_any_more_point_to_the_rotation(
    transit_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRANSIT_KEY_VARIABLE)
    with KeyStore.open(transit_home, ADA) as store:
        assert store.reveal("demo") == "x"
        with pytest.raises(
            KekError, match=r"encrypted with the transit key .* name no key; run ./barmill key rotate-kek"
        ):
            store.add("other", "market", "new")
    assert list(transit_home.keys.iterdir()) == []


def test_a_key_of_the_same_name_on_another_server_is_not_the_same_key(
    transit_home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running_openbao(tmp_path) as other:
        other.client.secrets.transit.create_key(os.environ[TRANSIT_KEY_VARIABLE])
        other.use(monkeypatch)
        refused_everywhere(transit_home, "were encrypted with another key than the current key", KekError)
        with monkeypatch.context() as moving, KeyStore.open(transit_home, ADA) as store:
            moving.delenv(TRANSIT_KEY_VARIABLE)
            with pytest.raises(KekError, match="were encrypted with another key than the current key"):
                store.rotate_kek()
        assert list(transit_home.keys.iterdir()) == []
    openbao.use(monkeypatch)
    with KeyStore.open(transit_home, ADA) as store:
        assert store.reveal("demo") == "x"


def test_a_key_that_was_deleted_in_the_vault_is_named(transit_home: Home, openbao: OpenBao) -> None:
    key = os.environ[TRANSIT_KEY_VARIABLE]
    openbao.client.secrets.transit.update_key_configuration(key, deletion_allowed=True)
    openbao.client.secrets.transit.delete_key(key)
    refused_everywhere(transit_home, f"There is no transit key transit/{key}", KekError)


def test_with_the_right_transit_key_a_changed_row_is_still_told_from_a_wrong_key(transit_home: Home) -> None:
    with KeyStore.open(transit_home, ADA) as store:
        execute(transit_home, "UPDATE secrets SET provider = 'rest'")
        with pytest.raises(TamperedSecretError, match="was changed outside Barmill"):
            store.reveal("demo")


def test_a_transit_key_of_a_useless_type_is_refused(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    openbao.client.secrets.transit.create_key("useless", key_type="rsa-2048")
    openbao.use(monkeypatch, key="useless")
    with KeyStore.open(home, ADA) as store, pytest.raises(KekError, match="use a key of type aes256-gcm96"):
        store.add("demo", "market", "x")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (TRANSIT_KEY_VARIABLE, "a/b", "is not the name of a transit key"),
        (TRANSIT_MOUNT_VARIABLE, "a b", "is not the path of a mount"),
        (TRANSIT_MOUNT_VARIABLE, "nowhere", "does not permit this token to use|does not have the transit key nowhere/"),
        (ADDRESS_VARIABLE, "vault.example.org", "is not an address"),
        (ADDRESS_VARIABLE, "http://user:pass@127.0.0.1:1", "is not an address"),
        (TOKEN_VARIABLE, "two words", "contains invalid characters"),
        (TOKEN_FILE_VARIABLE, "/nowhere/token", "The token file /nowhere/token cannot be read: No such file"),
        (CA_FILE_VARIABLE, "/nowhere/ca.pem", "is set to /nowhere/ca.pem, which is not a file"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(
    variable: str, value: str, sentence: str, home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    openbao.use(monkeypatch, key="barmill")
    monkeypatch.setenv(variable, value)
    with KeyStore.open(home, ADA) as store:
        with pytest.raises(KeyStoreError, match=sentence) as refused:
            store.add("demo", "market", "x")
        assert "pass" not in str(refused.value)
        assert "two words" not in str(refused.value)
        assert store.list() == ()


def test_what_answers_but_is_no_vault_is_named(home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> None:
    openbao.use(monkeypatch, key="barmill")
    monkeypatch.setenv(TRANSIT_MOUNT_VARIABLE, "cubbyhole")  # answers every request with nothing
    with KeyStore.open(home, ADA) as store, pytest.raises(VaultError, match="has no transit engine"):
        store.add("demo", "market", "x")


def test_the_token_file_is_read_anew_at_each_use(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    openbao.use(monkeypatch, token="not this one", key=openbao.new_transit_key())
    token_file = tmp_path / "token"
    token_file.write_text("expired\n")
    token_file.chmod(0o640)
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(token_file))
    with KeyStore.open(home, ADA) as store:
        with pytest.raises(VaultError, match="does not permit this token"):
            store.add("demo", "market", "x")
        token_file.write_text(f"{openbao.root_token}\n")
        store.add("demo", "market", "x")
        token_file.chmod(0o644)
        with pytest.raises(KekError, match=r"accessible to all users .* chmod o="):
            store.reveal("demo")


def test_the_environment_may_hold_earlier_keys_behind_the_present_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
    monkeypatch.setenv(KEK_VARIABLE, old)
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", "x")
        monkeypatch.setenv(KEK_VARIABLE, f"{new},{old}")
        assert store.reveal("demo") == "x"
        with pytest.raises(KekError, match=r"encrypted with the key in BARMILL_KEK.*run .* rotate-kek"):
            store.add("other", "market", "y")
        monkeypatch.setenv(KEK_VARIABLE, new)
        with pytest.raises(KekError, match="another key-encryption key"):
            store.reveal("demo")


def test_a_file_may_hold_what_the_environment_would(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "kek"
    secret.write_bytes(base64.b64encode(b"k" * 32) + b"\n")
    secret.chmod(0o440)
    monkeypatch.setenv(KEK_FILE_VARIABLE, str(secret))
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", "x")
        assert store.reveal("demo") == "x"
    assert not (home.keys / "kek").exists()
    secret.chmod(0o444)
    with KeyStore.open(home, ADA) as store, pytest.raises(KekError, match=r"key file .* is accessible to all users"):
        store.reveal("demo")


def test_only_feed_and_app_are_told_what_opens_the_key_store(home: Home) -> None:
    app, market, rest, rpc = free_ports(4)
    started = {program.name: program for program in programs(home, Ports(app, market, rest, rpc), FeedSettings())}
    informed = {
        name
        for name, program in started.items()
        if program.environment is None and not set(SECRET_VARIABLES) <= set(program.hidden)
    }
    assert informed == {"ingest", "app"}
    assert set(started) == {"jobmanager", "taskmanager", "market", "ingest", "controller", "app"}


def test_flink_gets_none_of_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRET_VARIABLES:
        monkeypatch.setenv(name, "a-secret-setting")
    rest_port, rpc_port = free_ports(2)
    cluster = Cluster(home, rest_port, rpc_port)
    cluster.write_files()
    everything = (*cluster.environment().values(), *cluster.jobmanager_command(), *cluster.taskmanager_command())
    assert leaks("a-secret-setting", home.root, *everything) == []
