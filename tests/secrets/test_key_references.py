"""Keys that are kept elsewhere: in the environment, or in a real OpenBao."""

import pytest

from barmill.audit.roles import Actor
from barmill.platform.home import Home
from barmill.secrets.info import NotUsableError, SecretReferenceError, VaultError, VaultForbiddenError
from barmill.secrets.references import EnvironmentReference, VaultReference, parse_reference
from barmill.secrets.settings import ALL_VARIABLES, TOKEN_VARIABLE
from barmill.secrets.store import KeyStore
from tests.support.canary import canary, leaks
from tests.support.control_db_edits import execute
from tests.support.openbao import OpenBao

ADA = Actor("ada")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("env:MARKET_KEY", EnvironmentReference("MARKET_KEY")),
        ("vault:secret/prices#key", VaultReference("secret", "prices", "key")),
        ("vault:kv/team-a/prices/market#api.key", VaultReference("kv", "team-a/prices/market", "api.key")),
    ],
)
def test_a_reference_reads_and_writes_alike(text: str, reference: object) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-live-4f1dbb0c9a6e42d7",
        "env:",
        "env:1X",
        "env:A B",
        "env:A-B",
        "vault:secret/prices",
        "vault:secret#key",
        "vault:secret/#key",
        "vault:secret/../sys/x#key",
        "vault:secret/a b#key",
        "vault:secret/a?b=c#key",
        "file:/etc/passwd",
        "env:" + "A" * 600,
    ],
)
def test_what_is_no_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SecretReferenceError) as refused:
        parse_reference(text)
    assert len(text) < 5 or text not in str(refused.value)


@pytest.mark.parametrize("variable", [*ALL_VARIABLES, "barmill_kek"])
def test_what_opens_the_key_store_is_no_key(variable: str) -> None:
    with pytest.raises(SecretReferenceError, match="Barmill's settings"):
        parse_reference(f"env:{variable}")


def test_a_key_in_the_environment_is_looked_up_at_each_use(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with KeyStore.open(home, ADA) as store:
        added = store.add("demo", "market", parse_reference("env:MARKET_KEY"))
        assert (added.reference, added.fingerprint) == ("env:MARKET_KEY", "")
        with pytest.raises(SecretReferenceError, match="MARKET_KEY is not set"):
            store.reveal("demo")
        secret = canary()
        for value in (secret, f"{secret}2"):
            monkeypatch.setenv("MARKET_KEY", value)
            assert store.reveal("demo") == value
        assert store.list()[0].last_used_ms is not None
        assert not (home.keys / "kek").exists()
        assert leaks(secret, home.root) == []


def test_a_key_in_openbao_is_looked_up_at_each_use(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, kv = canary(), openbao.client.secrets.kv.v2
    kv.create_or_update_secret("team/prices", secret={"key": secret, "number": 5, "empty": ""})
    openbao.use(monkeypatch, token=openbao.token({"secret/data/team/*": "read"}))
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", parse_reference("vault:secret/team/prices#key"))
        assert store.reveal("demo") == secret
        kv.create_or_update_secret("team/prices", secret={"key": f"{secret}2", "number": 5, "empty": ""})
        assert store.reveal("demo") == f"{secret}2"
        for field in ("other", "number", "empty"):
            store.rotate("demo", parse_reference(f"vault:secret/team/prices#{field}"))
            with pytest.raises(SecretReferenceError, match=f"has no text in its field {field}"):
                store.reveal("demo")
        for where in ("secret/team/absent", "secret/team/gone"):
            store.rotate("demo", parse_reference(f"vault:{where}#key"))
            kv.create_or_update_secret("team/gone", secret={"key": secret})
            kv.delete_latest_version_of_secret("team/gone")
            with pytest.raises(SecretReferenceError, match=f"does not have the secret {where}"):
                store.reveal("demo")
        for where in ("secret/other/prices", "nowhere/prices"):
            store.rotate("demo", parse_reference(f"vault:{where}#key"))
            with pytest.raises(VaultForbiddenError, match=f"does not permit this token to use the secret {where}"):
                store.reveal("demo")
    assert leaks(secret, home.root) == []


def test_a_reference_needs_a_vault_only_when_it_is_used(
    home: Home, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", parse_reference("vault:secret/team/prices#key"))
        assert store.problem() is None
        with pytest.raises(VaultError, match="BARMILL_VAULT_ADDR is not set"):
            store.reveal("demo")
        openbao.use(monkeypatch)
        monkeypatch.delenv(TOKEN_VARIABLE)
        with pytest.raises(VaultError, match="There is no vault token"):
            store.reveal("demo")


def test_a_key_moves_from_here_to_elsewhere_and_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKET_KEY", "elsewhere")
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", "here")
        store.rotate("demo", parse_reference("env:MARKET_KEY"))
        assert store.reveal("demo") == "elsewhere"
        assert store.rotate("demo", "here again").reference is None
        assert store.reveal("demo") == "here again"
        assert [version.fingerprint == "" for version in store.versions("demo")] == [False, True, False]


def test_a_revoked_reference_is_not_looked_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKET_KEY", "elsewhere")
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", parse_reference("env:MARKET_KEY"))
        store.revoke("demo")
        with pytest.raises(NotUsableError, match="is revoked"):
            store.reveal("demo")


def test_a_reference_that_was_turned_to_our_own_settings_is_refused_at_use(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "hvs.token")
    with KeyStore.open(home, ADA) as store:
        store.add("demo", "market", parse_reference("env:MARKET_KEY"))
        execute(home, f"UPDATE secrets SET reference = 'env:{TOKEN_VARIABLE}'")
        with pytest.raises(SecretReferenceError, match="Barmill's settings"):
            store.reveal("demo")
